"""Exposures of a scan in memory, and their positions before and after they are refined."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.data.refined_positions import RefinedPositions
from ptycho.data.scan import Scan
from ptycho.physics.detector import PERFECT, Detector
from ptycho.physics.noise import poisson_deviance


@dataclass(frozen=True)
class Exposures:
    """Exposures of a scan, in memory."""

    diffraction: NDArray[np.float32]
    """(m, N, N) amplitudes, sqrt(counts)."""
    xcoords: NDArray[np.float64]
    """(m,) columns of the patch centers [px]."""
    ycoords: NDArray[np.float64]
    """(m,) rows of the patch centers [px]."""
    detector: Detector = PERFECT
    """What the detector does to the photons, and the flux of the m exposures."""
    indices: NDArray[np.int64] | None = None
    """(m,) which exposures of the scan they are; None: not known."""

    @classmethod
    def of(cls, scan: Scan, chosen: NDArray[np.int64]) -> "Exposures":
        """Read some exposures of a scan, (m,) int64."""
        detector = scan.detector.select(chosen)
        return cls(scan.diffraction[chosen], scan.xcoords[chosen], scan.ycoords[chosen], detector, chosen)

    def deviance(self, intensity: NDArray[np.floating]) -> float:
        """Poisson deviance per valid pixel of what the forward model predicts, (m, N, N) [photon]."""
        counts, mean = np.square(self.diffraction, dtype=np.float64), self.detector.expected_counts(intensity)
        return poisson_deviance(self.detector.valid_values(counts), self.detector.valid_values(mean))


def refined_positions(recorded: Sequence[Exposures], refined: Sequence[Exposures]) -> RefinedPositions:
    """Compare positions with those recorded, in the order of the scan.

    Parameters
    ----------
    recorded, refined : sequence of Exposures
        The same exposures in parts, with the positions before and after. Where it is not known which exposures of the
        scan they are, they are numbered from 0.
    """
    known = [part.indices for part in recorded if part.indices is not None]
    count = sum(len(part.xcoords) for part in recorded)
    exposures = np.concatenate(known) if len(known) == len(recorded) else np.arange(count)
    order = np.argsort(exposures)
    x, y, recorded_x, recorded_y = (
        np.concatenate([getattr(part, axis) for part in parts])[order]
        for parts in (refined, recorded)
        for axis in ("xcoords", "ycoords")
    )
    return RefinedPositions(
        exposures=exposures[order], xcoords=x, ycoords=y, x_shift=x - recorded_x, y_shift=y - recorded_y
    )
