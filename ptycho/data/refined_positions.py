"""Positions that a method has refined: a part of its object file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.npz import Npz, are_pixels
from ptycho.workflow.files import ContractError, StrPath

POSITION_KEYS = ("exposures", "xcoords", "ycoords", "x_shift", "y_shift")
"""Fields of `RefinedPositions`, and arrays of an object file with refined positions: all of them or none."""


@dataclass(frozen=True, kw_only=True)
class RefinedPositions:
    """Positions that a method has refined, of the exposures that it used.

    A shift that all positions share is that of the object: nothing tells them apart.
    """

    exposures: NDArray[np.int64]
    """(m,) exposures of the scan, ascending."""
    xcoords: NDArray[np.float64]
    """(m,) columns of the patch centers [px]."""
    ycoords: NDArray[np.float64]
    """(m,) rows of the patch centers [px]."""
    x_shift: NDArray[np.float64]
    """(m,) refined minus recorded columns [px]."""
    y_shift: NDArray[np.float64]
    """(m,) refined minus recorded rows [px]."""

    @classmethod
    def of(
        cls,
        exposures: NDArray[np.int64],
        xcoords: NDArray[np.float64],
        ycoords: NDArray[np.float64],
        shifts: NDArray[np.float64],
    ) -> "RefinedPositions":
        """Return positions of (m,) exposures: recorded columns and rows, moved by (2, m) shifts along y and x [px]."""
        y_shift, x_shift = shifts
        moved = {"xcoords": xcoords + x_shift, "ycoords": ycoords + y_shift}
        return cls(exposures=exposures, x_shift=x_shift, y_shift=y_shift, **moved)

    def among(
        self, xcoords: NDArray[np.float64], ycoords: NDArray[np.float64], where: StrPath
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (M,) columns and rows of a scan, its own and these in their place; `where` is its file.

        Raises `ptycho.workflow.files.ContractError` if the scan lacks one of the exposures.
        """
        if (last := self.exposures[-1]) >= len(xcoords):
            raise ContractError(f"{where}: {len(xcoords)} exposures; wanted {last}, whose position was refined, too")
        columns, rows = xcoords.copy(), ycoords.copy()
        columns[self.exposures], rows[self.exposures] = self.xcoords, self.ycoords
        return columns, rows


def read_positions(file: Npz) -> RefinedPositions | None:
    """Read the refined positions of an object file, if it has any of their arrays."""
    if not set(POSITION_KEYS) & set(file.keys):
        return None
    file.require(*POSITION_KEYS)
    arrays = {key: file.array(key) for key in POSITION_KEYS}
    check_positions(file.path, arrays)
    return RefinedPositions(**arrays)


def check_positions(path: StrPath, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse refined positions that have other types or shapes than theirs, or exposures that do not ascend."""
    exposures = arrays["exposures"]
    if exposures.dtype.kind != "i" or exposures.ndim != 1 or not exposures.size:
        found = f"{exposures.dtype} with shape {exposures.shape}"
        raise ContractError(f"{path}: 'exposures' is {found}; wanted integers (m,), of the refined positions")
    if exposures[0] < 0 or (exposures[1:] <= exposures[:-1]).any():
        raise ContractError(f"{path}: 'exposures' of the refined positions do not ascend from 0 or more")
    for key in POSITION_KEYS[1:]:
        array = arrays[key]
        if array.dtype.kind != "f" or array.shape != exposures.shape or not are_pixels(array):
            found = f"{array.dtype} with shape {array.shape}"
            wanted = f"finite floats {exposures.shape}, one for each of 'exposures'"
            raise ContractError(f"{path}: '{key}' is {found}; wanted {wanted}")
