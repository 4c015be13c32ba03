"""How much memory a file may claim: half of the machine's, or what `--max-gb` says. Sizes are compared before reading.

A damaged or hostile file declares any size. Nothing is allocated for it before the declared size has been compared with
this limit.
"""

import argparse
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ptycho.workflow.files import ContractError, StrPath

VARIABLE = "PTYCHO_MAX_GB"
"""Environment variable with the limit [GB], for jobs, too; `--max-gb` sets it for a command."""
FRACTION = 0.5
"""Fraction of the machine's memory that a file may claim, if nobody says otherwise."""
CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux states the memory of a container, in versions 2 and 1."""


def machine_bytes() -> int:
    """Memory of this machine, or of this container or process if that may use less [byte]."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in CGROUPS:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            limits.append(int(path.read_text(encoding="ascii")))
    process, _ = resource.getrlimit(resource.RLIMIT_AS)
    if process != resource.RLIM_INFINITY:
        limits.append(process)
    return min(limits)


def asked_bytes() -> int | None:
    """Return the limit that was asked for [byte]; None if none was.

    Raises
    ------
    ValueError
        If it is no number above 0.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    try:
        return int(gigabytes(text) * 1e9)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{VARIABLE} is {error}") from None


def max_bytes() -> int:
    """Return how much memory a file may claim [byte]."""
    asked = asked_bytes()
    return int(FRACTION * machine_bytes()) if asked is None else asked


def gigabytes(text: str) -> float:
    """Return the number of an option.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no number above 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}; wanted a number of gigabytes above 0")
    return value


@contextmanager
def limited_to(most_gb: float | None) -> Iterator[None]:
    """Set the limit in a block, for processes that it starts, too; None leaves it as it is."""
    before = os.environ.get(VARIABLE)
    if most_gb is not None:
        os.environ[VARIABLE] = repr(most_gb)
    try:
        yield
    finally:
        if most_gb is not None:
            os.environ.pop(VARIABLE)
            os.environ.update({} if before is None else {VARIABLE: before})


def check_bytes(path: StrPath, what: str, size: int, most: int | None = None) -> None:
    """Refuse to allocate too much for what a file declares.

    Parameters
    ----------
    path : path
        The file.
    what : str
        Part of it, such as a key in quotes.
    size : int
        What would be allocated [byte].
    most : int, optional
        A lower limit than `max_bytes`, for parts that are always small; what was asked for overrides it.

    Raises
    ------
    ContractError
        If it is more than the limit.
    """
    asked = asked_bytes()
    limit = max_bytes() if most is None or asked is not None else min(most, max_bytes())
    if size > limit:
        raise ContractError(
            f"{path}: {what} would take {size / 1e9:.3g} GB of memory; wanted at most {limit / 1e9:.3g} GB "
            f"(--max-gb, or {VARIABLE}, allows more)"
        )
