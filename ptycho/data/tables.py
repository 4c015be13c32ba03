"""Tables as CSV files: names are text, whatever they look like, and all other columns are numbers."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ptycho.data.written import check_unchanged
from ptycho.workflow.files import ContractError, StrPath

NAMES = frozenset(
    [
        *("object", "flaw", "kind", "refined", "view", "split", "method", "versus", "metric", "part", "threshold"),
        *("status", "stage", "tile", "variant"),
    ]
)
"""Columns of text: a view may be called 70, 1e5, NA or null."""
BOOLEANS = {"True": True, "False": False}


class Cells(NamedTuple):
    """What the cells of a column of numbers hold."""

    above: float = -np.inf
    """Every number exceeds this one."""
    most: float = np.finfo(np.float64).max
    """Largest number; infinity where they need not be finite."""
    whole: bool = False
    """Whether they are integers."""
    missing: bool = False
    """Whether a cell may be empty, or NaN."""

    @property
    def text(self) -> str:
        """The same in words."""
        kind = "an integer" if self.whole else "a number" if self.most == np.inf else "a finite number"
        above = "" if self.above == -np.inf else f" above {self.above:g}"
        most = "" if self.most >= Cells().most else f", at most {self.most:g}"
        return f"{kind}{above}{most}{' or nothing' * self.missing}"

    def hold(self, values: pd.Series) -> pd.Series:
        """Whether each cell of a column is one of these."""
        fits = (values > self.above) & (values <= self.most)
        if self.whole:
            fits &= values % 1 == 0
        return (fits | values.isna()) if self.missing else fits


NUMBERS = {
    "dose": Cells(above=0, whole=True),
    "seed": Cells(above=-1, whole=True),
    "fluence_photons_per_px": Cells(above=0, missing=True),
    "dose_photons": Cells(above=0, missing=True),
    "resolution": Cells(above=0, most=1),
    "size": Cells(above=-1, missing=True),
    "sd_factor": Cells(above=0, missing=True),
    "n": Cells(above=-1, whole=True),
    "n_reached": Cells(above=-1, whole=True),
    "epoch": Cells(above=-1),
    "loss": Cells(most=np.inf, missing=True),
    "validation_deviance": Cells(most=np.inf, missing=True),
    "learning_rate": Cells(above=0),
    "tv_weight": Cells(above=0),
    "frequency": Cells(above=0, most=2),
    "frc": Cells(above=-1.01, most=1.01, missing=True),
    "ssnr": Cells(most=np.inf, missing=True),
}
"""Column -> what its cells hold, in whichever table it is."""
WORDS = {
    "part": ("amplitude", "phase"),
    "status": ("reached", "partly reached", "at lowest dose", "not reached", "none"),
}
"""Column -> the words that its cells are one of."""


def read_table(path: StrPath, *required: str, may_be_empty: bool = False) -> pd.DataFrame:
    """Read a table that `ptycho.workflow.files.save_table` has written.

    Parameters
    ----------
    path : path
        CSV, UTF-8, one line of column names.
    *required : str
        Columns that it must have.
    may_be_empty : bool
        Whether it may have no rows.

    Returns
    -------
    DataFrame
        Columns of `NAMES` as text, the others as int64, float64 (an empty cell is NaN) or bool.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing, no table, or not as its job has written it, has no rows, a line has another number of
        cells than the first, a column is missing or there twice, or a cell holds something else than `NUMBERS`, `WORDS`
        or the rest of its column say; the message names file, line and column.
    """
    header, rows = _rows_of(path)
    check_unchanged(path)
    if missing := [name for name in required if name not in header]:
        raise ContractError(f"{path}: no column {', '.join(map(repr, missing))}; found {', '.join(header)}")
    if not rows and not may_be_empty:
        raise ContractError(f"{path}: no rows; wanted a line of {', '.join(header)} at least")
    columns = zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True)
    return pd.DataFrame({name: _values(path, name, cells) for name, cells in columns})


def _rows_of(path: StrPath) -> tuple[list[str], list[list[str]]]:
    """Read the names of a table's columns, and its rows, all of the same length."""
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
    except FileNotFoundError:
        raise ContractError(f"{path}: no such file; wanted a table") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ContractError(f"{path}: not a table ({error})") from None
    if not header:
        raise ContractError(f"{path}: is empty; wanted a line with the names of columns")
    if len(set(header)) < len(header):
        raise ContractError(f"{path}: its first line is {','.join(header)!r}; wanted a name for each column")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ContractError(f"{path}, line {number}: {len(row)} cells; wanted {len(header)}, one for each column")
    return header, rows


def read_tables(paths: Iterable[StrPath], *required: str) -> pd.DataFrame:
    """Read tables with the same columns as one, their rows in the order of `paths`; see `read_table`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        Also if two tables have different columns.
    """
    tables = {path: read_table(path, *required) for path in paths}
    first, *others = tables
    for path in others:
        if set(tables[path]) != set(tables[first]):
            found, wanted = (", ".join(tables[name].columns) for name in (path, first))
            raise ContractError(f"{path}: columns {found}; wanted those of {first}, {wanted}")
    return pd.concat(tables.values(), ignore_index=True)


def _values(path: StrPath, name: str, cells: tuple[str, ...]) -> pd.Series:
    """Return the cells of a column as text, or as numbers, if they are what the column holds."""
    values, wanted = _typed(path, name, cells), ""
    fits = pd.Series(True, index=values.index)
    if name in WORDS:
        fits, wanted = values.isin(WORDS[name]), f"one of {', '.join(WORDS[name])}"
    elif name in NUMBERS:
        fits, wanted = NUMBERS[name].hold(values) & (values.dtype != bool), NUMBERS[name].text
    if not fits.all():
        number = int(np.argmin(fits))
        raise ContractError(f"{path}, line {number + 2}: {name} is {cells[number][:80]!r}; wanted {wanted}")
    return values


def _typed(path: StrPath, name: str, cells: tuple[str, ...]) -> pd.Series:
    """Return the cells of a column as text, or as numbers."""
    if name in NAMES:
        return pd.Series(cells, dtype=str)
    if cells and all(cell in BOOLEANS for cell in cells):
        return pd.Series([BOOLEANS[cell] for cell in cells])
    for number_type in (np.int64, np.float64):
        try:
            return pd.Series(np.array([cell or "nan" for cell in cells]).astype(number_type))
        except (ValueError, OverflowError):
            pass
    line, cell = next((line, cell) for line, cell in enumerate(cells, start=2) if not _is_number(cell))
    raise ContractError(f"{path}, line {line}: {name} is {cell!r}; wanted a number")


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True
