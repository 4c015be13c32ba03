"""Canvas: weighted patches in, object out; partial canvases add up to the same object, whatever the chunks."""

import json
from dataclasses import dataclass

import numpy as np

from ptycho.npz import ContractError, load_arrays, save_arrays
from ptycho.physics import window_start
from ptycho.provenance import file_digest


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
        mean = np.full(self.weight.shape, fill, np.complex64)
        return np.divide(self.total, self.weight, out=mean, where=self.weight > 0, casting="same_kind")

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
        """Read a canvas and its metadata.

        Raises
        ------
        ContractError
            If the file is missing, cut short or damaged: all of it is held against its check sums.
        """
        total, weight, origin, text = load_arrays(path, "sum", "weight", "origin_px", "metadata")
        if total.shape != weight.shape or total.ndim != 2 or origin.shape != (2,):
            raise ContractError(
                f"{path}: sum {total.shape}, weight {weight.shape}, origin {origin.shape}; wanted (H, W) twice and (2,)"
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


def run_of(model, view, n_groups: int) -> dict:
    """What identifies the chunks of one reconstruction: sha256 of the model's and the view's file, number of groups."""
    return {"model": file_digest(model), "view": file_digest(view), "groups": n_groups}


def merge_chunks(paths, run: dict | None = None) -> Canvas:
    """Merge the chunk files of one run.

    Parameters
    ----------
    paths : list of Path
        In any order.
    run : dict, optional
        What made them, as `Canvas.save` was told; without, they only have to agree.

    Raises
    ------
    ContractError
        If a chunk is missing, damaged, there twice, or of another run; the message names the file.
    """
    metadata = [(str(path), Canvas.load(path)[1]) for path in paths]
    run, source = (metadata[0][1]["run"], metadata[0][0]) if run is None else (run, "what is wanted")
    for path, found in metadata:
        if different := [key for key in run if found["run"].get(key) != run[key]]:
            key = different[0]
            raise ContractError(
                f"{path}: a chunk of another {key} ({found['run'].get(key)}; {source} is of {run[key]}): "
                "delete it and run again"
            )
    expected, before = 0, "no chunk before it"
    for start, stop, path in sorted((*found["groups"], path) for path, found in metadata if np.diff(found["groups"])):
        if start < expected:
            raise ContractError(f"{path}: holds groups {start} to {stop}, some of which {before} holds too")
        if start > expected:
            raise ContractError(
                f"groups {expected} to {start} are in no chunk: one is missing between {before} and {path}"
            )
        expected, before = stop, path
    if expected != run["groups"]:
        raise ContractError(f"groups {expected} to {run['groups']} are in no chunk: one is missing after {before}")
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
    obj, weight, origin, text = load_arrays(path, "object", "weight", "origin_px", "metadata")
    return obj, weight, tuple(origin.tolist()), json.loads(str(text))


def place(obj, origin_px, shape, fill: complex = 1.0):
    """Put an object on a larger or smaller grid whose first pixel is (0, 0); `fill` where it has nothing."""
    whole = np.full(shape, fill, obj.dtype)
    y, x = origin_px
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + obj.shape[0], shape[0]), min(x + obj.shape[1], shape[1])
    whole[top:bottom, left:right] = obj[top - y : bottom - y, left - x : right - x]
    return whole
