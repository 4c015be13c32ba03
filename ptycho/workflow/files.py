"""Output files that are complete or absent, whatever kills their writer; errors that say what to do."""

import errno
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

StrPath: TypeAlias = str | os.PathLike[str]
"""A path as text or as a `pathlib.Path`."""

NO_SPACE = {"No space left": errno.ENOSPC, "Disk quota exceeded": errno.EDQUOT, "File too large": errno.EFBIG}
"""Text -> error of a full disk, an exceeded quota, and a file beyond the limit of its user or file system."""
TOO_LARGE = "larger than a file may be (`ulimit -f`, or what the file system takes); allow larger files"
"""What is wrong with a file beyond a limit of size, and what to do."""
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
"""Errors of a folder that cannot be written to."""
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""Errors of file systems that cannot be told to write at once."""
HOST = platform.node()
"""Part of temporary names: process ids of other machines that share the disk mean nothing here."""
MIN_FREE_BYTES = 200_000
"""Free space that a study needs to start: Snakemake's own files."""


class ContractError(ValueError):
    """A file violates its format; the message names file and key, what was found and what is wanted.

    It is one line whatever the file holds: line breaks and other characters that are not printed are escaped.
    """

    def __init__(self, message: str):
        super().__init__("".join(part if part.isprintable() else repr(part)[1:-1] for part in message))


class WriteError(OSError):
    """A file could not be written; the message names it, the reason, and what to do."""


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, remove it otherwise.

    File and folder are on the disk when the block has ended: a power failure leaves the old file or the whole new one.

    Raises
    ------
    WriteError
        If there is something else than a file at `path`, the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{HOST}.{os.getpid()}{path.suffix}")
    try:
        check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise explained(error, path) from error


def check_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of a folder, a device, a pipe or a socket; a link is replaced.

    Raises
    ------
    WriteError
        If there is one.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device, pipe or socket"
        raise WriteError(f"{path}: {kind}, which no file replaces; wanted the name of a file")


def _sync(path: Path) -> None:
    """Have the disk write a file, or the names in a folder, if its file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder for temporary files, below TMPDIR where that is set; remove it when the block ends.

    Raises
    ------
    WriteError
        If the disk of temporary files is full, or no folder for them can be written to.
    """
    with explaining_tmpdir(), tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def explaining_tmpdir() -> Iterator[None]:
    """Turn errors of a block that writes temporary files into a `WriteError` that names their folder and TMPDIR."""
    try:
        root = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise WriteError(f"{error.strerror}; make room in one of them, or set TMPDIR to another folder") from error
    try:
        yield
    except OSError as error:
        if isinstance(error, WriteError) or not is_disk_full(error):
            raise
        full = f"the disk of temporary files is full ({_free(Path(root))}); make room"
        problem = TOO_LARGE if is_too_large(error) else full
        raise WriteError(f"{root}: {problem}, or set TMPDIR to another folder") from error


def explained(error: OSError, path: StrPath) -> OSError:
    """Return a `WriteError` that says what to do about a full disk, a limit of size or an unwritable folder.

    Parameters
    ----------
    error : OSError
        Raised while `path` was written; an error of another kind is returned unchanged.
    """
    path = Path(path)
    if isinstance(error, WriteError):
        return error
    if is_disk_full(error):
        problem = TOO_LARGE if is_too_large(error) else f"its disk is full ({_free(path.parent)}); make room"
        return WriteError(f"{path}: {problem}, then run the same command again")
    refused = Path(error.filename or "")
    if error.errno in NOT_WRITABLE and (refused.parent == path.parent or refused in path.parents):
        reason = f"{(error.strerror or str(error)).lower()}: {error.filename}"
        return WriteError(
            f"{path}: its folder cannot be written to ({reason}); change that, then run the same command again"
        )
    return error


def is_disk_full(error: OSError) -> bool:
    """Whether an error is one of `NO_SPACE`: there is no room for what is written."""
    return error.errno in NO_SPACE.values() or any(text in str(error) for text in NO_SPACE)  # HDF5 has the text only


def is_too_large(error: OSError) -> bool:
    """Whether a file would be larger than it may be, however much room its disk has."""
    return error.errno == errno.EFBIG or "File too large" in str(error)


def check_writable(folder: StrPath) -> None:
    """Check that files can be written in a folder, or in the nearest existing parent; create nothing.

    Raises
    ------
    WriteError
        If the disk is full, or the folder cannot be written to.
    """
    existing = _nearest_existing(Path(folder))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise WriteError(f"{folder}: cannot be written to, {existing} is read-only; change that, or use --directory")
    if shutil.disk_usage(existing).free < MIN_FREE_BYTES:
        raise WriteError(f"{folder}: its disk is full ({_free(existing)}); make room, then run the same command again")


def _nearest_existing(path: Path) -> Path:
    return next(part for part in (path.absolute(), *path.absolute().parents) if part.exists())


def _free(path: Path) -> str:
    folder = _nearest_existing(path)
    return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB free in {folder}"


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers on this machine were killed."""
    before, after = re.escape(f".{path.stem}.{HOST}."), re.escape(path.suffix)
    for leftover in path.parent.glob(f".{path.stem}.*{path.suffix}"):
        match = re.fullmatch(rf"{before}(\d+){after}", leftover.name)
        if match and not _is_running(int(match[1])):
            leftover.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # checks, sends nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's process, or a name that is not ours
    return True


def save_text(path: StrPath, text: str) -> None:
    """Write a UTF-8 text file that is complete or absent."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_table(path: StrPath, table: "pd.DataFrame") -> None:
    """Write a table as UTF-8 CSV without its index; the file is complete or absent."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)
