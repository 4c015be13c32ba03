"""Input files of a conversion: what each is by its content, and arrays with names from NPZ and HDF5 alike.

Files are only read: pickles are never loaded, and links of HDF5 files are followed inside the folder of the file alone,
unless asked. An array is read whole only if it is small; frames are read in blocks.
"""

import bz2
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ptycho.data.lazy import LazyArray
from ptycho.workflow.damage import reading, require_file
from ptycho.workflow.files import ContractError, StrPath, temporary_folder
from ptycho.workflow.limits import check_bytes

MAX_ARRAY_BYTES = 1 << 30
"""Largest array that is read whole, unless more is allowed: positions, probe, object, mask."""
SAME = 1e-3
"""Relative difference of numbers that are written for every exposure, or axis, up to which they are the same."""
MAGIC = {
    b"PK\x03\x04": "npz",
    b"PK\x05\x06": "npz",
    b"\x93NUMPY": "npy",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"BZh": "bz2",
    b"\x80": "pickle",
}
"""First bytes of a file -> its kind."""
TABLES = (".csv", ".txt", ".dat", ".tsv")
"""Suffixes of tables."""
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HDF5_OFFSETS = (0, 512, 1024, 2048)
"""Where the signature of an HDF5 file may be: behind a user block of that size, as MATLAB writes it."""


