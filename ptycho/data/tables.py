"""Tables as CSV files: names are text, whatever they look like, and all other columns are numbers."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ptycho.workflow.files import ContractError, StrPath

NAMES = frozenset(
    ("object", "view", "split", "method", "versus", "metric", "part", "threshold", "status", "stage", "tile", "variant")
)
"""Columns of text: a view may be called 70, 1e5, NA or null."""
BOOLEANS = {"True": True, "False": False}


def read_table(path: StrPath, *required: str) -> pd.DataFrame:
    """Read a table that `ptycho.workflow.files.save_table` has written.

    Parameters
    ----------
    path : path
        CSV, UTF-8, one line of column names.
    *required : str
        Columns that it must have.

    Returns
    -------
    DataFrame
        Columns of `NAMES` as text, the others as int64, float64 (an empty cell is NaN) or bool.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing or no table, a line has another number of cells than the first, a column is missing or
        there twice, or a column of numbers holds text; the message names file, line and column.
    """
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
    if missing := [name for name in required if name not in header]:
        raise ContractError(f"{path}: no column {', '.join(map(repr, missing))}; found {', '.join(header)}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ContractError(f"{path}, line {number}: {len(row)} cells; wanted {len(header)}, one for each column")
    columns = zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True)
    return pd.DataFrame({name: _values(path, name, cells) for name, cells in columns})


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
