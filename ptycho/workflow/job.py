"""A job's log that holds all it says, C++ libraries included."""

import logging
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from ptycho.workflow.files import ContractError, explained
from ptycho.workflow.processes import end_with_parent


def log_to(path) -> None:
    """Send descriptors 1 and 2 of this job to a file, line by line; from here on it ends when Snakemake does.

    Why a file could not be written is said where Snakemake talks, too: on a full disk a log stays empty.
    """
    end_with_parent()
    sys.excepthook = partial(_last_words, path, os.fdopen(os.dup(2), "w"))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with open(path, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)
    sys.stderr.reconfigure(line_buffering=True)
    show_messages()


class _Formatter(logging.Formatter):
    """The message alone, behind its level from a warning on."""

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return f"{record.levelname}: {message}" if record.levelno >= logging.WARNING else message


def show_messages() -> None:
    """Let what the library logs, from information on, appear on stderr: of a job, or of a command."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    library = logging.getLogger("ptycho")
    library.handlers[:] = [handler]
    library.setLevel(logging.INFO)
    library.propagate = False


def _last_words(path, terminal, kind, error, trace) -> None:
    sys.__excepthook__(kind, error, trace)
    if isinstance(error, OSError):
        print(f"ERROR: {explained(error, path)}", file=terminal, flush=True)


@contextmanager
def captured_stderr():
    """Keep descriptor 2 of this process to itself, as TensorFlow talks while it is imported; say it all on failure."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said, os.fdopen(os.dup(2), "wb") as stderr:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except ContractError:
            raise
        except BaseException:
            said.seek(0)
            stderr.write(said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr.fileno(), 2)


def limit_threads(threads: int) -> None:
    """Ask BLAS, OpenMP and TensorFlow for this many threads; call before TensorFlow and PyTorch are imported.

    TensorFlow is also told to use oneDNN's kernels, if nothing else is said: on some processors it would not by itself,
    and is half as fast.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    threadpool_limits(threads)  # of libraries that are there already: NumPy's BLAS has read the environment by now


class CpuClock:
    """CPU time of this process and its threads since it was made: what a reconstruction costs, start-up left out."""

    def __init__(self):
        self.start = time.process_time()

    @property
    def seconds(self) -> float:
        """Until now."""
        return time.process_time() - self.start

    def add(self, seconds: float) -> None:
        """Count what an interrupted attempt has spent on what is taken up from it."""
        self.start -= seconds
