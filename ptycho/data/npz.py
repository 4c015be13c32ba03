"""NPZ files: held against themselves when they are opened; arrays read once, or mapped; complete or absent if written.

The header of an array states its size, which must be that of its member in the archive. Values are read with their
checksum; those of mapped arrays, of any size, only where that is asked for, frames one by one as they are read.
"""

import itertools
import math
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.data.mapped import FRAME_CHECKSUMS, CheckedFrames, MappedArray, row_blocks
from ptycho.workflow.archives import Archive, Closing
from ptycho.workflow.damage import parse_json, reading
from ptycho.workflow.files import ContractError, StrPath, replacing
from ptycho.workflow.limits import check_bytes

MAX_ORIGIN_PX = 1 << 40
"""Largest coordinate of the first pixel of an object or canvas: far beyond any, and small enough to add to."""
HDF5 = b"\x89HDF"
"""First bytes of a file of the kind that most often stands in for an NPZ."""
SUFFIX = ".npy"
"""Of the members that hold arrays."""


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

    @property
    def nbytes(self) -> int:
        """Size of its values [byte]."""
        return math.prod(self.shape) * self.dtype.itemsize


def are_pixels(values: NDArray[Any]) -> bool:
    """Whether all values are real, finite and at most `MAX_ORIGIN_PX` from 0, so that they can be added to."""
    return values.dtype.kind in "iuf" and bool((np.abs(values.astype(np.float64)) <= MAX_ORIGIN_PX).all())


class Npz(Closing):
    """An open NPZ; no value is read before it is asked for.

    Raises
    ------
    ContractError
        If the file is missing, is no NPZ, is cut short or damaged.
    """

    def __init__(self, path: StrPath):
        self.path = Path(path)
        try:
            self._archive = Archive(path, "NPZ")
        except ContractError:
            with reading(path), self.path.open("rb") as file:
                if file.read(len(HDF5)) != HDF5:
                    raise
            raise ContractError(
                f"{path}: an HDF5 file; wanted an NPZ: `ptycho convert` reads scans in HDF5, `ptycho judge` objects"
            ) from None
        names = (name for name in self._archive.names if name.endswith(SUFFIX))
        self.keys = [name.removesuffix(SUFFIX) for name in names]
        """Names of all arrays, in the order in which they were written."""

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def require(self, *wanted: str, old: Iterable[str] = ()) -> None:
        """Refuse a file that lacks a key.

        Parameters
        ----------
        *wanted : str
            Keys that must be there.
        old : iterable of str
            Keys that ptycho 0.1 wrote in their place; the message says so if one of them is there.

        Raises
        ------
        ContractError
            If one is missing.
        """
        missing = [key for key in wanted if key not in self.keys]
        if missing:
            hint = "; written by ptycho 0.1: run the study again" if set(old) & set(self.keys) else ""
            raise ContractError(f"{self.path}: no key {', '.join(map(repr, missing))}; found {sorted(self.keys)}{hint}")

    def member(self, key: str) -> Member:
        """Read the header of an array; objects are not unpickled.

        Raises
        ------
        ContractError
            If there is none, it is damaged, or its size is not that of the member.
        """
        self.require(key)
        name = key + SUFFIX
        info = self._archive.info(name)
        with reading(self.path, f"'{key}'"), self._archive.open(name) as file:
            shape, fortran, dtype = read_header(file)
            start = file.tell()
        compressed = info.compress_type != zipfile.ZIP_STORED
        member = Member(shape, fortran, dtype, compressed, self._archive.start_of(name) + start)
        if dtype.hasobject:
            return member
        if min(shape, default=0) < 0 or not dtype.itemsize or dtype.subdtype:
            raise ContractError(f"{self.path}: '{key}' is {dtype} with shape {shape}; wanted numbers, or text")
        if start + member.nbytes != info.file_size:
            raise ContractError(
                f"{self.path}: '{key}' is {dtype} with shape {shape} by its header, {member.nbytes} bytes; the file "
                f"has {info.file_size - start}"
            )
        return member

    def array(self, key: str) -> NDArray[Any]:
        """Read an array into memory, once, with its checksum.

        Raises
        ------
        ContractError
            If there is none, it holds objects, is too large, or is damaged.
        """
        member = self.member(key)
        _refuse_objects(self.path, key, member)
        check_bytes(self.path, f"'{key}'", member.nbytes)
        with reading(self.path, f"'{key}'"), self._archive.open(key + SUFFIX) as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
            file.read()  # to the end, where the checksum is compared
        if values.dtype.kind == "U" and _code_points(values).max(initial=0) > sys.maxunicode:
            raise ContractError(f"{self.path}: '{key}' holds what is no character; wanted a text")
        return values

    def mapped(self, key: str, *, checked: bool = False) -> MappedArray:
        """Open an array that is read when indexed.

        Parameters
        ----------
        checked : bool
            Whether its checksum is compared first: all of it is read once, and nothing held.

        Raises
        ------
        ContractError
            If there is none, it is compressed, holds objects, or is in Fortran order.
        """
        member = self.member(key)
        if checked and not member.compressed:
            self.check(key)
        return map_member(self.path, key, member)

    def frames(self, key: str) -> MappedArray:
        """Open the frames of a scan; if the file has their checksums, each is compared when it is first read.

        Raises `ContractError` as `mapped`, and if the checksums are something else than (M,) uint32.
        """
        if FRAME_CHECKSUMS not in self:
            return self.mapped(key)
        member, checksums = self.member(key), self.array(FRAME_CHECKSUMS)
        if checksums.dtype != np.uint32 or checksums.shape != member.shape[:1]:
            raise ContractError(
                f"{self.path}: '{FRAME_CHECKSUMS}' is {checksums.dtype} with shape {checksums.shape}; wanted uint32 "
                f"{member.shape[:1]}, the CRC-32 of every frame of '{key}'"
            )
        frames = map_member(self.path, key, member)
        return CheckedFrames(self.path, member.offset, frames.shape, frames.dtype, frames.key, checksums)

    def text(self, key: str) -> str:
        """Read a text.

        Raises
        ------
        ContractError
            If there is none, or it is something else than a text.
        """
        array = self.array(key)
        if array.dtype.kind != "U" or array.size != 1:
            raise ContractError(f"{self.path}: '{key}' is {array.dtype} with shape {array.shape}; wanted a text")
        return str(array.item())

    def metadata(self) -> dict[str, Any]:
        """Read `metadata`, a JSON object; raises `ContractError` if there are none, or they are something else."""
        return parse_json(self.text("metadata"), f"{self.path}: 'metadata'")

    def check(self, *keys: str) -> None:
        """Compare every byte of some arrays with their checksums; nothing is held."""
        self.require(*keys)
        self._archive.check(*(key + SUFFIX for key in keys))

    def open(self, key: str) -> IO[bytes]:
        """Open the bytes of an array, header included, for reading in order; use it in a block of `reading`."""
        self.require(key)
        return self._archive.open(key + SUFFIX)


