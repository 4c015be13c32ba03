"""What is known of positions before any photon: errors of their own that are about so large, and an affine map."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.displacement import affine_residual, spread_px


class ShiftPrior:
    """Normal errors of the positions: of each its own, and an affine map of the whole scan, whose mean is unknown.

    An encoder with a wrong scale moves all exposures together, which independent errors hardly ever do: taken for such,
    a magnification of the scan would be held back by all exposures. Its standard deviation is therefore one of its own.

    Parameters
    ----------
    positions : (2, M) float64
        Rows and columns of the recorded positions [px].
    spread_px : float
        Standard deviation of the errors of their own along one axis [px].
    affine_px : float
        Root mean square of the map's displacements along one axis [px], its mean removed.
    """

    def __init__(self, positions: NDArray[np.float64], spread_px: float, affine_px: float = 0.0):
        maps, sizes, _ = np.linalg.svd((positions - positions.mean(1, keepdims=True)).T, full_matrices=False)
        self._maps = maps[:, sizes > 1e-9 * sizes.max()]  # one, if all positions are on a line
        count, slopes = positions.shape[1], self._maps.shape[1]
        # A map of so many slopes along one axis that is so large has coefficients of this variance.
        self._variance, self._affine_variance = spread_px**2, spread_px**2 + count / max(slopes, 1) * affine_px**2
        self.log_width = count * np.log(self._variance) + slopes * np.log(self._affine_variance / self._variance)
        """Logarithm of the standard deviations of all shifts together, which the value of a call leaves out."""

    @classmethod
    def of(cls, shifts: NDArray[np.float64], positions: NDArray[np.float64]) -> Self:
        """Return the prior with the standard deviations that (2, M) shifts have (empirical Bayes)."""
        residual, _ = affine_residual(shifts, positions)
        common = shifts - residual
        common = common - common.mean(1, keepdims=True)
        return cls(positions, spread_px(shifts, positions), float(np.sqrt((common**2).mean())))

    def __call__(self, shifts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the negative logarithm of the prior of (2, M) shifts, up to a constant, and its gradient."""
        own = shifts - shifts.mean(1, keepdims=True)
        common = own @ self._maps @ self._maps.T
        gradient = (own - common) / self._variance + common / self._affine_variance
        return float((own * gradient).sum()) / 2, gradient
