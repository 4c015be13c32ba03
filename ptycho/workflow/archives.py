"""ZIP archives, such as NPZ and `.keras` files, that are held against themselves when they are opened.

An archive states name, checksum and sizes of a member twice: before its bytes, and in the directory at its end. Both
must agree, and no two members may overlap, before anything in the file is believed.
"""

import struct
import zipfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ptycho.workflow.damage import reading, require_file
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.limits import check_bytes

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""Signature, version, flags, method, time, date, checksum, sizes packed and unpacked, lengths of name and extra field
(PKWARE, APPNOTE.TXT, 4.3.7)."""
UTF8_NAME, SIZES_FOLLOW = 0x800, 0x08
"""Flags of a member: its name is UTF-8; checksum and sizes stand behind its bytes, and are zero in its header."""
IN_EXTRA_FIELD = 0xFFFFFFFF
"""A size that stands in the extra field, with 64 bits."""


class Closing:
    """What is closed at the end of a `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened."""
        raise NotImplementedError


class Archive(Closing):
    """An open ZIP archive whose directory agrees with its members; no member is read before it is asked for.

    Parameters
    ----------
    path : path
        The file.
    kind : str
        What it should be, in messages.

    Raises
    ------
    ContractError
        If the file is missing, is no archive, is cut short or damaged.
    """

    def __init__(self, path: StrPath, kind: str = "archive"):
        self.path, problem = Path(path), f"not an {kind}, cut short, or damaged"
        with reading(path, problem=problem):
            require_file(path)
            self._zip = zipfile.ZipFile(self.path)
        try:
            with reading(path, problem=problem), self.path.open("rb") as file:
                self._starts = _check_directory(self._zip, file)
        except BaseException:
            self._zip.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    @property
    def names(self) -> list[str]:
        """Names of all members, in the order in which they were written."""
        return list(self._starts)

    def info(self, name: str) -> zipfile.ZipInfo:
        """Return the entry of a member in the directory.

        Raises
        ------
        ContractError
            If there is no such member.
        """
        if name not in self._starts:
            raise ContractError(f"{self.path}: no '{name}' in it; found {', '.join(sorted(self._starts)) or 'nothing'}")
        return self._zip.getinfo(name)

    def start_of(self, name: str) -> int:
        """Position of a member's first byte in the file."""
        return self._starts[name]

    def open(self, name: str) -> IO[bytes]:
        """Open a member; reading it to its end compares its checksum. Use it in a block of `reading`."""
        return self._zip.open(self.info(name))

    def read(self, name: str) -> bytes:
        """Read a member, with its checksum.

        Raises
        ------
        ContractError
            If there is none, it is too large, or it is damaged.
        """
        check_bytes(self.path, f"'{name}'", self.info(name).file_size)
        with reading(self.path, f"'{name}'"), self.open(name) as file:
            return file.read()

    def check(self, *names: str) -> None:
        """Compare every byte of some members with their checksums; nothing is held.

        Raises
        ------
        ContractError
            If one is missing or damaged.
        """
        for name in names:
            with reading(self.path, f"'{name}'"), self.open(name) as file:
                while file.read(1 << 20):
                    pass


def check_archive(path: StrPath, kind: str = "archive") -> None:
    """Compare every byte of an archive with its checksums.

    Raises
    ------
    ContractError
        If it is missing, no archive, or damaged.
    """
    with Archive(path, kind) as archive:
        archive.check(*archive.names)


def _check_directory(archive: zipfile.ZipFile, file: IO[bytes]) -> dict[str, int]:
    """Hold the directory of an archive, open as `file`, too, against its members; return where their bytes start."""
    starts: dict[str, int] = {}
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.filename in starts:
            raise ValueError(f"two members of the name {info.filename!r}")
        if info.header_offset < end:
            raise ValueError(f"member {info.filename!r} begins inside another one")
        starts[info.filename] = _check_member(info, file)
        end = starts[info.filename] + info.compress_size
    if end > archive.start_dir:
        raise ValueError("a member is longer than the file")
    return starts


def _check_member(info: zipfile.ZipInfo, file: IO[bytes]) -> int:
    """Compare what the directory says about a member with the member's own header; return where its bytes start."""
    file.seek(info.header_offset)
    fields = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    signature, _, flags, method, _, _, checksum, packed, size, name_length, extra_length = fields
    name, extra = file.read(name_length), file.read(extra_length)
    stated = [signature, name.decode("utf-8" if flags & UTF8_NAME else "cp437"), method]
    wanted = [b"PK\3\4", info.orig_filename, info.compress_type]
    if not flags & SIZES_FOLLOW:
        if IN_EXTRA_FIELD in (packed, size):
            size, packed = _long_sizes(extra)
        stated += [checksum, packed, size]
        wanted += [info.CRC, info.compress_size, info.file_size]
    if stated != wanted:
        raise ValueError(f"its directory and its member {info.filename!r} disagree")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise ValueError(f"member {info.filename!r} has two sizes")
    return info.header_offset + LOCAL_HEADER.size + name_length + extra_length


def _long_sizes(extra: bytes) -> tuple[int, int]:
    """Return the sizes, unpacked and packed, of an extra field with 64 bits each (APPNOTE.TXT, 4.5.3)."""
    while extra:
        kind, length = struct.unpack("<2H", extra[:4])
        if kind == 1:
            return struct.unpack("<2Q", extra[4:20])
        extra = extra[4 + length :]
    raise ValueError("no sizes in a member's header")
