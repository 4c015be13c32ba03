"""Canvas: weighted patches in, object out; partial canvases add up to the same object, whatever the chunks."""

import json
from dataclasses import dataclass

import numpy as np

from ptycho.physics import window_start
from ptycho.scan import ScanError, open_member, save_arrays


@dataclass
class Canvas:
    """Σ w·O and Σ w over a box of the object plane, float64: 24 bytes a pixel."""

    total: np.ndarray
    """(H, W) complex128 sum of weighted patches."""
    weight: np.ndarray
    """(H, W) float64 sum of weights."""
    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""

    @classmethod
    def around(cls, xcoords, ycoords, n: int) -> "Canvas":
        """Return an empty canvas that holds the n-pixel windows of all positions."""
        top, left = window_start(ycoords, n), window_start(xcoords, n)
        shape = int(np.ptp(top)) + n, int(np.ptp(left)) + n
        return cls(np.zeros(shape, np.complex128), np.zeros(shape), (int(top.min()), int(left.min())))

    def add(self, patches, weights, xcoords, ycoords) -> None:
        """Add (m, n, n) patches with their (m, n, n) weights at (m,) positions [px]."""
        n = patches.shape[-1]
        top = window_start(ycoords, n) - self.origin_px[0]
        left = window_start(xcoords, n) - self.origin_px[1]
        for patch, weight, y, x in zip(patches, weights, top, left, strict=True):
            self.total[y : y + n, x : x + n] += weight * patch
            self.weight[y : y + n, x : x + n] += weight

    def mean(self, fill: complex = 1.0):
        """Weighted mean, complex64; `fill` where nothing was added."""
        seen = self.weight > 0
        return np.where(seen, self.total / np.where(seen, self.weight, 1), fill).astype(np.complex64)

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
    def load(cls, path) -> tuple["Canvas", dict]:
        """Read a canvas and its metadata."""
        total, weight, origin, text = (
            open_member(path, key)[...] for key in ("sum", "weight", "origin_px", "metadata")
        )
        return cls(total, weight, tuple(origin.tolist())), json.loads(str(text))


def merge(canvases) -> Canvas:
    """Add partial canvases over their common bounding box, one at a time, in any order.

    Parameters
    ----------
    canvases : list of callables
        Each returns a Canvas; a callable is called twice, so that only one canvas is in memory besides the sum.
    """
    parts = [(load, part.origin_px, part.weight.shape) for load in canvases if (part := load()).weight.size]
    boxes = [(origin, shape) for _, origin, shape in parts]
    low = np.min([origin for origin, _ in boxes], axis=0)
    high = np.max([np.add(origin, shape) for origin, shape in boxes], axis=0)
    whole = Canvas(np.zeros(high - low, np.complex128), np.zeros(high - low), tuple(low.tolist()))
    for load, _, _ in parts:
        part = load()
        y, x = np.subtract(part.origin_px, low)
        box = np.s_[y : y + part.weight.shape[0], x : x + part.weight.shape[1]]
        whole.total[box] += part.total
        whole.weight[box] += part.weight
    return whole


def merge_chunks(paths) -> Canvas:
    """Merge the chunk files of one run.

    Raises
    ------
    ScanError
        If a chunk is missing, there twice, or belongs to another run; the message names the file.
    """
    metadata = [(str(path), Canvas.load(path)[1]) for path in paths]
    first_path, first = metadata[0]
    ranges = {}
    for path, found in metadata:
        if found["run"] != first["run"]:
            raise ScanError(f"{path}: made by {found['run']}, but {first_path} by {first['run']}")
        start, stop = found["groups"]
        if start == stop:
            continue
        if start in ranges:
            raise ScanError(f"{path}: holds groups {start}..{stop}, and so does {ranges[start][1]}")
        ranges[start] = (stop, path)
    expected = 0
    for start in sorted(ranges):
        if start != expected:
            raise ScanError(f"{ranges[start][1]}: starts at group {start}, but the chunks before it end at {expected}")
        expected = ranges[start][0]
    if expected != first["run"]["groups"]:
        raise ScanError(f"the chunks end at group {expected} of {first['run']['groups']}: one is missing")
    return merge([lambda path=path: Canvas.load(path)[0] for path, _ in metadata])


def chunk_bounds(n_groups: int, index: int, count: int) -> tuple[int, int]:
    """First group and end of chunk `index` (from 0) of `count`: sizes differ by one at most, and may be zero."""
    return n_groups * index // count, n_groups * (index + 1) // count


def save_object(path, obj, weight, origin_px, **metadata) -> None:
    """Write a reconstructed object: complex64, its weight, and where it lies in the object plane."""
    save_arrays(
        path,
        object=np.asarray(obj, np.complex64),
        weight=np.asarray(weight, np.float32),
        origin_px=np.asarray(origin_px, np.int64),
        metadata=np.array(json.dumps(metadata)),
    )


def load_object(path):
    """Read (object, weight, origin_px, metadata)."""
    obj, weight, origin, text = (open_member(path, key)[...] for key in ("object", "weight", "origin_px", "metadata"))
    return obj, weight, tuple(origin.tolist()), json.loads(str(text))


def place(obj, origin_px, shape, fill: complex = 1.0):
    """Put an object on a larger or smaller grid whose first pixel is (0, 0); `fill` where it has nothing."""
    whole = np.full(shape, fill, obj.dtype)
    y, x = origin_px
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + obj.shape[0], shape[0]), min(x + obj.shape[1], shape[1])
    whole[top:bottom, left:right] = obj[top - y : bottom - y, left - x : right - x]
    return whole
