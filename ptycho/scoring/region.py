"""The scored region: the largest rectangle that is illuminated in every view, the same for all methods."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.data.scan import Scan
from ptycho.data.views import FIT, VALIDATION, View
from ptycho.physics.forward import illumination
from ptycho.scoring.metrics import SSIM_WINDOW_PX
from ptycho.workflow.damage import check_fields, read_json
from ptycho.workflow.files import ContractError, StrPath


@dataclass(frozen=True)
class Region:
    """The scored rectangle, half-open, in pixels of the object plane."""

    y0: int
    """First row."""
    y1: int
    """Row after the last."""
    x0: int
    """First column."""
    x1: int
    """Column after the last."""

    @classmethod
    def load(cls, path: StrPath, shape: tuple[int, ...] | None = None) -> "Region":
        """Read a region from JSON with the keys y0, y1, x0 and x1, and `shape`, which must be theirs if it is there.

        Parameters
        ----------
        path : path
            The file.
        shape : (int, int), optional
            Rows and columns of the object plane in which it must lie.

        Raises
        ------
        ptycho.workflow.files.ContractError
            If it is missing or damaged, no rectangle with a pixel, of another shape, or leaves the object plane.
        """
        numbers, where = read_json(path), f"{path}: its content"
        check_fields(numbers, where, y0=int, y1=int, x0=int, x1=int)
        region = cls(*(numbers[key] for key in ("y0", "y1", "x0", "x1")))
        if not (0 <= region.y0 < region.y1 and 0 <= region.x0 < region.x1):
            raise ContractError(f"{where} is {region}; wanted rows and columns from 0 on, at least one of each")
        stated = numbers.get("shape", [*region.shape])
        if stated != [*region.shape]:  # a digit of the file has changed
            raise ContractError(f"{where} is {region} with 'shape' {stated}; wanted {[*region.shape]}")
        if shape is not None and (region.y1 > shape[0] or region.x1 > shape[1]):
            raise ContractError(f"{where} is {region}; the object plane has {shape[0]} × {shape[1]} px")
        return region

    def widened(self, margin: int, shape: tuple[int, ...]) -> "Region":
        """Return the region with a margin [px] on every side, clipped to an object of (rows, columns)."""
        return Region(
            max(self.y0 - margin, 0),
            min(self.y1 + margin, shape[0]),
            max(self.x0 - margin, 0),
            min(self.x1 + margin, shape[1]),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def origin_px(self) -> tuple[int, int]:
        """Row and column of the first pixel in the object plane."""
        return self.y0, self.x0

    @property
    def box(self) -> tuple[slice, slice]:
        """Slices of this rectangle in the object plane."""
        return (slice(self.y0, self.y1), slice(self.x0, self.x1))

    def inside(self, outer: "Region") -> tuple[slice, slice]:
        """Slices of this rectangle in an array that covers `outer`."""
        return (slice(self.y0 - outer.y0, self.y1 - outer.y0), slice(self.x0 - outer.x0, self.x1 - outer.x0))


def shared_region(scan: Scan, views: Sequence[View]) -> Region:
    """Find the largest rectangle that is illuminated in every view of a scan.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If no pixel is illuminated in every view, see `scored_region`.
    """
    shape = scan.object.shape
    exposures = [view.exposures for view in views]
    return scored_region(illumination(scan.probe, scan.xcoords[kept], scan.ycoords[kept], shape) for kept in exposures)


def check_scored(scan: Scan, view: View, region: Region) -> None:
    """Check that a rectangle can be scored.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it is smaller than the window of SSIM, or no exposure that is fitted lights it.
    """
    (height, width), fitted = region.shape, view.of_role(FIT, VALIDATION)
    if min(height, width) < SSIM_WINDOW_PX:
        raise ContractError(
            f"{scan.path}: the scored rectangle has {height} × {width} px; wanted {SSIM_WINDOW_PX} px a side at least, "
            "the window of SSIM: more exposures, or views that overlap"
        )
    if not illumination(scan.probe, scan.xcoords[fitted], scan.ycoords[fitted], region.shape, region.origin_px).any():
        raise ContractError(f"{scan.path}: no exposure lights the scored {region}; wanted one of this scan")


def scored_region(illuminations: Iterable[NDArray[np.float64]], threshold: float = 0.1) -> Region:
    """Find the largest rectangle that is illuminated in every view.

    A pixel counts as illuminated in a view if its Σ_j|P_j|² is at least `threshold` times the median over the pixels
    with more than 1e-3 of the peak.

    Parameters
    ----------
    illuminations : iterable of (H, W) float64
        One for each view, on the same pixels; one is held at a time.
    threshold : float
        Fraction of the median from which on a pixel counts.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If no pixel is illuminated in every view.
    """
    masks = (flux >= threshold * np.median(flux[flux > 1.0e-3 * flux.max()]) for flux in illuminations)
    mask = next(masks)
    for other in masks:
        mask = mask & other
    if not mask.any():
        raise ContractError("no pixel of the object is illuminated in every view: nothing can be compared")
    return _largest_rectangle(mask)


def _largest_rectangle(mask: NDArray[np.bool_]) -> Region:
    """Find the largest rectangle of True: for every row, the largest rectangle under the histogram of column depths."""
    best, area = Region(0, 0, 0, 0), 0
    depths = np.zeros(mask.shape[1] + 1, np.int64)  # True pixels above, and a zero that closes the last rectangle
    for row in range(mask.shape[0]):
        depths[:-1] = np.where(mask[row], depths[:-1] + 1, 0)
        open_rectangles: list[tuple[int, int]] = []  # first column and height, in the order of height
        for column, depth in enumerate(depths.tolist()):
            start = column
            while open_rectangles and open_rectangles[-1][1] > depth:
                start, height = open_rectangles.pop()
                if height * (column - start) > area:
                    best, area = Region(row - height + 1, row + 1, start, column), height * (column - start)
            if not open_rectangles or open_rectangles[-1][1] < depth:
                open_rectangles.append((start, depth))
    return best
