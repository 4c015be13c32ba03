"""Sample files: object, probe and positions of a study, and their split; the same for all doses and seeds."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.lazy import LazyArray
from ptycho.data.npz import open_member, save_arrays
from ptycho.workflow.files import StrPath

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
    keys = ("probeGuess", "xcoords", "ycoords", "is_test")
    probe, xcoords, ycoords, is_test = (open_member(path, key)[...] for key in keys)
    return Sample(
        object=open_member(path, "objectGuess"),
        probe=probe,
        xcoords=xcoords,
        ycoords=ycoords,
        is_test=is_test,
        scan_index=open_member(path, "scan_index")[...] if measured else None,
    )
