"""Files that are cut short, damaged or of another kind: one line instead of whatever a library raises."""

import errno
import json
import math
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptycho.workflow.files import ContractError, StrPath, WriteError, is_disk_full
from ptycho.workflow.limits import check_bytes

CHECKSUM = "checksum"
"""Key of a JSON object that has the checksum of the rest of it, see `sealed`."""
REASON_LENGTH = 160
"""Longest part of a library's own message that is repeated."""


@contextmanager
def reading(path: StrPath, what: str = "the file", problem: str | None = None) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into a `ContractError` of one line.

    Parameters
    ----------
    path : path
        The file.
    what : str
        What is read of it, such as a key in quotes.
    problem : str, optional
        What is wrong then; default: that it cannot be read.

    Raises
    ------
    ContractError
        If the file is missing, cannot be opened, or its content makes the library fail.
    """
    try:
        yield
    except (ContractError, WriteError):
        raise
    except FileNotFoundError:
        raise ContractError(f"{path}: no such file") from None
    except (IsADirectoryError, PermissionError) as error:
        reason = (error.strerror or str(error)).lower()
        raise ContractError(f"{path}: cannot be read: {reason}; wanted a file that may be read") from None
    except MemoryError:
        raise ContractError(f"{path}: {what} does not fit into memory") from None
    except Exception as error:  # libraries raise anything from AttributeError to zlib.error
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        problem = problem or f"{what} cannot be read: cut short or damaged"
        raise ContractError(f"{path}: {problem} ({one_line(error)})") from None


def is_file(path: Path) -> bool:
    """Whether there is a file of a name that another file states; there is none of a name that is too long."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def require_file(path: StrPath) -> None:
    """Refuse what is no regular file: a pipe would be waited for, a device has no end.

    Raises
    ------
    ContractError
        If there is no such file, or it is a folder, a device, a pipe or a socket.
    """
    path = Path(path)
    if path.is_file():
        return
    if path.is_dir():
        raise ContractError(f"{path}: a folder; wanted a file")
    raise ContractError(f"{path}: {'no file, but a device or pipe' if path.exists() else 'no such file'}")


def one_line(error: BaseException) -> str:
    """Return the message of an error in one short line; its type if it has none."""
    return " ".join(str(error).split())[:REASON_LENGTH] or type(error).__name__


def parse_json(text: str | bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object.

    Parameters
    ----------
    text : str or bytes
        What was read.
    where : str
        File and key, the start of the message.

    Raises
    ------
    ContractError
        If it is no JSON, or another value than an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # nested too deeply
        value = None
    if not isinstance(value, dict):
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        raise ContractError(f"{where} is {_shortened(text)}; wanted a JSON object, {{…}}")
    return value


def read_text(path: StrPath) -> str:
    """Read a UTF-8 text.

    Raises
    ------
    ContractError
        If it is missing, cannot be read, is no such text, or is empty.
    """
    with reading(path):
        require_file(path)
        check_bytes(path, "its text", Path(path).stat().st_size)
        text = Path(path).read_text(encoding="utf-8")
    if not text.strip():
        raise ContractError(f"{path}: is empty; wanted a text")
    return text


def read_json(path: StrPath) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises
    ------
    ContractError
        If it is missing, cannot be read, holds something else, or its `CHECKSUM`, if it has one, is not that of the
        rest.
    """
    with reading(path):
        require_file(path)
        check_bytes(path, "its text", Path(path).stat().st_size)
        content = Path(path).read_bytes()
    value = parse_json(content, f"{path}: its content")
    stated = value.pop(CHECKSUM, None)
    if stated is not None and stated != _checksum_of(value):
        found, wanted = _shortened(stated), _checksum_of(value)
        raise ContractError(
            f"{path}: '{CHECKSUM}' is {found}; wanted '{wanted}', that of the rest: delete it and run again"
        )
    return value


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with a checksum of the rest of it, which `read_json` compares and leaves out."""
    return {**values, CHECKSUM: _checksum_of(json.loads(json.dumps(values)))}


def _checksum_of(values: dict[str, Any]) -> str:
    """Return the CRC-32 of a JSON object, whatever the order of its keys."""
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


def check_fields(values: Mapping[str, Any], where: str, **wanted: type) -> None:
    """Check that some fields of a JSON object are there and have the wanted types.

    Parameters
    ----------
    values : mapping
        The object.
    where : str
        File and key, the start of the message.
    **wanted : type
        Name of a field -> its type; float also takes integers, and no number may be NaN or infinite.

    Raises
    ------
    ContractError
        At the first field that is missing or of another type.
    """
    for key, kind in wanted.items():
        if key not in values:
            raise ContractError(f"{where} has no '{key}'; found {', '.join(map(str, values)) or 'nothing'}")
        if not is_of(values[key], kind):
            raise ContractError(f"{where}: '{key}' is {_shortened(values[key])}; wanted {_NAMES.get(kind, kind)}")


def number_in(values: Mapping[str, Any], where: str, *keys: str, above: float = -math.inf) -> float:
    """Return a number of a JSON object, or of one inside it.

    Parameters
    ----------
    values : mapping
        The object.
    where : str
        File and key, the start of the message.
    *keys : str
        Keys that lead to the number, from the outermost on.
    above : float
        What it must exceed.

    Raises
    ------
    ContractError
        If a key is missing, or there is something else than a finite number above the limit.
    """
    *outer, key = keys
    for name in outer:
        check_fields(values, where, **{name: dict})
        values, where = values[name], f"{where}: '{name}'"
    check_fields(values, where, **{key: float})
    if not values[key] > above:
        raise ContractError(f"{where}: '{key}' is {values[key]}; wanted a number above {above:g}")
    return float(values[key])


_NAMES = {dict: "an object, {…}", list: "a list, […]", str: "a text", int: "an integer", float: "a finite number"}


def is_of(value: Any, kind: type) -> bool:
    """Whether a JSON value has a type; True and False are no numbers, and NaN and infinity neither."""
    if isinstance(value, bool) and kind is not bool:
        return False
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def is_numbers(value: Any) -> bool:
    """Whether a JSON value is an object whose values are finite numbers."""
    return isinstance(value, dict) and all(is_of(number, float) for number in value.values())


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
