"""NPZ files of other programs: compressed or not, in C or Fortran order, with pickled members that are left alone."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.lazy import LazyArray
from ptycho.data.mapped import MappedArray, drop_pages, scratch_zeros
from ptycho.data.npz import Member, Npz
from ptycho.formats.inputs import check_size
from ptycho.workflow.damage import reading
from ptycho.workflow.files import ContractError, explaining_tmpdir

IN_MEMORY_BYTES = 1 << 26
"""Compressed frames that cannot be read in order are unpacked in memory up to this size, above it in a file."""
STEP_BYTES = 1 << 24
"""How much is unpacked or skipped at a time."""


class NpzFile:
    """An NPZ: its keys, its arrays, and which of them are pickled.

    Raises
    ------
    ContractError
        If it is damaged.
    """

    def __init__(self, path: Path):
        self.path, self.is_used = path, False
        with Npz(path) as file:
            self._members = {key: file.member(key) for key in sorted(file.keys)}
        self.pickled: Sequence[str] = sorted(key for key, member in self._members.items() if member.dtype.hasobject)
        """Keys of pickled arrays, which are never read."""

    def names(self, group: str = "") -> list[str]:
        """Names of arrays that can be read."""
        return [key for key in sorted(self._members) if key not in self.pickled]

    def __contains__(self, key: str) -> bool:
        return key in self._members and key not in self.pickled

    def array(self, key: str) -> NDArray[Any]:
        """Read a small array.

        Raises
        ------
        ContractError
            If it is too large or damaged.
        """
        self.is_used, member = True, self._members[key]
        check_size(self.path, key, member.shape, member.dtype)
        with Npz(self.path) as file:
            return file.array(key)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an array, which is not read."""
        return self._members[key].shape

    def frames(self, key: str, last: bool = False) -> LazyArray:
        """Open an array that is read in blocks of its first axis, or of its last one.

        (M, H, W) is read in order. Where that does not go, because exposures are on the last axis, or the order is
        Fortran's, the array is mapped when all of it has been read for its checksum, or unpacked if it is compressed.
        """
        self.is_used, member = True, self._members[key]
        if len(member.shape) == 3 and not member.fortran and not last:
            return StreamedArray(self.path, key, member)
        shape = member.shape[::-1] if member.fortran else member.shape
        with reading(self.path, f"'{key}'"):
            array: LazyArray = (
                _unpacked(self.path, key, shape, member.dtype)
                if member.compressed
                else _mapped(self.path, key, shape, member)
            )
        if member.fortran and len(member.shape) > 3:
            raise ContractError(f"{self.path}: '{key}' has shape {member.shape} in Fortran order; wanted (M, N, N)")
        return _Transposed(array, member.shape) if member.fortran else array

    def attribute(self, key: str, name: str) -> Any:
        """An NPZ has no attributes."""
        return None

    def close(self) -> None:
        """Nothing stays open."""


def _mapped(path: Path, key: str, shape: tuple[int, ...], member: Member) -> MappedArray:
    with Npz(path) as file:
        file.check(key)
    return MappedArray(path, member.offset, shape, member.dtype, f"'{key}'")


class StreamedArray:
    """An array of an NPZ that is read in order along its first axis, checked against the archive's checksum.

    Parameters
    ----------
    path : path
        The NPZ.
    key : str
        Name of the array.
    member : Member
        Its header.
    """

    def __init__(self, path: Path, key: str, member: Member):
        self.path, self.key = path, key
        self.shape, self.dtype = member.shape, member.dtype
        self._row_bytes = max(math.prod(member.shape[1:]) * member.dtype.itemsize, 1)
        self._archive: Npz | None = None
        self._file: IO[bytes] | None = None
        self._next = 0

    def __len__(self) -> int:
        return self.shape[0]

    def _restart(self) -> IO[bytes]:
        self.close()
        self._archive = Npz(self.path)
        file = self._archive.open(self.key)
        version = np.lib.format.read_magic(file)
        skip = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        file.read(skip)
        self._file, self._next = file, 0
        return file

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._archive is not None and self._file is not None:
            self._file.close()
            self._archive.close()
        self._archive = self._file = None

    def finish(self) -> None:
        """Read on to the end, where the checksum is compared.

        Raises
        ------
        ContractError
            If the array is damaged.
        """
        self[len(self) :]

    def __getitem__(self, index: slice) -> NDArray[Any]:
        """Return rows from `start` to `stop`; going back starts again at the beginning of the array."""
        start, stop, _ = index.indices(len(self))
        with reading(self.path, f"'{self.key}'"):
            file = self._restart() if self._file is None or start < self._next else self._file
            while self._next < start:
                count = min(start - self._next, max(STEP_BYTES // self._row_bytes, 1))
                _read_exactly(file, count * self._row_bytes)
                self._next += count
            values = _read_exactly(file, (stop - start) * self._row_bytes)
            self._next = stop
            return np.frombuffer(values, self.dtype).reshape(stop - start, *self.shape[1:])


def _read_exactly(file: IO[bytes], count: int) -> bytes:
    values = file.read(count)
    if len(values) < count:
        raise EOFError(f"{count - len(values)} bytes are missing")
    return values


def _unpacked(path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> LazyArray:
    """Unpack an array in memory if it is small, and otherwise in a file without a name."""
    size = math.prod(shape) * dtype.itemsize
    with explaining_tmpdir():
        unpacked = scratch_zeros((size,), np.uint8, None if size <= IN_MEMORY_BYTES else tempfile.gettempdir())
    stream = StreamedArray(path, key, Member((size,), False, np.dtype(np.uint8), True, 0))
    for start in range(0, size, STEP_BYTES):
        unpacked[start : start + STEP_BYTES] = stream[start : min(start + STEP_BYTES, size)]
        drop_pages(unpacked)
    return _Unpacked(unpacked.view(dtype).reshape(shape))


class _Unpacked:
    """An array whose pages are dropped when a part of it has been read."""

    def __init__(self, array: NDArray[Any]):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        part = np.array(self._array[index])
        drop_pages(self._array)
        return part


class _Transposed:
    """An array in Fortran order, read through its transpose in C order, along its first or its last axis."""

    def __init__(self, reversed_array: LazyArray, shape: tuple[int, ...]):
        self._array, self.shape, self.dtype = reversed_array, shape, reversed_array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        full = index if isinstance(index, tuple) else (index,)
        full = (*full, *(slice(None) for _ in range(len(self.shape) - len(full))))
        return np.transpose(self._array[full[::-1]])
