"""Uncompressed NPZ files: arrays that are memory-mapped and read when indexed; written whole."""

import itertools
import math
import mmap
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ptycho.workflow.files import ContractError, replacing

BLOCK_BYTES = 1 << 22
"""Of an array that is gone through block by block: what is resident of it at a time."""


class MappedArray:
    """An array in a file that is read when indexed and keeps nothing: shape, dtype, len, and `[index]` as a copy.

    Parameters
    ----------
    path : Path
        File that holds the array's bytes in C order.
    offset : int
        Where they start.
    shape, dtype
        As of the array.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype):
        self.path, self.shape, self.dtype = Path(path), shape, np.dtype(dtype)
        self.memmap = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.memmap.nbytes

    def __getitem__(self, index):
        """Return a copy of the part, and drop the pages that reading it made resident."""
        return self.read(lambda array: array[index])

    def read(self, take):
        """Return a copy of what a function takes from the mapped array, and drop the pages as well."""
        part = np.array(take(self.memmap))
        drop_pages(self.memmap)
        return part

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[...], dtype=dtype)


def scratch_zeros(shape: tuple[int, ...], dtype, folder=None) -> np.ndarray:
    """Return zeros: in memory, or memory-mapped in a file of a folder, out of which `drop_pages` puts them.

    The file has no name: it goes with the array, or with the process, however that ends.

    Raises
    ------
    OSError
        If the file system has no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if folder is None or not size:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, and no SIGBUS later
        return np.memmap(file, dtype, "r+", shape=shape)


def drop_pages(array) -> None:
    """Make nothing of a memory-mapped array resident; what was written is in its file. Others stay as they are."""
    if isinstance(array, np.memmap):
        array._mmap.madvise(mmap.MADV_DONTNEED)


def row_blocks(array) -> Iterator[slice]:
    """Yield slices of an array's rows, some `BLOCK_BYTES` each; drop its pages after each."""
    rows = max(BLOCK_BYTES // max(array[:1].nbytes, 1), 1)
    for start in range(0, len(array), rows):
        yield slice(start, min(start + rows, len(array)))
        drop_pages(array)


def open_member(path: Path, key: str) -> MappedArray:
    """Memory-map one array of an uncompressed NPZ.

    Raises
    ------
    ContractError
        If the member is missing, compressed, of objects, or in Fortran order.
    """
    path = Path(path)
    with _readable(path) as archive:
        try:
            info = archive.getinfo(f"{key}.npy")
        except KeyError:
            raise ContractError(f"{path}: no key '{key}'; found {_names(archive)}") from None
        if info.compress_type != zipfile.ZIP_STORED:
            raise ContractError(
                f"{path}: '{key}' is compressed; wanted an uncompressed NPZ (np.savez): convert it once"
            )
        with archive.open(info) as member:
            shape, fortran, dtype = _read_header(member)
            header_size = member.tell()
    if dtype.hasobject or fortran:
        raise ContractError(
            f"{path}: '{key}' holds {'objects' if dtype.hasobject else 'Fortran order'}; wanted plain C order"
        )
    with path.open("rb") as file:  # the local header's own lengths, which may differ from the directory's
        file.seek(info.header_offset + 26)
        name_size, extra_size = np.frombuffer(file.read(4), "<u2")
    offset = info.header_offset + 30 + int(name_size) + int(extra_size) + header_size
    return MappedArray(path, offset, shape, dtype)


def keys_of(path) -> list[str]:
    """List the arrays of an NPZ.

    Raises
    ------
    ContractError
        If there is no such file, or it is no NPZ.
    """
    with _readable(Path(path)) as archive:
        return _names(archive)


def check_keys(path, wanted: Iterable[str], *, old: Iterable[str] = ()) -> None:
    """Look whether a file has the arrays that are wanted.

    Parameters
    ----------
    old : iterable of str
        Keys that ptycho 0.1 wrote in their place: a file with one of them is said to be of that version.

    Raises
    ------
    ContractError
        If there is no such file, it is no NPZ, or lacks a key.
    """
    found = keys_of(path)
    missing = [key for key in wanted if key not in found]
    if missing:
        hint = "; written by ptycho 0.1: run the study again" if set(old) & set(found) else ""
        raise ContractError(f"{path}: no key {', '.join(map(repr, missing))}; found {found}{hint}")


def _names(archive: zipfile.ZipFile) -> list[str]:
    return sorted(name.removesuffix(".npy") for name in archive.namelist())


@contextmanager
def _readable(path: Path):
    """Open an NPZ and say in one line what is wrong with it."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise ContractError(f"{path}: no such file") from None
    except ContractError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise ContractError(f"{path}: not an NPZ, cut short, or damaged ({error})") from None


def check_members(path, *keys: str) -> None:
    """Hold every byte of some arrays against the file's own check sums.

    Raises
    ------
    ContractError
        If the file is missing, cut short or damaged, or lacks a key.
    """
    with _readable(Path(path)) as archive:
        for key in keys:
            if f"{key}.npy" not in archive.namelist():
                raise ContractError(f"{path}: no key '{key}'; found {_names(archive)}")
            with archive.open(f"{key}.npy") as member:
                while member.read(1 << 20):
                    pass


def load_arrays(path, *keys: str) -> list[np.ndarray]:
    """Read arrays whole, after `check_members`.

    Raises
    ------
    ContractError
        If the file is missing, cut short or damaged, or lacks a key.
    """
    check_members(path, *keys)  # before anything is believed
    arrays = []
    with _readable(Path(path)) as archive:
        for key in keys:
            with archive.open(f"{key}.npy") as member:
                arrays.append(np.lib.format.read_array(member, allow_pickle=False))
    return arrays


def _read_header(member):
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    return read(member)


def save_arrays(path, first: Iterable[tuple[str, np.ndarray]] = (), **arrays) -> None:
    """Write an uncompressed NPZ that is either whole or not there; mapped arrays are never resident as a whole.

    Parameters
    ----------
    first : iterable of (str, array)
        What is written before the others, taken one at a time.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for key, array in itertools.chain(first, arrays.items()):
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                _write_member(member, np.asanyarray(array, order="C"))


def _write_member(member, array) -> None:
    if not isinstance(array, np.memmap):
        return np.lib.format.write_array(member, array, allow_pickle=False)
    np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
    for rows in row_blocks(array):
        member.write(array[rows].tobytes())
    return None
