"""What jobs that hold all frames of a scan need: their rules ask for it, and they say it before they start."""

import logging

from ptycho.workflow.limits import machine_bytes

COPIES = 5
"""Copies of the frames, as float32, that LSQML holds at its peak: those of the scan, counts, pty-chi's two while it
shifts them, and predictions for validation (`benchmarks/memory.py --held`)."""
WAVES = 25
"""Arrays of the size of a batch's waves, complex64, that it holds beside them."""
BASE_BYTES = 600_000_000
"""What libraries take [byte]."""

_logger = logging.getLogger(__name__)


class MemoryLimitError(ValueError):
    """A job needs more memory than the machine has; the message says how much of each, and what to do."""


def copies_mb(size_mb: float) -> int:
    """Return what the copies of frames take [MB], given the size of the frames as float32 [MB]."""
    return int(COPIES * size_mb)


def needed_bytes(count: int, n: int, batch: int) -> int:
    """Return the memory of a job that holds all frames [byte]; arguments are those of `claim_memory`."""
    return BASE_BYTES + COPIES * 4 * count * n**2 + WAVES * 8 * batch * n**2


def claim_memory(what: str, count: int, n: int, batch: int) -> None:
    """Log how much memory a job is about to take that holds all frames; warn if less is free.

    Parameters
    ----------
    what : str
        Its name in the message.
    count, n : int
        Number of frames, and their side [px].
    batch : int
        Waves that are computed at once: exposures in a batch times modes of the probe.

    Raises
    ------
    MemoryLimitError
        If the machine, or the container, has less.
    """
    import psutil

    frames, needed, has = 4 * count * n**2, needed_bytes(count, n, batch), machine_bytes()
    rest = _gb(needed - COPIES * frames)
    why = f"{COPIES} copies of {count:,} frames of {n} × {n} px, {_gb(frames)} each, and {rest}"
    if needed > has:
        wanted = "wanted a machine with more, fewer exposures, or a method that works in tiles (tv, unrolled)"
        raise MemoryLimitError(f"{what} needs {_gb(needed)} of memory ({why}), of which there are {_gb(has)}; {wanted}")
    _logger.info("%s needs about %s of memory: %s", what, _gb(needed), why)
    free = psutil.virtual_memory().available
    if needed > free:
        _logger.warning("%s needs %s of memory, of which %s are free", what, _gb(needed), _gb(free))


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
