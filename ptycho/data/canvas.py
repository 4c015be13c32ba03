"""Canvas: weighted patches in, object out; partial canvases add up to the same object, whatever the chunks."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ptycho.data.npz import check_members, drop_pages, load_arrays, open_member, row_blocks, save_arrays, scratch_zeros
from ptycho.physics.forward import window_start
from ptycho.workflow.files import ContractError

PATCHES_AT_A_TIME = 64
"""After so many, what they touched of a canvas in a file is dropped: a drop costs what the next touch reads again."""


@dataclass
class Canvas:
    """Σ w·O and Σ w over a box of the object plane, float64: 24 bytes a pixel, in memory or in a file.

    In a file, only what was touched last is resident: groups come from the top of the scan to its bottom, and what is
    summed, divided and saved goes block of rows by block of rows.
    """

    total: np.ndarray
    """(H, W) complex128 sum of weighted patches."""
    weight: np.ndarray
    """(H, W) float64 sum of weights."""
    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""
    _fresh: int = field(default=0, init=False, repr=False, compare=False)
    """Patches added since pages were dropped."""

    @classmethod
    def empty(cls, shape: tuple[int, int], origin_px: tuple[int, int], folder=None) -> "Canvas":
        """Return a canvas to which nothing was added; with a folder, in unnamed files there."""
        return cls(scratch_zeros(shape, np.complex128, folder), scratch_zeros(shape, np.float64, folder), origin_px)

    @classmethod
    def around(cls, xcoords, ycoords, n: int, folder=None) -> "Canvas":
        """Return an empty canvas that holds the n-pixel windows of all positions; with a folder, in files there."""
        top, left = window_start(ycoords, n), window_start(xcoords, n)
        shape = int(np.ptp(top)) + n, int(np.ptp(left)) + n
        return cls.empty(shape, (int(top.min()), int(left.min())), folder)

    def add(self, patches, weights, xcoords, ycoords) -> None:
        """Add (m, n, n) patches with their (m, n, n) weights at (m,) positions [px]."""
        n = patches.shape[-1]
        top = window_start(ycoords, n) - self.origin_px[0]
        left = window_start(xcoords, n) - self.origin_px[1]
        for patch, weight, y, x in zip(patches, weights, top, left, strict=True):
            self.total[y : y + n, x : x + n] += weight * patch
            self.weight[y : y + n, x : x + n] += weight
        self._fresh += len(patches)
        if self._fresh >= PATCHES_AT_A_TIME:
            self._drop_pages()

    def include(self, part: "Canvas", *, synchronized: bool = False) -> None:
        """Add a canvas whose box lies in this one's.

        Parameters
        ----------
        synchronized : bool
            First turn its phase to the one here, where they overlap: what was reconstructed by itself has a global
            phase of its own, which no measurement tells.
        """
        turn = self._turn(part) if synchronized else None
        for rows, box in self._shared(part):
            self.total[box] += part.total[rows] if turn is None else turn * part.total[rows]
            self.weight[box] += part.weight[rows]
            self._drop_pages()

    def _shared(self, part: "Canvas"):
        """Rows of a part, block by block, and the box that they have here."""
        y, x = np.subtract(part.origin_px, self.origin_px)
        columns = slice(x, x + part.weight.shape[1])
        for rows in part._row_blocks():
            yield rows, (slice(y + rows.start, y + rows.stop), columns)

    def _turn(self, part: "Canvas") -> complex:
        """Return exp(iφ) that brings a part's phase to the one here; 1 where they have nothing in common."""
        common = 0j
        for rows, box in self._shared(part):
            common += np.vdot(part.total[rows], self.total[box])
            self._drop_pages()
        return common / abs(common) if abs(common) > 0 else 1.0

    def mean(self, fill: complex = 1.0):
        """Weighted mean, complex64; `fill` where nothing was added."""
        mean = np.full(self.weight.shape, fill, np.complex64)
        for rows in self._row_blocks():
            total, weight = self.total[rows], self.weight[rows]
            np.divide(total, weight, out=mean[rows], where=weight > 0, casting="same_kind")
        return mean

    def _row_blocks(self):
        for rows in row_blocks(self.total):
            yield rows
            drop_pages(self.weight)

    def _drop_pages(self) -> None:
        drop_pages(self.total)
        drop_pages(self.weight)
        self._fresh = 0

    def save(self, path, **metadata) -> None:
        """Write sum, weight and origin; the file is whole or not there."""
        save_arrays(
            path,
            sum=self.total,
            weight=self.weight,
            origin_px=np.array(self.origin_px),
            metadata=np.array(json.dumps(metadata)),
        )

    @classmethod
    def load(cls, path, part: str = "") -> tuple["Canvas", dict]:
        """Open a canvas and read its metadata; the sums stay in their file, memory-mapped and read-only.

        Parameters
        ----------
        part : str
            Which, in a file of several, see `save_parts`.

        Raises
        ------
        ContractError
            If the file is missing, cut short or damaged: all of it is held against its check sums.
        """
        keys = f"sum{part}", f"weight{part}"
        check_members(path, *keys)
        total, weight = (open_member(path, key).memmap for key in keys)
        origin, text = load_arrays(path, f"origin_px{part}", "metadata")
        if total.shape != weight.shape or total.ndim != 2 or origin.shape != (2,):
            raise ContractError(
                f"{path}: sum {total.shape}, weight {weight.shape}, origin {origin.shape}; wanted (H, W) twice and (2,)"
            )
        return cls(total, weight, tuple(origin.tolist())), json.loads(str(text))