def map_member(path: StrPath, key: str, member: Member) -> MappedArray:
    """Map an array whose header has been read; errors as `Npz.mapped`."""
    if member.compressed:
        raise ContractError(f"{path}: '{key}' is compressed; wanted an uncompressed NPZ (np.savez): convert it once")
    _refuse_objects(path, key, member)
    if member.fortran:
        raise ContractError(f"{path}: '{key}' holds Fortran order; wanted plain C order")
    return MappedArray(path, member.offset, member.shape, member.dtype, f"'{key}'")


def _code_points(texts: NDArray[np.str_]) -> NDArray[np.uint32]:
    """Return the numbers of the characters of texts, in one row; NumPy does not check them."""
    return np.frombuffer(texts.astype(texts.dtype.newbyteorder("=")).tobytes(), np.uint32)


def _refuse_objects(path: StrPath, key: str, member: Member) -> None:
    if member.dtype.hasobject:
        raise ContractError(f"{path}: '{key}' holds objects; pickles are never read: wanted plain C order")


def open_member(path: StrPath, key: str) -> MappedArray:
    """Map one array of an NPZ, see `Npz.mapped`."""
    with Npz(path) as file:
        return file.mapped(key)


def keys_of(path: StrPath) -> list[str]:
    """List the arrays of an NPZ; errors as `Npz`."""
    with Npz(path) as file:
        return sorted(file.keys)


def load_arrays(path: StrPath, *keys: str) -> list[NDArray[Any]]:
    """Read arrays into memory, see `Npz.array`."""
    with Npz(path) as file:
        return [file.array(key) for key in keys]


def read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array of NumPy's formats 1 to 3; the third differs by the names of its fields.

    Returns
    -------
    shape : tuple of int
    fortran : bool
        Whether the values are in Fortran order.
    dtype : dtype

    Raises
    ------
    ValueError
        If there is no such header.
    """
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version in ((2, 0), (3, 0)):
        return np.lib.format.read_array_header_2_0(member)
    raise ValueError(f"an array of NumPy's format {version}")


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
