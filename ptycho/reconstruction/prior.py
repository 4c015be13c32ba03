"""What is known of positions before any photon: their errors are about so large, and each its own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ShiftPrior:
    """Independent normal errors of the positions, whose common part is unknown.

    It is weak where exposures overlap, and so allows for drifts; it holds what the likelihood does not, such as a
    magnification of the whole scan.
    """

    spread_px: float
    """Standard deviation along one axis [px]."""

    def __call__(self, shifts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the negative logarithm of the prior of (2, M) shifts, up to a constant, and its gradient."""
        own = shifts - shifts.mean(1, keepdims=True)
        gradient = own / self.spread_px**2
        return float((own * gradient).sum()) / 2, gradient