def save_parts(path, parts: Iterable[Canvas], metadata: Callable[[], dict]) -> None:
    """Write canvases that are to be synchronized when they are merged, one at a time; whole or not there.

    Parameters
    ----------
    parts : iterable of Canvas
        Each is written before the next is asked for.
    metadata : callable
        Called behind the last.
    """
    count = 0

    def members():
        nonlocal count
        for canvas in parts:
            yield f"sum_{count}", canvas.total
            yield f"weight_{count}", canvas.weight
            yield f"origin_px_{count}", np.array(canvas.origin_px)
            count += 1
        yield "metadata", np.array(json.dumps({**metadata(), "parts": count}))

    save_arrays(path, members())


def read_metadata(path) -> dict:
    """Read what a file of one canvas or of several was told."""
    (text,) = load_arrays(path, "metadata")
    return json.loads(str(text))


def parts_of(path) -> list[Callable[[], Canvas]]:
    """Return what opens each canvas of a file, after its bytes were held against their check sums.

    Raises
    ------
    ContractError
        As `Canvas.load`.
    """
    count = read_metadata(path).get("parts")
    names = [""] if count is None else [f"_{number}" for number in range(count)]
    loads = [lambda name=name: Canvas.load(path, name)[0] for name in names]
    for load in loads:
        load()
    return loads


def merge(canvases, folder=None, *, synchronized: bool = False) -> Canvas:
    """Add partial canvases over their common bounding box, one at a time, in any order.

    Parameters
    ----------
    canvases : list of callables
        Each returns a Canvas; a callable is called twice, so that only one part is open at a time.
    folder : Path, optional
        Where the sum lives in files; without, it is in memory.
    synchronized : bool
        Turn the phase of each to that of those before it. The result then depends on the order.
    """
    parts = [(load, part.origin_px, part.weight.shape) for load in canvases if (part := load()).weight.size]
    boxes = [(origin, shape) for _, origin, shape in parts]
    low = np.min([origin for origin, _ in boxes], axis=0)
    high = np.max([np.add(origin, shape) for origin, shape in boxes], axis=0)
    whole = Canvas.empty(tuple((high - low).tolist()), tuple(low.tolist()), folder)
    for load, _, _ in parts:
        whole.include(load(), synchronized=synchronized)
    return whole
