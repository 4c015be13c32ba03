"""Uncompressed NPZ files: arrays that are memory-mapped and read when indexed; files that are complete or absent."""

import errno
import itertools
import math
import mmap
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ptycho.workflow.files import ContractError, StrPath, explained, replacing

BLOCK_BYTES = 1 << 22
"""Size of the blocks in which an array is processed: this much of it is resident at a time."""


class MappedArray:
    """An array in a file that is read when indexed: shape, dtype, len, and `[index]`, which returns a copy.

    Parameters
    ----------
    path : path
        File that holds the array's bytes in C order.
    offset : int
        Position of the first byte.
    shape : tuple of int
        Length of every axis.
    dtype : dtype
        Type of the elements.
    """

    def __init__(self, path: StrPath, offset: int, shape: tuple[int, ...], dtype: DTypeLike):
        self.path, self.shape, self.dtype = Path(path), shape, np.dtype(dtype)
        self.memmap = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in the file [byte]."""
        return self.memmap.nbytes

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Return a copy of a part, and drop the pages that were read."""
        return self.read(lambda array: array[index])

    def read(self, take: Callable[[NDArray[Any]], ArrayLike]) -> NDArray[Any]:
        """Return a copy of what a function takes from the mapped array, and drop the pages that were read."""
        part = np.array(take(self.memmap))
        drop_pages(self.memmap)
        return part

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)


