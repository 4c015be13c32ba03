"""Canvas: weighted patches in, object out. Partial canvases add up to the same object, however it was chunked."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.mapped import drop_pages, row_blocks, scratch_zeros
from ptycho.data.npz import Member, Npz, are_pixels, map_member, save_arrays
from ptycho.physics.forward import window_start
from ptycho.workflow.damage import check_fields
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.limits import max_bytes

PIXEL_BYTES = 24
"""Size of a pixel: complex128 and float64."""
OBJECT_BYTES = 8
"""Size of a pixel of the object that a canvas is divided to."""


@dataclass
class Canvas:
    """Σ w·O and Σ w over a box of the object plane, float64: 24 bytes per pixel, in memory or in a file.

    A canvas in a file keeps only what was touched last in memory: canvases are added, divided and saved one block of
    rows at a time.
    """

    total: Any
    """(H, W) complex128 sum of weighted patches; a lazy array in a canvas that is only read."""
    weight: Any
    """(H, W) float64 sum of weights."""
    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""

    @classmethod
    def empty(cls, shape: tuple[int, int], origin_px: tuple[int, int], folder: StrPath | None = None) -> "Canvas":
        """Return a canvas without patches; given a folder, it lives in unnamed files there.

        Raises
        ------
        ContractError
            If it would take more memory than a file may claim: its positions, or the origins of its parts, are wrong.
        """
        size = (PIXEL_BYTES if folder is None else OBJECT_BYTES) * shape[0] * shape[1]
        if size > max_bytes():
            raise ContractError(
                f"a canvas of {shape[0]} × {shape[1]} px from {origin_px} takes {size / 1e9:.3g} GB; wanted at most "
                f"{max_bytes() / 1e9:.3g} GB (PTYCHO_MAX_GB allows more): are all positions right?"
            )
        return cls(scratch_zeros(shape, np.complex128, folder), scratch_zeros(shape, np.float64, folder), origin_px)

    @classmethod
    def around(
        cls, xcoords: NDArray[np.float64], ycoords: NDArray[np.float64], n: int, folder: StrPath | None = None
    ) -> "Canvas":
        """Return an empty canvas that covers the n-pixel windows of all positions [px]; see `empty`."""
        top, left = window_start(ycoords, n), window_start(xcoords, n)
        shape = int(np.ptp(top)) + n, int(np.ptp(left)) + n
        return cls.empty(shape, (int(top.min()), int(left.min())), folder)

    def add(
        self,
        patches: NDArray[np.complexfloating],
        weights: NDArray[np.floating],
        xcoords: NDArray[np.float64],
        ycoords: NDArray[np.float64],
    ) -> None:
        """Add (m, n, n) patches with their (m, n, n) weights at (m,) positions [px]."""
        n = patches.shape[-1]
        top = window_start(ycoords, n) - self.origin_px[0]
        left = window_start(xcoords, n) - self.origin_px[1]
        for patch, weight, y, x in zip(patches, weights, top, left, strict=True):
            self.total[y : y + n, x : x + n] += weight * patch
            self.weight[y : y + n, x : x + n] += weight

    def include(self, part: "Canvas") -> None:
        """Add a canvas whose box lies inside this one's, with its phase matched where they overlap.

        Parts that were reconstructed independently have arbitrary global phases.
        """
        factor = self._phase_factor(part)
        for rows, box in self._overlapping_rows(part):
            self.total[box] += factor * part.total[rows]
            self.weight[box] += part.weight[rows]
            self._drop_pages()

    def _overlapping_rows(self, part: "Canvas") -> Iterator[tuple[slice, tuple[slice, slice]]]:
        """Yield blocks of a part's rows, and their boxes in this canvas."""
        y, x = np.subtract(part.origin_px, self.origin_px)
        columns = slice(x, x + part.weight.shape[1])
        for rows in part._row_blocks():
            yield rows, (slice(y + rows.start, y + rows.stop), columns)

    def _phase_factor(self, part: "Canvas") -> complex:
        """Return the factor exp(iφ) that matches a part's phase to this canvas; 1 if they do not overlap."""
        product = np.complex128(0)
        for rows, box in self._overlapping_rows(part):
            product += np.vdot(part.total[rows], self.total[box])
            self._drop_pages()
        return product / abs(product) if abs(product) > 0 else 1.0

    def mean(self, fill: complex = 1.0) -> NDArray[np.complex64]:
        """Return the weighted mean, (H, W), with `fill` where the weight is zero."""
        mean = np.full(self.weight.shape, fill, np.complex64)
        for rows in self._row_blocks():
            total, weight = self.total[rows], self.weight[rows]
            np.divide(total, weight, out=mean[rows], where=weight > 0, casting="same_kind")
        return mean

    def _row_blocks(self) -> Iterator[slice]:
        for rows in row_blocks(self.total):
            yield rows
            drop_pages(self.weight)

    def _drop_pages(self) -> None:
        drop_pages(self.total)
        drop_pages(self.weight)


