"""A reconstruction by anybody, with what is needed to judge it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho.data.object_files import paste
from ptycho.data.scan import Scan
from ptycho.physics.forward import window_start
from ptycho.workflow.files import ContractError


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An object and a probe, and where in the object the exposures of a scan lie."""

    path: Path
    """File that it was read from."""
    object: NDArray[np.complexfloating]
    """(H, W) transmittance."""
    origin_px: tuple[int, int]
    """Row and column of the object's first pixel, in the coordinates of the positions."""
    probe: NDArray[np.complexfloating]
    """(modes, N, N) illumination."""
    exposures: NDArray[np.int64]
    """(m,) exposures of the scan that it has positions for."""
    xcoords: NDArray[np.float64]
    """(m,) columns of their patch centers [px]."""
    ycoords: NDArray[np.float64]
    """(m,) rows of their patch centers [px]."""
    is_placed: bool
    """Whether the origin is known to a fraction of a pixel; otherwise it is a guess."""
    is_calibrated: bool
    """Whether the probe is in √photon; otherwise its scale is unknown."""
    notes: tuple[str, ...] = ()
    """What was assumed."""

    def moved(self, down: float, right: float) -> "Candidate":
        """Return the same object and probe with all positions moved [px]."""
        return replace(self, ycoords=self.ycoords + down, xcoords=self.xcoords + right)

    def noted(self, note: str) -> "Candidate":
        """Return the same with a note more."""
        return replace(self, notes=(*self.notes, note))

    def of_exposures(self, wanted: NDArray[np.integer]) -> "Candidate":
        """Return the part of it that has some exposures of the scan."""
        kept = np.isin(self.exposures, wanted)
        return replace(self, exposures=self.exposures[kept], xcoords=self.xcoords[kept], ycoords=self.ycoords[kept])

    def share_inside(self) -> NDArray[np.float64]:
        """Return (m,) the part of the probe's photons that falls on the object, of every exposure."""
        n, size = self.probe.shape[-1], self.object.shape
        sums = np.zeros((n + 1, n + 1))
        sums[1:, 1:] = np.sum(np.abs(self.probe.astype(np.complex128)) ** 2, axis=0).cumsum(axis=0).cumsum(axis=1)
        edges = []
        for axis, origin, side in zip((self.ycoords, self.xcoords), self.origin_px, size, strict=True):
            start = window_start(axis, n) - origin
            low = np.clip(-start, 0, n)
            edges.append((low, np.maximum(np.clip(side - start, 0, n), low)))
        (top, bottom), (left, right) = edges
        inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return inside / sums[-1, -1]

    def covering(self, margin_px: int = 0) -> "Candidate":
        """Return the same object with its mean modulus around it, so that it holds the windows of all exposures.

        Parameters
        ----------
        margin_px : int
            Further pixels on every side.
        """
        n, bright = self.probe.shape[-1], np.abs(self.object)
        starts = [window_start(axis, n) for axis in (self.ycoords, self.xcoords)]
        edges = zip(starts, self.origin_px, self.object.shape, strict=True)
        low, high = zip(
            *(
                (min(int(start.min()) - margin_px, origin), max(int(start.max()) + n + margin_px, origin + size))
                for start, origin, size in edges
            ),
            strict=True,
        )
        at = self.origin_px[0] - low[0], self.origin_px[1] - low[1]
        shape = high[0] - low[0], high[1] - low[1]
        if shape == self.object.shape:
            return self
        return replace(self, object=paste(self.object, at, shape, fill=float(bright.mean())), origin_px=low)


def check_candidate(candidate: Candidate, scan: Scan) -> None:
    """Refuse an object or a probe that is not finite, not complex, or does not fit patterns and positions."""
    path, n = candidate.path, scan.n_pixels
    for name, array in (("object", candidate.object), ("probe", candidate.probe)):
        if not np.iscomplexobj(array):
            raise ContractError(f"{path}: the {name} is {array.dtype}; wanted complex numbers")
        if not np.isfinite(array).all():
            raise ContractError(f"{path}: the {name} holds {(~np.isfinite(array)).sum()} values that are not finite")
    if not candidate.object.any():
        raise ContractError(f"{path}: the object is 0 everywhere; wanted a transmittance")
    if candidate.probe.ndim != 3 or candidate.probe.shape[1:] != (n, n) or not candidate.probe.any():
        shape = f"shape {candidate.probe.shape}" if candidate.probe.any() else "zeros"
        raise ContractError(f"{path}: a probe of {shape}; wanted one for patterns of {n} × {n}")
    if not len(candidate.exposures):
        raise ContractError(f"{path}: no exposure has a position")
    _check_positions(candidate)


def _check_positions(candidate: Candidate) -> None:
    """Refuse positions far outside the object."""
    box = candidate.origin_px, candidate.object.shape, (candidate.ycoords, candidate.xcoords)
    for name, origin, size, axis in zip(("y", "x"), *box, strict=True):
        if min(axis.min() - origin, origin + size - axis.max()) < -candidate.probe.shape[-1]:
            raise ContractError(
                f"{candidate.path}: {name}-positions {axis.min():.0f} to {axis.max():.0f} px; the object spans "
                f"{origin} to {origin + size} px: wanted the scan that it was reconstructed from"
            )
