"""Snakemake and its jobs end together: no job goes on writing when Snakemake is dead, none holds up an interrupt."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

VARIABLE = "PTYCHO_SNAKEMAKE_PID"
PR_SET_PDEATHSIG = 1
PAUSE_S = 0.2
GRACE_S = 2.0
"""Between asking a job to end and ending it."""


def install_interrupt_handler() -> None:
    """Let this process, a Snakemake, be the one that its jobs end with; call in the Snakefile.

    Its jobs learn its process id from the environment. An interrupt (Ctrl-C, SIGINT) ends them in seconds, also if it
    reaches Snakemake alone, which would wait for them.
    """
    os.environ.update({VARIABLE: str(os.getpid())})
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number, frame):
    threading.Thread(target=_end_jobs, daemon=True).start()
    raise KeyboardInterrupt


def _end_jobs() -> None:
    """Interrupt jobs, kill those that do not end, and those that had not quite started; until this process ends."""
    import psutil

    asked: dict[psutil.Process, float] = {}
    while True:
        for job in psutil.Process().children(recursive=True):
            try:
                if not any("/.snakemake/scripts/" in argument for argument in job.cmdline()):
                    continue  # what else Snakemake starts, as a command to a cluster
                if job not in asked:
                    asked[job] = time.monotonic()
                    job.send_signal(signal.SIGINT)
                elif time.monotonic() > asked[job] + GRACE_S:
                    job.kill()
            except psutil.Error:  # it has ended
                continue
        time.sleep(PAUSE_S)


def end_with_parent() -> None:
    """Let this process, a job, be killed when its Snakemake ends, however that ends; Linux only.

    The kernel kills it when its parent ends. Where a shell is between the two, a thread looks whether Snakemake is
    still there. If Snakemake has ended before this call, it is killed here.
    """
    snakemake = int(os.environ.get(VARIABLE, 0))
    if not snakemake or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != snakemake:
        _die_without(snakemake)
        threading.Thread(target=_watch, args=(snakemake,), daemon=True).start()


def run(command, **options) -> subprocess.CompletedProcess:
    """Run a program as `subprocess.run` does; it is killed when this process ends, however that ends (Linux)."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)  # loaded before the fork
        options["preexec_fn"] = lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return subprocess.run(command, **options)


def _watch(ancestor: int) -> None:
    while True:
        time.sleep(PAUSE_S)
        _die_without(ancestor)


def _die_without(ancestor: int) -> None:
    if ancestor not in ancestors(os.getpid()):
        os.kill(os.getpid(), signal.SIGKILL)


def ancestors(pid: int) -> list[int]:
    """Process ids of a process's parent, its parent, and so on, as Linux knows them."""
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile: so has what is above it, for us
            break
        found.append(pid)
    return found
