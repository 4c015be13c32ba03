"""Snakemake and its jobs end together: no job outlives Snakemake, and none delays an interrupt."""

import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ptycho.workflow.files import NO_SPACE, TOO_LARGE, StrPath, explained

PID_VARIABLE = "PTYCHO_SNAKEMAKE_PID"
"""Environment variable that gives jobs the process id of their Snakemake."""
PR_SET_PDEATHSIG = 1
"""Linux's prctl option: the signal that a process gets when its parent ends."""
PAUSE_S = 0.2
"""Between two looks at other processes [s]."""
FULL_DISK = NO_SPACE | {"its disk is full": errno.ENOSPC, TOO_LARGE: errno.EFBIG}
"""What programs print where there is no room, and what this package prints -> the error that it stands for."""
GRACE_S = 2.0
"""Between a job's interrupt and its kill [s]."""


def install_interrupt_handler() -> None:
    """Make this Snakemake end its jobs when it is interrupted; call in the Snakefile.

    Jobs read its process id from the environment. An interrupt (Ctrl-C, SIGINT) ends them within seconds. Without the
    handler, an interrupt that reaches Snakemake alone would wait for them.
    """
    os.environ.update({PID_VARIABLE: str(os.getpid())})
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    threading.Thread(target=_end_jobs, daemon=True).start()
    raise KeyboardInterrupt


def _end_jobs() -> None:
    """Interrupt all jobs, those that start late included, and kill those that go on; repeat until this process ends."""
    import psutil

    interrupted: dict[psutil.Process, float] = {}
    while True:
        for job in psutil.Process().children(recursive=True):
            try:
                if not any("/.snakemake/scripts/" in argument for argument in job.cmdline()):
                    continue  # another child of Snakemake, such as a command to a cluster
                if job not in interrupted:
                    interrupted[job] = time.monotonic()
                    job.send_signal(signal.SIGINT)
                elif time.monotonic() > interrupted[job] + GRACE_S:
                    job.kill()
            except psutil.Error:  # it has ended
                continue
        time.sleep(PAUSE_S)


def end_with_parent() -> None:
    """Have this job killed when its Snakemake ends, for whatever reason; does nothing except on Linux.

    The kernel kills the job when its parent ends. If a shell is in between, a thread checks that Snakemake still runs.
    If Snakemake ended before this call, the job is killed at once.
    """
    snakemake = int(os.environ.get(PID_VARIABLE, 0))
    if not snakemake or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != snakemake:
        _die_without(snakemake)
        threading.Thread(target=_watch, args=(snakemake,), daemon=True).start()


def run(command: Sequence[StrPath], **options: Any) -> subprocess.CompletedProcess:
    """Run a program as `subprocess.run` does; on Linux it is killed when this process ends, for whatever reason."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)  # loaded before the fork
        options["preexec_fn"] = lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return subprocess.run(command, **options)


def run_reported(command: Sequence[StrPath], output: StrPath) -> None:
    """Run a program that writes a file, see `run`; print what it says.

    Raises
    ------
    ptycho.workflow.files.WriteError
        If it failed because a disk is full.
    subprocess.CalledProcessError
        If it failed for another reason.
    """
    result = run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    full = [number for text, number in FULL_DISK.items() if text in result.stdout]
    if result.returncode and full:
        raise explained(OSError(full[0], os.strerror(full[0])), output)
    print(result.stdout, flush=True)
    result.check_returncode()


def _watch(ancestor: int) -> None:
    while True:
        time.sleep(PAUSE_S)
        _die_without(ancestor)


def _die_without(ancestor: int) -> None:
    if ancestor not in ancestors(os.getpid()):
        os.kill(os.getpid(), signal.SIGKILL)


def ancestors(pid: int) -> list[int]:
    """Return the process ids of a process's parent, its parent, and so on, from Linux's /proc."""
    parents = []
    while pid > 1:
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has ended, and its own ancestors can no longer be told
            break
        pid = int(text.rpartition(")")[2].split()[1])
        parents.append(pid)
    return parents