def check_size(path: StrPath, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse to read an array whole that is too large for positions, a probe, an object or a mask.

    Raises
    ------
    ContractError
        If it has more than `MAX_ARRAY_BYTES`, or more than a file may claim.
    """
    size = math.prod(int(side) for side in shape) * dtype.itemsize
    check_bytes(path, f"'{key}' with shape {shape}", size, MAX_ARRAY_BYTES)


class KeyedFile(Protocol):
    """Arrays with names, in an NPZ or an HDF5 file."""

    path: Path
    pickled: Sequence[str]
    """Names of pickled arrays, which are never read."""
    is_used: bool
    """Whether an array of it has been read or opened."""

    def names(self, group: str = "") -> list[str]:
        """Names at the top, or in a group."""
        ...

    def __contains__(self, key: str, /) -> bool: ...

    def array(self, key: str) -> NDArray[Any]:
        """Read a small array."""
        ...

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an array."""
        ...

    def frames(self, key: str, last: bool = False) -> LazyArray:
        """Open an array that is read in blocks of its first axis, or of its last one."""
        ...

    def attribute(self, key: str, name: str) -> Any:
        """Attribute of an array, or of the file (""); None if there is none."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def number(file: KeyedFile, *keys: str, option: str = "") -> float | None:
    """Return the number under the first of some keys that exists; None if none does.

    Parameters
    ----------
    file : KeyedFile
        The file.
    *keys : str
        Tried in this order.
    option : str
        What gives it in place of the file, for the message.

    Raises
    ------
    ContractError
        If it is not one finite number; repeated, it may differ by `SAME`.
    """
    key = next((key for key in keys if key in file), None)
    if key is None:
        return None
    values = np.ravel(file.array(key))
    wanted = f"wanted a finite number{f', or {option}' if option else ''}"
    if values.dtype.kind in "OSU" and values.size == 1:  # objects are texts of any length in HDF5
        text = values[0].decode("utf-8", "replace") if isinstance(values[0], bytes) else str(values[0])
        try:
            values = np.array([float(text)])
        except ValueError:
            raise ContractError(f"{file.path}: '{key}' is the text {text[:40]!r}; {wanted}") from None
    if values.dtype.kind not in "uif" or values.size < 1:
        raise ContractError(f"{file.path}: '{key}' is {values.dtype} with shape {values.shape}; {wanted}")
    wrong = values[~np.isfinite(values)]
    if wrong.size:
        raise ContractError(f"{file.path}: '{key}' is {wrong[0]}; {wanted}")
    low, high = float(values.min()), float(values.max())
    if high - low > SAME * max(abs(low), abs(high)):
        raise ContractError(f"{file.path}: '{key}' is {low:g} to {high:g}; {wanted.replace('a finite', 'one')}")
    return float(values[0])


def numbers(file: KeyedFile, key: str, kinds: str = "uif") -> NDArray[Any]:
    """Read an array of numbers.

    Parameters
    ----------
    file : KeyedFile
        The file.
    key : str
        Where it is.
    kinds : str
        Kinds of NumPy's types that will do: u and i integers, f floats, c complex numbers, b truth values.

    Raises
    ------
    ContractError
        If it has another type, or no element.
    """
    values = file.array(key)
    if values.dtype.kind not in kinds or not values.size:
        wanted = "numbers" if "c" not in kinds else "numbers, complex or not"
        wanted = wanted if values.size else "at least one number"
        raise ContractError(f"{file.path}: '{key}' is {values.dtype} with shape {values.shape}; wanted {wanted}")
    return values


def first_of(file: KeyedFile, *keys: str) -> str | None:
    """Return the first of some keys that a file has; None if it has none."""
    return next((key for key in keys if key in file), None)


def require(file: KeyedFile, *keys: str) -> str:
    """Return the first of some keys that a file has.

    Raises
    ------
    ContractError
        If it has none.
    """
    key = first_of(file, *keys)
    if key is None:
        pickled = [key for key in keys if key in file.pickled]
        if pickled:
            raise ContractError(
                f"{file.path}: '{pickled[0]}' is pickled, and pickles are never read; save it as an array"
            )
        raise ContractError(f"{file.path}: no key {' or '.join(map(repr, keys))}; found {file.names()}")
    return key


def skipped(file: KeyedFile) -> list[str]:
    """Say which keys are pickled."""
    return [f"skipped: '{key}', which is pickled" for key in file.pickled]


class Inputs:
    """The input files of one conversion, open until the block that uses them ends.

    Parameters
    ----------
    paths : iterable of path
        In any order.
    follow_links : bool
        Read files outside the folder of an input that it links to.

    Raises
    ------
    ContractError
        If a file is missing, is a folder, is of no kind that can be read, or is damaged.
    """

    def __init__(self, paths: Iterable[StrPath], follow_links: bool = False):
        self.paths = [Path(path) for path in paths]
        self._stack = ExitStack()
        self.keyed: list[KeyedFile] = []
        """NPZ and HDF5 files."""
        self.images: list[Path] = []
        """TIFF files."""
        self.tables: list[Path] = []
        """Text files."""
        self.other: list[tuple[Path, str]] = []
        """Files of other kinds, and their kinds."""
        self._used: set[Path] = set()
        try:
            for path in self.paths:
                self._open(path, kind_of(path), follow_links)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, kind: str, follow_links: bool) -> None:
        if kind == "npz":
            from ptycho.formats.npz_files import NpzFile

            self.keyed.append(NpzFile(path))
        elif kind == "bz2":
            self._open_unpacked(path, follow_links)
        elif kind == "hdf5":
            from ptycho.formats.hdf5_files import Hdf5File

            self.keyed.append(Hdf5File(path, follow_links))
        elif kind == "tiff":
            self.images.append(path)
        elif kind == "table":
            self.tables.append(path)
        else:
            self.other.append((path, kind))

    def _open_unpacked(self, path: Path, follow_links: bool) -> None:
        """Open a file that is compressed with bzip2: unpacked into a folder that is removed with this object."""
        folder = self._stack.enter_context(temporary_folder())
        unpacked = folder / path.stem
        with reading(path), bz2.BZ2File(path) as packed, unpacked.open("wb") as file:
            while block := packed.read(1 << 20):
                check_bytes(path, "unpacked, it", file.tell() + len(block))
                file.write(block)
        self._open(unpacked, kind_of(unpacked), follow_links)

    @property
    def name(self) -> str:
        """The files, in messages."""
        return str(self.paths[0]) if len(self.paths) == 1 else f"{self.paths[0]} and {len(self.paths) - 1} more"

    def find(self, *keys: str) -> KeyedFile | None:
        """Return the first file that has all of some keys."""
        return next((file for file in self.keyed if all(key in file for key in keys)), None)

    def use(self, *paths: Path) -> None:
        """Mark images and tables as used by a reader; NPZ and HDF5 files know it themselves."""
        self._used.update(paths)

    @property
    def unused(self) -> list[Path]:
        """The files that a reader has taken nothing from."""
        keyed = [file.path for file in self.keyed if not file.is_used]
        others = [*self.images, *self.tables, *(path for path, _ in self.other)]
        return [*keyed, *(path for path in others if path not in self._used)]

    def close(self) -> None:
        """Close all files."""
        for file in self.keyed:
            file.close()
        self._stack.close()

    def __enter__(self) -> "Inputs":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def kind_of(path: Path) -> str:
    """Return what a file is, by its first bytes: npz, hdf5, tiff, npy, bz2, pickle, mat5, table or unknown.

    Raises
    ------
    ContractError
        If there is no such file, or it is a folder.
    """
    require_file(path)
    with reading(path), path.open("rb") as file:
        start = file.read(HDF5_OFFSETS[-1] + len(HDF5_SIGNATURE))
    if not start:
        raise ContractError(f"{path}: an empty file")
    if any(start[offset:].startswith(HDF5_SIGNATURE) for offset in HDF5_OFFSETS):
        return "hdf5"
    if start.startswith(b"MATLAB 5.0"):
        return "mat5"
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    return kind or ("table" if path.suffix.lower() in TABLES and b"\0" not in start else "unknown")
