"""Frames in TIFF files, one or many to a file, with positions in a table."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.lazy import LazyArray
from ptycho.data.mapped import MappedArray
from ptycho.formats.image_files import open_tiff
from ptycho.formats.inputs import Inputs
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Concatenated, Format, OpenConvention, RawFrames, RawScan
from ptycho.workflow.damage import reading
from ptycho.workflow.files import ContractError

UNITS = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "micron": 1e-6, "microns": 1e-6, "nm": 1e-9}  # noqa: RUF001
"""Unit in a header -> meters."""
PIXELS = ("px", "pixel", "pixels")
NUMBERS = ("frame", "index", "exposure", "number")
"""Names of a column with the numbers of frames."""
DECIMAL_COMMA = re.compile(r"^(\s*[-+]?\d*),(\d+(?:[eE][-+]?\d+)?\s*)$")
"""A number with a comma before its decimals."""
MAX_ROWS = 10_000_000
MAX_NUMBER = 2**53
"""Largest number of a frame: beyond it, floats do not tell one from the next."""


def recognizes(inputs: Inputs) -> bool:
    """Whether there are TIFF files."""
    return bool(inputs.images)


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open frames in the order of the files, and the positions of the table.

    Raises
    ------
    ContractError
        If there is no table, or not one; if frames differ in size; if the table has no two columns of numbers.
    """
    if len(inputs.tables) != 1:
        raise ContractError(f"{inputs.name}: frames with {len(inputs.tables)} tables of positions; wanted one CSV file")
    inputs.use(*inputs.images, *inputs.tables)
    stacks = [_open_stack(path) for path in inputs.images]
    sizes = {stack.shape[1:] for stack in stacks}
    if len(sizes) > 1:
        raise ContractError(f"{inputs.name}: frames of {' and '.join(map(str, sorted(sizes)))} px; wanted one size")
    table = inputs.tables[0]
    names, values = read_table(table)
    positions, numbers, unit, asked, said = _columns(table, names, values, options)
    first, last = inputs.images[0].name, inputs.images[-1].name
    order = f"{first} alone" if len(stacks) == 1 else f"{len(stacks)} files in the order given, {first} to {last}"
    return RawScan(
        name=inputs.name,
        frames=RawFrames(Concatenated(stacks)),
        quantity=None,
        positions=positions,
        unit=unit,
        position_numbers=numbers,
        keys={"frames": first, "positions": table.name, "position_numbers": table.name},
        conventions=(
            f"frames: {order}, rows and columns as they are; zero frequency taken at [H/2, W/2]",
            f"positions: {table.name}, {said}",
        ),
        open=tuple(asked),
    )


class _Pages:
    """The pages of a compressed TIFF, read one by one."""

    def __init__(self, path: Path, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]):
        self._path, self.shape, self.dtype = path, (count, *shape), dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> NDArray[Any]:
        with reading(self._path), open_tiff(self._path) as file:
            return np.asarray(file.asarray(key=index)).reshape(-1, *self.shape[1:])


def _open_stack(path: Path) -> LazyArray:
    """Open the frames of a file, (m, H, W): mapped if they lie together, otherwise page by page."""
    with reading(path), open_tiff(path) as file:
        series = file.series[0]
        shape, dtype, offset, count = series.shape, series.dtype, series.dataoffset, len(file.pages)
        order = file.byteorder
    if dtype is None or dtype.kind not in "buif" or len(shape) not in (2, 3):
        raise ContractError(f"{path}: {dtype} with shape {shape}; wanted gray frames, (M, H, W)")
    shape = (1, *shape) if len(shape) == 2 else shape
    if offset is not None:
        if not isinstance(offset, int):
            raise ContractError(f"{path}: its frames start at byte {offset}; wanted a whole number")
        with reading(path):
            return MappedArray(path, offset, shape, dtype.newbyteorder(order))
    if count != shape[0]:
        raise ContractError(f"{path}: {count} pages with shape {shape}; wanted a page for each frame")
    return _Pages(path, count, shape[1:], dtype)


def read_table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Read a table of numbers; return the names of its columns, none without a header, and the numbers, (K, columns).

    Columns are separated by commas, semicolons, tabs or blanks; lines that start with # are left out.

    Raises
    ------
    ContractError
        If a line holds other things than numbers, or has another number of columns.
    """
    with reading(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or len(lines) > MAX_ROWS:
        raise ContractError(f"{path}: {len(lines)} lines; wanted one for each exposure")
    separator = next((mark for mark in (";", "\t", ",") if mark in lines[-1]), None)
    rows = list(csv.reader(lines, delimiter=separator)) if separator else [line.split() for line in lines]
    if separator in (";", "\t"):
        rows = [[DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in row] for row in rows]
    names: list[str] = []
    if not _are_numbers(rows[0]):
        names, rows = [name.strip() for name in rows[0]], rows[1:]
    for number, row in enumerate(rows):
        if not _are_numbers(row) or len(row) != len(rows[0]) or len(row) < 2:
            raise ContractError(
                f"{path}: row {number} is {' '.join(row)[:60]!r}; wanted numbers in {len(rows[0])} columns"
            )
    return names, np.array(rows, np.float64).reshape(len(rows), -1)


def _are_numbers(row: list[str]) -> bool:
    try:
        return bool([float(cell) for cell in row])
    except ValueError:
        return False


def _columns(
    path: Path, names: list[str], values: NDArray[np.float64], options: ConversionOptions
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None, Any, list[OpenConvention], str]:
    """Return positions [x, y], numbers of frames, unit, what is not known, and what was taken."""
    words = [re.findall(r"[^\W_\d]+", name.lower()) for name in names]
    places = {axis: next((i for i, word in enumerate(words) if axis in word), None) for axis in "xy"}
    asked = []
    x, y = places["x"], places["y"]
    if x is None or y is None:
        x, y = (1, 0) if options.position_columns == "yx" else (0, 1)
        answers = "--position-columns xy or --position-columns yx, or a first line with the names of the columns"
        asked.append(OpenConvention(f"which columns of {path.name} are x and y", answers, ("position_columns",)))
    meters = {UNITS[unit] for i in (x, y) if i < len(words) for unit in words[i] if unit in UNITS}
    pixels = any(unit in PIXELS for i in (x, y) if i < len(words) for unit in words[i])
    unit = "m" if len(meters) == 1 else "px" if pixels else None
    if unit is None:
        answers = "--position-unit m, mm, um, nm or px, or the unit in the names of the columns (x_um, y_um)"
        asked.append(OpenConvention(f"the unit of the positions in {path.name}", answers, ("position_unit",)))
    positions = values[:, [x, y]] * (meters.pop() if unit == "m" else 1.0)
    place = next((i for i, name in enumerate(names) if name.strip().lower() in NUMBERS), None)
    numbers = None if place is None else _whole(path, names[place], values[:, place])
    said = f"columns {x} (x) and {y} (y)" + ("" if numbers is None else f", of the frames in column {place}")
    return positions, numbers, unit, asked, said


def _whole(path: Path, name: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return numbers of frames as integers; refuse those that are none."""
    right = (np.abs(values) <= MAX_NUMBER) & (values == np.floor(values))
    if not right.all():
        raise ContractError(f"{path}: '{name}' is {values[~right][0]:g} somewhere; wanted numbers of frames")
    return values.astype(np.int64)


FORMAT = Format(name="tiff", title="TIFF and a table", recognizes=recognizes, read=read)