def save_parts(
    path: StrPath, parts: Iterable[Canvas], metadata: Callable[[], dict[str, Any]], **arrays: NDArray[Any]
) -> None:
    """Write canvases to one NPZ, one at a time; it is complete or absent.

    Parameters
    ----------
    parts : iterable of Canvas
        Each is written before the next is taken.
    metadata : callable
        Returns the metadata, JSON-serializable; called after the last part.
    **arrays
        What belongs to all of them, such as `probe`.
    """
    count = 0

    def members() -> Iterator[tuple[str, NDArray[Any]]]:
        nonlocal count
        for canvas in parts:
            yield f"sum_{count}", canvas.total
            yield f"weight_{count}", canvas.weight
            yield f"origin_px_{count}", np.array(canvas.origin_px)
            count += 1
        yield from arrays.items()
        yield "metadata", np.array(json.dumps({**metadata(), "parts": count}))

    save_arrays(path, members())


def read_metadata(path: StrPath) -> dict[str, Any]:
    """Read the metadata of a file of canvases.

    Raises
    ------
    ContractError
        If the file is missing or damaged, or has none.
    """
    with Npz(path) as file:
        return file.metadata()


def parts_of(path: StrPath) -> list[Callable[[], Canvas]]:
    """Return a function for each canvas of a file that opens it; all bytes are checked first, once.

    The sums of an open canvas stay in the file, and are read when they are indexed.

    Raises
    ------
    ContractError
        If the file is missing, cut short or damaged, does not say how many canvases there are, or holds something else.
    """
    with Npz(path) as file:
        metadata = file.metadata()
        if "parts" not in metadata:
            raise ContractError(f"{path}: no 'parts' in its metadata; wanted the canvases of a chunk")
        check_fields(metadata, f"{path}: 'metadata'", parts=int)
        count = metadata["parts"]
        file.require(*(f"{name}_{number}" for number in (0, count - 1) if count > 0 for name in ("sum", "weight")))
        return [_part_opener(file, number) for number in range(count)]


def _part_opener(file: Npz, number: int) -> Callable[[], Canvas]:
    """Check a canvas of a file, and return a function that opens it."""
    path, keys = file.path, (f"sum_{number}", f"weight_{number}")
    total, weight = (file.member(key) for key in keys)
    origin = file.array(f"origin_px_{number}")
    if total.shape != weight.shape or len(total.shape) != 2 or origin.shape != (2,):
        raise ContractError(
            f"{path}: sum {total.shape}, weight {weight.shape}, origin {origin.shape}; wanted (H, W) twice and (2,)"
        )
    if (total.dtype, weight.dtype, origin.dtype.kind) != (np.complex128, np.float64, "i"):
        raise ContractError(
            f"{path}: '{keys[0]}' is {total.dtype}, '{keys[1]}' {weight.dtype}, 'origin_px_{number}' {origin.dtype}; "
            "wanted complex128, float64 and integers"
        )
    if not are_pixels(origin):
        raise ContractError(f"{path}: 'origin_px_{number}' is {origin.tolist()}; wanted pixels")
    file.check(*keys)
    return partial(_open_part, path, dict(zip(keys, (total, weight), strict=True)), (int(origin[0]), int(origin[1])))


def _open_part(path: StrPath, sums: dict[str, Member], origin: tuple[int, int]) -> Canvas:
    total, weight = (map_member(path, key, member) for key, member in sums.items())
    return Canvas(total, weight, origin)


def merge(canvases: Iterable[Callable[[], Canvas]], folder: StrPath | None = None) -> Canvas:
    """Add canvases over their common bounding box, one at a time, each with its phase matched to those before it.

    Parameters
    ----------
    canvases : iterable of callables
        Each returns a Canvas. It is called twice, so that only one part is open at a time.
    folder : path, optional
        Where the sum lives in files; default: in memory.

    Raises
    ------
    ContractError
        If no canvas has a pixel, or their box is too large, see `Canvas.empty`.
    """
    parts = [(load, part.origin_px, part.weight.shape) for load in canvases if (part := load()).weight.size]
    if not parts:
        raise ContractError("no canvas has a pixel; wanted at least one")
    low = np.min([origin for _, origin, _ in parts], axis=0)
    high = np.max([np.add(origin, shape) for _, origin, shape in parts], axis=0)
    (height, width), (top, left) = (high - low).tolist(), low.tolist()
    whole = Canvas.empty((height, width), (top, left), folder)
    for load, _, _ in parts:
        whole.include(load())
    return whole
