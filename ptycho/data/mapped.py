"""Arrays in files that are read when indexed, and scratch arrays in files: memory does not grow with them."""

import errno
import math
import mmap
import os
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ptycho.workflow.files import ContractError, StrPath, explained

BLOCK_BYTES = 1 << 22
"""Size of the blocks in which an array is processed: this much of it is resident at a time."""
FRAME_CHECKSUMS = "frame_checksums"
"""Key of the CRC-32 of a scan's frames."""
MOST_NAMED = 10
"""Damaged exposures that a message lists."""


class MappedArray:
    """An array in a file that is read when indexed: shape, dtype, len, and `[index]`, which returns a copy.

    Bytes are read by system calls, which fail with a message where the file has become shorter; a page that is mapped
    would end the process by a signal. Of a box, `[rows, columns]`, nothing else is read; any other part of rows is
    taken from whole ones.

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
    key : str
        Name in messages.

    Raises
    ------
    ContractError
        If the file ends before the array does.
    """

    def __init__(self, path: StrPath, offset: int, shape: tuple[int, ...], dtype: DTypeLike, key: str = "the array"):
        self.path, self.shape, self.dtype, self.key = Path(path), shape, np.dtype(dtype), key
        self._offset = offset
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._check_end()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in the file [byte]."""
        return self.size * self.dtype.itemsize

    def _check_end(self) -> None:
        missing = self._offset + self.nbytes - os.fstat(self._descriptor).st_size
        if missing > 0:
            raise self._cut_short(missing)

    def _cut_short(self, missing: int) -> ContractError:
        return ContractError(f"{self.path}: {self.key} is cut short: {missing} of its {self.nbytes} bytes are missing")

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Return a copy of a part.

        Raises
        ------
        ContractError
            If the file has become shorter than the part's end.
        """
        if isinstance(index, tuple):
            return self._part(index)
        if index is Ellipsis:
            return self._whole()
        if isinstance(index, int | np.integer):
            return self._chosen(_numbers(np.array([index]), len(self)))[0]
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self._rows(start, stop) if step == 1 else self._chosen(np.arange(start, stop, step))
        if isinstance(index, list | np.ndarray) and np.ndim(index) == 1:
            return self._chosen(_numbers(np.asarray(index, None if len(index) else np.int64), len(self)))
        return self[...][index]

    def _part(self, index: tuple[Any, ...]) -> NDArray[Any]:
        """Return what an index along several axes takes."""
        first, *rest = index or (Ellipsis,)
        if isinstance(first, slice) and len(rest) == 1 and isinstance(rest[0], slice):
            (start, stop, step), (left, right, across) = first.indices(len(self)), rest[0].indices(self.shape[1])
            if step == across == 1:
                return self._box(start, stop, left, right)
        if isinstance(first, slice):
            return self[first][(slice(None), *rest)]
        if isinstance(first, int | np.integer):
            return self[[first]][(0, *rest)]
        return self[...][tuple(index)]

    def _whole(self) -> NDArray[Any]:
        return self._bytes(0, self.nbytes).view(self.dtype).reshape(self.shape)

    def _box(self, start: int, stop: int, left: int, right: int) -> NDArray[Any]:
        """Return some columns of some rows, read row by row."""
        box = np.empty((max(stop - start, 0), max(right - left, 0), *self.shape[2:]), self.dtype)
        column = math.prod(self.shape[2:]) * self.dtype.itemsize
        for number, row in enumerate(box, start):
            self._read(row.reshape(-1).view(np.uint8), (number * self.shape[1] + left) * column)
        return box

    def _rows(self, start: int, stop: int) -> NDArray[Any]:
        count, row = max(stop - start, 0), math.prod(self.shape[1:]) * self.dtype.itemsize
        return self._bytes(start * row, count * row).view(self.dtype).reshape(count, *self.shape[1:])

    def _chosen(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows, (m, …); neighbors in the file are read together."""
        chosen = np.empty((len(rows), *self.shape[1:]), self.dtype)
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        for first, last in zip(starts, np.append(starts, len(rows))[1:], strict=True):
            chosen[first:last] = self._rows(int(rows[first]), int(rows[last - 1]) + 1)
        return chosen

    def _bytes(self, start: int, count: int) -> NDArray[np.uint8]:
        """Return bytes of the array."""
        values = np.empty(count, np.uint8)
        self._read(values, start)
        return values

    def _read(self, values: NDArray[np.uint8], start: int) -> None:
        """Fill values with bytes of the array."""
        done = 0
        while done < len(values):
            got = os.preadv(self._descriptor, [values[done:].data], self._offset + start + done)
            if not got:
                self._check_end()
                raise self._cut_short(len(values) - done)
            done += got

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)


class CheckedFrames(MappedArray):
    """Frames in a file, each held against its checksum when it is read for the first time.

    Parameters
    ----------
    path, offset, shape, dtype, key
        As of `MappedArray`.
    checksums : (M,) uint32
        CRC-32 of every frame's bytes, as they are stored.

    Raises
    ------
    ContractError
        If the file ends before the array does; when frames are read, if one has another checksum.
    """

    def __init__(
        self,
        path: StrPath,
        offset: int,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        key: str,
        checksums: NDArray[np.uint32],
    ):
        super().__init__(path, offset, shape, dtype, key)
        self._checksums, self._is_right = checksums, np.zeros(len(checksums), np.bool_)

    def _whole(self) -> NDArray[Any]:
        return self._rows(0, len(self))

    def _box(self, start: int, stop: int, left: int, right: int) -> NDArray[Any]:
        return self._rows(start, stop)[:, left : max(right, left)].copy()

    def _rows(self, start: int, stop: int) -> NDArray[Any]:
        frames = super()._rows(start, stop)
        new = np.flatnonzero(~self._is_right[start:stop])
        found = np.array([zlib.crc32(frames[number]) for number in new.tolist()], np.uint32)
        new += start
        wrong = found != self._checksums[new]
        if wrong.any():
            raise self._damaged(new[wrong], found[wrong])
        self._is_right[new] = True
        return frames

    def _damaged(self, exposures: NDArray[np.int64], found: NDArray[np.uint32]) -> ContractError:
        more = f" and {len(exposures) - MOST_NAMED} more" if len(exposures) > MOST_NAMED else ""
        exposures, found = exposures[:MOST_NAMED], found[:MOST_NAMED]
        has, wanted = (", ".join(f"{value:08x}" for value in values) for values in (found, self._checksums[exposures]))
        return ContractError(
            f"{self.path}: {self.key}: exposures {exposures.tolist()}{more} are damaged, of CRC-32 {has}; wanted "
            f"{wanted}, as '{FRAME_CHECKSUMS}' says: make the file again (if these frames were changed on purpose, "
            f"delete the member {FRAME_CHECKSUMS}.npy)"
        )


def _numbers(index: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return an index along an axis as numbers from 0 on, as NumPy takes it."""
    numbers = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64, casting="safe")
    outside = numbers[(numbers < -count) | (numbers >= count)]
    if outside.size or (index.dtype == bool and len(index) != count):
        raise IndexError(f"index {outside.tolist()[:1] or len(index)} along an axis of {count}")
    return np.where(numbers < 0, numbers + count, numbers)


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


def row_blocks(array: Any) -> Iterator[slice]:
    """Yield slices of an array's rows, of about `BLOCK_BYTES` each; drop its pages after each."""
    row_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
    rows = max(BLOCK_BYTES // max(row_bytes, 1), 1)
    for start in range(0, len(array), rows):
        yield slice(start, min(start + rows, len(array)))
        drop_pages(array)
