"""Uncompressed NPZ files: arrays that are memory-mapped and read when indexed; files that are whole or not there."""

import mmap
import os
import re
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np


class ContractError(ValueError):
    """A file does not hold what is wanted: the message names file, key, what was found and what is wanted."""


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
        self._map = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self._map.nbytes

    def __getitem__(self, index):
        """Return a copy of the part, and drop the pages that reading it made resident."""
        return self.read(lambda array: array[index])

    def read(self, take):
        """Return a copy of what a function takes from the mapped array, and drop the pages as well."""
        part = np.array(take(self._map))
        self._map._mmap.madvise(mmap.MADV_DONTNEED)
        return part

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[...], dtype=dtype)


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


def load_arrays(path, *keys: str) -> list[np.ndarray]:
    """Read arrays whole; every byte is held against the file's own check sums.

    Raises
    ------
    ContractError
        If the file is missing, cut short or damaged, or lacks a key.
    """
    arrays = []
    with _readable(Path(path)) as archive:
        for key in keys:
            if f"{key}.npy" not in archive.namelist():
                raise ContractError(f"{path}: no key '{key}'; found {_names(archive)}")
            with archive.open(f"{key}.npy") as member:  # once through, for the check sum, before anything is believed
                while member.read(1 << 20):
                    pass
            with archive.open(f"{key}.npy") as member:
                arrays.append(np.lib.format.read_array(member, allow_pickle=False))
    return arrays


def _read_header(member):
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    return read(member)


@contextmanager
def replacing(path):
    """Give a temporary name beside `path` to write to; rename it when the block ends well, remove it otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` on this machine have left."""
    for leftover in path.parent.glob(f".{path.stem}.*{path.suffix}"):
        found = re.fullmatch(rf"\.{re.escape(path.stem)}\.(\d+){re.escape(path.suffix)}", leftover.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            leftover.unlink(missing_ok=True)


def save_arrays(path, **arrays) -> None:
    """Write an uncompressed NPZ that is either whole or not there."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{key: np.asarray(array, order="C") for key, array in arrays.items()})
