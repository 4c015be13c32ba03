"""Sample files: object, probe and positions of a study, and their split; the same for all doses and seeds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.contract import check_finite, check_index, check_positions
from ptycho.data.lazy import LazyArray
from ptycho.data.npz import Npz, save_arrays
from ptycho.data.scan import Scan
from ptycho.physics.forward import window_start
from ptycho.workflow.files import ContractError, StrPath

SPLITS = ("train", "test")
"""Names of the splits: `SPLITS[1]` is that of positions with `is_test` 1."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is scanned, with what, and where."""

    object: LazyArray
    """(H, W) complex64 transmittance: the truth, or the reference of a measured study."""
    probe: NDArray[np.complex64]
    """(N, N) or (modes, N, N): Σ|P|² is 1; in a measured study, incident photons per detected one."""
    xcoords: NDArray[np.float64]
    """(M,) patch centers along x, columns [px]."""
    ycoords: NDArray[np.float64]
    """(M,) patch centers along y, rows [px]."""
    is_test: NDArray[np.int8]
    """(M,) 0 in the train split, 1 in the test split."""
    scan_index: NDArray[np.int64] | None = None
    """(M,) exposures of the measured scan; None if the study is simulated."""

    def of_split(self, split: str) -> NDArray[np.int64]:
        """Return the positions of a split, "train" or "test", ascending."""
        return np.flatnonzero(self.is_test == SPLITS.index(split))


def plane_of(scan: Scan, exposures: NDArray[np.integer]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the object plane that holds the windows of some exposures: that of the scan, or a larger one.

    Returns
    -------
    offset_px : (int, int)
        Rows and columns in front of the scan's object; positions and objects move by as much.
    shape : (int, int)
        Rows and columns of the plane.
    """
    offset, shape = [], []
    for coords, size in zip((scan.ycoords, scan.xcoords), scan.object.shape, strict=True):
        start = window_start(coords[exposures], scan.n_pixels)
        before, behind = max(-int(start.min()), 0), max(int(start.max()) + scan.n_pixels - size, 0)
        offset.append(before)
        shape.append(before + size + behind)
    return (offset[0], offset[1]), (shape[0], shape[1])


def save_sample(path: StrPath, sample: Sample, **metadata: Any) -> None:
    """Write a sample as NPZ that is complete or absent; `metadata` is JSON-serializable."""
    index = {} if sample.scan_index is None else {"scan_index": sample.scan_index}
    save_arrays(
        path,
        objectGuess=np.asarray(sample.object),
        probeGuess=sample.probe,
        xcoords=sample.xcoords,
        ycoords=sample.ycoords,
        **index,
        is_test=sample.is_test,
        metadata=np.array(json.dumps(metadata)),
    )


def open_sample(path: StrPath, *, measured: bool = False) -> Sample:
    """Open a sample; its object is read when indexed.

    Parameters
    ----------
    measured : bool
        Whether the study is measured, so that the sample has `scan_index`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing, damaged, or lacks a key.
    """
    with Npz(path) as file:
        sample = Sample(
            object=file.mapped("objectGuess", checked=True),
            probe=file.array("probeGuess"),
            xcoords=file.array("xcoords"),
            ycoords=file.array("ycoords"),
            is_test=file.array("is_test"),
            scan_index=file.array("scan_index") if measured else None,
        )
    _check_sample(Path(path), sample)
    return sample


def _check_sample(path: Path, sample: Sample) -> None:
    """Refuse arrays of other types or shapes, and positions whose windows leave the object."""
    count, probe = len(np.atleast_1d(sample.xcoords)), sample.probe
    square = probe.dtype.kind == "c" and probe.ndim in (2, 3) and probe.shape[-1] == probe.shape[-2] > 0
    wanted = {
        "objectGuess": (sample.object, "c", len(sample.object.shape) == 2, "complex (H, W)"),
        "probeGuess": (probe, "c", square and bool(np.isfinite(probe).all()), "finite, complex (modes, N, N)"),
        "xcoords": (sample.xcoords, "f", sample.xcoords.shape == (count,), "floats, (M,)"),
        "ycoords": (sample.ycoords, "f", sample.ycoords.shape == (count,), f"floats, ({count},)"),
        "is_test": (sample.is_test, "i", sample.is_test.shape == (count,), f"integers, ({count},)"),
    }
    for key, (array, kind, fits, text) in wanted.items():
        if array.dtype.kind != kind or not fits:
            raise ContractError(f"{path}: '{key}' is {array.dtype} with shape {array.shape}; wanted {text}")
    if not np.isin(sample.is_test, (0, 1)).all():
        raise ContractError(f"{path}: 'is_test' holds {sample.is_test.max()}; wanted 0 (train) or 1 (test)")
    check_finite(path, "objectGuess", sample.object)
    check_positions(path, (sample.ycoords, sample.xcoords), sample.object.shape, probe.shape[-1])
    if sample.scan_index is not None:
        check_index(path, sample.scan_index, count, distinct=True)
