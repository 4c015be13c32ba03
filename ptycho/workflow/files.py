"""Output files that are whole or not there, whatever kills their writer; and errors that say what to do."""

import errno
import os
import platform
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
HOST = platform.node()
"""In temporary names: on a shared disk, process ids of other machines mean nothing here."""
ROOM = 200_000
"""Bytes that there must be room for: what Snakemake itself writes of a study."""


class ContractError(ValueError):
    """A file does not hold what is wanted: the message names file, key, what was found and what is wanted."""


class WriteError(OSError):
    """A file could not be written; the message names it, says why, and what to do."""


@contextmanager
def replacing(path):
    """Give a temporary name beside `path` to write to; rename it when the block ends well, remove it otherwise.

    Raises
    ------
    WriteError
        If the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{HOST}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise explained(error, path) from error


def explained(error: OSError, path) -> OSError:
    """Say of a full disk or an unwritable folder what to do, while `path` is written; other errors stay as they are."""
    path = Path(path)
    if isinstance(error, WriteError):
        return error
    if error.errno in NO_SPACE or "No space left" in str(error):  # HDF5 tells by text alone
        return WriteError(f"{path}: its disk is full ({_free(path)}); make room, then run the same command again")
    place = Path(error.filename or "")
    if error.errno in NOT_WRITABLE and (place.parent == path.parent or place in path.parents):
        why = f"{error.strerror.lower()}: {error.filename}"
        return WriteError(
            f"{path}: its folder cannot be written to ({why}); change that, then run the same command again"
        )
    return error


def check_writable(folder) -> None:
    """Look whether files can be written in a folder, or where it would be made; nothing is.

    Raises
    ------
    WriteError
        If its disk is full, or it cannot be written to.
    """
    there = _nearest(Path(folder))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise WriteError(f"{folder}: cannot be written to, {there} is read-only; change that, or use --directory")
    if shutil.disk_usage(there).free < ROOM:
        raise WriteError(f"{folder}: its disk is full ({_free(there)}); make room, then run the same command again")


def _nearest(path: Path) -> Path:
    """Return what there is of a path."""
    return next(part for part in (path.absolute(), *path.absolute().parents) if part.exists())


def _free(path: Path) -> str:
    folder = _nearest(path.parent)
    return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB free in {folder}"


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` on this machine have left."""
    before, after = re.escape(f".{path.stem}.{HOST}."), re.escape(path.suffix)
    for leftover in path.parent.glob(f".{path.stem}.*{path.suffix}"):
        found = re.fullmatch(rf"{before}(\d+){after}", leftover.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            leftover.unlink(missing_ok=True)


def save_text(path, text: str) -> None:
    """Write a text that is either whole or not there."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def save_table(path, table) -> None:
    """Write a pandas DataFrame as CSV, without its index, that is either whole or not there."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)
