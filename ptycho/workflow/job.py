"""The frame of a job: a log with everything it prints, C++ libraries included, its threads, its time and memory."""

import atexit
import csv
import logging
import os
import re
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import TextIO

from ptycho.workflow.damage import CHECKSUM
from ptycho.workflow.files import ContractError, StrPath, WriteError, explained, explaining_tmpdir, replacing
from ptycho.workflow.processes import end_with_parent


def log_to(path: StrPath) -> None:
    """Send descriptors 1 and 2 of this job to a UTF-8 log, line by line; let the job end when Snakemake does.

    Errors of reading and writing files are printed to Snakemake's own stderr, too: on a full disk the log stays empty.
    """
    end_with_parent()
    terminal = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace")
    sys.excepthook = partial(_report_os_error, path, terminal)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with open(path, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", line_buffering=True)
    show_messages()


def measure(path: StrPath) -> None:
    """Let this job write, when it ends, what it took: a table with the columns `s`, `cpu_time` [s], `max_rss` [MB].

    One column more, `CHECKSUM`, tells a digit that has changed.

    Wall time, CPU time and peak resident memory are those of the whole process, start-up and children included.
    Snakemake's own `benchmark:` has the same columns, but looks at a job only every 30 seconds: what follows its last
    look is missing.
    """
    atexit.register(_write_cost, path)


def _write_cost(path: StrPath) -> None:
    import psutil

    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # Not ru_maxrss of this process: that starts at what its parent held when it was forked.
    own_peak = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    peaks = [int(own_peak[1]) if own_peak else usages[0].ru_maxrss, usages[1].ru_maxrss]
    cost = {
        "s": time.time() - psutil.Process().create_time(),
        "cpu_time": sum(usage.ru_utime + usage.ru_stime for usage in usages),
        "max_rss": max(peaks) / 1024,
    }
    cells = [f"{value:.2f}" for value in cost.values()]
    try:
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t", lineterminator="\n")
            table.writerow([*cost, CHECKSUM])
            table.writerow([*cells, checksum_of(cells)])
    except WriteError as error:  # this process ends: no hook for exceptions is called any more
        print(f"ERROR: {error}", file=sys.stderr, flush=True)


def checksum_of(cells: Iterable[str]) -> str:
    """Return what a table of `measure` has in the column `CHECKSUM`: the CRC-32 of the other cells of a line."""
    return str(zlib.crc32("\t".join(cells).encode()))


class _Formatter(logging.Formatter):
    """The message alone; from a warning on, after its level."""

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return f"{record.levelname}: {message}" if record.levelno >= logging.WARNING else message


def show_messages() -> None:
    """Print the library's log messages of level INFO and above to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    library = logging.getLogger("ptycho")
    library.handlers[:] = [handler]
    library.setLevel(logging.INFO)
    library.propagate = False


def _report_os_error(
    path: StrPath, terminal: TextIO, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print a job's last exception to its log and, if files could not be read or written, to the terminal.

    What this package refuses, such as a damaged file or an overlap that cannot be met, is said in a line, without the
    calls that led to it.
    """
    if type(error).__module__.startswith("ptycho."):
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
    else:
        sys.__excepthook__(kind, error, trace)
    if isinstance(error, OSError):
        print(f"ERROR: {explained(error, path)}", file=terminal, flush=True)


@contextmanager
def captured_stderr() -> Iterator[None]:
    """Capture descriptor 2 of this process in a block, such as TensorFlow's import; print all of it if the block fails.

    Raises
    ------
    ptycho.workflow.files.WriteError
        If the disk of temporary files, which hold the captured text, is full.
    """
    sys.stderr.flush()
    with (
        explaining_tmpdir(),
        tempfile.TemporaryFile() as captured,
        os.fdopen(os.dup(2), "wb") as stderr,
    ):
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except ContractError:
            raise
        except BaseException:
            captured.seek(0)
            stderr.write(captured.read())
            raise
        finally:
            try:
                sys.stderr.flush()
            finally:
                os.dup2(stderr.fileno(), 2)


def limit_threads(threads: int) -> None:
    """Limit BLAS, OpenMP and TensorFlow to this many threads; call before TensorFlow and PyTorch are imported.

    Unless TF_ENABLE_ONEDNN_OPTS is set, TensorFlow uses oneDNN's kernels. Some processors would not by default, which
    takes twice as long.
    """
    from threadpoolctl import threadpool_limits  # not needed where a reconstruction alone is imported

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    threadpool_limits(threads)  # of loaded libraries: NumPy's BLAS has read the environment already


def thread_limit() -> int:
    """Return the number of threads that `limit_threads`, or the environment, has set; 1 without any."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return max(int(threads), 1) if threads.isdecimal() else 1


class CpuClock:
    """CPU time of this process, all its threads, since the clock was made: a reconstruction without its start-up."""

    def __init__(self) -> None:
        self.start = time.process_time()

    @property
    def seconds(self) -> float:
        """CPU time until now [s]."""
        return time.process_time() - self.start

    def add(self, seconds: float) -> None:
        """Add the CPU time of earlier work that this job continues, such as an interrupted attempt [s]."""
        self.start -= seconds