def scratch_zeros(shape: tuple[int, ...], dtype: DTypeLike, folder: StrPath | None = None) -> NDArray[Any]:
    """Return an array of zeros: in memory, or, given a folder, memory-mapped in a file there; see `drop_pages`.

    The file has no name. It disappears with the array, or with the process, however that ends.

    Raises
    ------
    ptycho.workflow.files.WriteError
        If the disk has no room for it, or the folder cannot be written to.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if folder is None or not size:
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _allocate(file.fileno(), size)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise explained(error, Path(folder, f"scratch file of {size / 1e6:.0f} MB")) from error


def _allocate(descriptor: int, size: int) -> None:
    """Reserve disk space where the platform can (Linux): a full disk is an error now instead of a SIGBUS later."""
    if hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
    return os.ftruncate(descriptor, size)


def drop_pages(array: NDArray[Any]) -> None:
    """Remove a memory-mapped array from memory; written values stay in its file. Other arrays are left alone."""
    if isinstance(array, np.memmap):
        array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]  # NumPy documents no public name


def row_blocks(array: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of an array's rows, of about `BLOCK_BYTES` each; drop its pages after each."""
    rows = max(BLOCK_BYTES // max(array[:1].nbytes, 1), 1)
    for start in range(0, len(array), rows):
        yield slice(start, min(start + rows, len(array)))
        drop_pages(array)


def open_member(path: StrPath, key: str) -> MappedArray:
    """Memory-map one array of an uncompressed NPZ.

    Raises
    ------
    ContractError
        If the member is missing, compressed, of objects, or in Fortran order.
    """
    return map_member(path, key, locate_members(path, key)[key])


def map_member(path: StrPath, key: str, member: "Member") -> MappedArray:
    """Memory-map an array that `locate_members` has found; errors as `open_member`."""
    if member.compressed:
        raise ContractError(f"{path}: '{key}' is compressed; wanted an uncompressed NPZ (np.savez): convert it once")
    if member.dtype.hasobject or member.fortran:
        kind = "objects" if member.dtype.hasobject else "Fortran order"
        raise ContractError(f"{path}: '{key}' holds {kind}; wanted plain C order")
    return MappedArray(path, member.offset, member.shape, member.dtype)


@dataclass(frozen=True)
class Member:
    """Where an array of an NPZ is, and what its header says."""

    shape: tuple[int, ...]
    fortran: bool
    """Whether it is stored in Fortran order."""
    dtype: np.dtype[Any]
    compressed: bool
    offset: int
    """Position of the first byte of its values in the file; of no use if it is compressed."""


def locate_members(path: StrPath, *keys: str) -> dict[str, Member]:
    """Read the headers of some arrays of an NPZ, whose directory is read once; objects are not unpickled.

    Raises
    ------
    ContractError
        If the file is missing or not an NPZ, or lacks a key.
    """
    path = Path(path)
    with _readable(path) as archive, path.open("rb") as file:
        return {key: _locate(archive, file, _find(archive, path, key)) for key in keys}


def _locate(archive: zipfile.ZipFile, file: IO[bytes], info: zipfile.ZipInfo) -> Member:
    """Read the header of an array of an archive, which is open as `file`, too."""
    with archive.open(info) as member:
        shape, fortran, dtype = _read_header(member)
        header_size = member.tell()
    file.seek(info.header_offset + 26)  # lengths in the local header, which may differ from those in the directory
    name_size, extra_size = np.frombuffer(file.read(4), "<u2")
    offset = info.header_offset + 30 + int(name_size) + int(extra_size) + header_size
    return Member(shape, fortran, dtype, info.compress_type != zipfile.ZIP_STORED, offset)


def _find(archive: zipfile.ZipFile, path: Path, key: str) -> zipfile.ZipInfo:
    """Return the entry of an array in the directory of an archive, or refuse with the keys that there are."""
    try:
        return archive.getinfo(f"{key}.npy")
    except KeyError:
        raise ContractError(f"{path}: no key '{key}'; found {_names(archive)}") from None


def keys_of(path: StrPath) -> list[str]:
    """List the arrays of an NPZ.

    Raises
    ------
    ContractError
        If the file is missing or not an NPZ.
    """
    with _readable(Path(path)) as archive:
        return _names(archive)


def check_keys(path: StrPath, wanted: Iterable[str], *, old: Iterable[str] = ()) -> None:
    """Check that a file has the wanted arrays.

    Parameters
    ----------
    old : iterable of str
        Keys that ptycho 0.1 wrote in their place; the message says so if one of them is there.

    Raises
    ------
    ContractError
        If the file is missing, not an NPZ, or lacks a key.
    """
    keys = keys_of(path)
    missing = [key for key in wanted if key not in keys]
    if missing:
        hint = "; written by ptycho 0.1: run the study again" if set(old) & set(keys) else ""
        raise ContractError(f"{path}: no key {', '.join(map(repr, missing))}; found {keys}{hint}")


def _names(archive: zipfile.ZipFile) -> list[str]:
    return sorted(name.removesuffix(".npy") for name in archive.namelist())


@contextmanager
def _readable(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an NPZ; turn errors of reading it into a `ContractError` of one line."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise ContractError(f"{path}: no such file") from None
    except ContractError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise ContractError(f"{path}: not an NPZ, cut short, or damaged ({error})") from None


def check_members(path: StrPath, *keys: str) -> None:
    """Check every byte of some arrays against the file's own checksums.

    Raises
    ------
    ContractError
        If the file is missing, cut short or damaged, or lacks a key.
    """
    with _readable(Path(path)) as archive:
        for key in keys:
            with archive.open(_find(archive, Path(path), key)) as member:
                while member.read(1 << 20):
                    pass


def load_arrays(path: StrPath, *keys: str) -> list[NDArray[Any]]:
    """Read arrays into memory, after `check_members`.

    Raises
    ------
    ContractError
        If the file is missing, cut short or damaged, or lacks a key.
    """
    check_members(path, *keys)  # before any content is used
    arrays = []
    with _readable(Path(path)) as archive:
        for key in keys:
            with archive.open(f"{key}.npy") as member:
                arrays.append(np.lib.format.read_array(member, allow_pickle=False))
    return arrays


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and dtype."""
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"an array of NumPy's format {version}")
    try:
        return read[version](member)
    except (SyntaxError, tokenize.TokenError) as error:  # what NumPy raises for some damaged headers
        raise ValueError(error) from None


def save_arrays(path: StrPath, first: Iterable[tuple[str, ArrayLike]] = (), **arrays: ArrayLike) -> None:
    """Write an uncompressed NPZ that is complete or absent; of mapped arrays, one block is resident at a time.

    Parameters
    ----------
    first : iterable of (str, array)
        Written before the others, taken one at a time.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for key, array in itertools.chain(first, arrays.items()):
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                _write_member(member, np.asanyarray(array, order="C"))


def _write_member(member: IO[bytes], array: NDArray[Any]) -> None:
    if not isinstance(array, np.memmap):
        return np.lib.format.write_array(member, array, allow_pickle=False)
    np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
    for rows in row_blocks(array):
        member.write(array[rows].tobytes())
    return None
