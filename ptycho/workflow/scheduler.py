"""What Snakemake's scheduler is told and says: the machine's GPUs, and a rough time to go."""

import logging
import os
import re
import sys
import time
from pathlib import Path

EVENT = "progress"
"""Snakemake's name of it; the record has the numbers of jobs `done` and in `total`."""


class EtaHandler(logging.Handler):
    """Handler of Snakemake's log that says how many jobs are left and, at the pace so far, how long they take.

    Jobs are not alike, so the first ones of a study, which are short, promise too much.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, clock=time.monotonic):
        super().__init__()
        self.clock, self.start = clock, clock()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, once some jobs are done and some are left."""
        if str(getattr(record, "event", "")) != EVENT or not 0 < record.done < record.total:
            return
        left = record.total - record.done
        seconds = (self.clock() - self.start) / record.done * left
        print(f"{record.done} jobs done, {left} left, roughly {_words(seconds)} to go", file=sys.stderr, flush=True)


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def visible_gpus(devices="/dev", environment=os.environ) -> int:
    """Count NVIDIA's GPUs that jobs may use, without asking any library.

    Parameters
    ----------
    devices : path
        Folder of the device files `nvidia0`, `nvidia1`, ….
    environment : mapping
        Where `CUDA_VISIBLE_DEVICES` may name fewer of them.
    """
    found = sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in Path(devices).glob("nvidia*"))
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return found
    chosen = [name for name in named.split(",") if name.strip() and name.strip() != "-1"]
    return min(found, len(chosen))


def limit_gpus(scheduler, count: int) -> None:
    """Let Snakemake's scheduler hand out so many GPUs, unless `--resources gpu=…` has told it how many."""
    if count and "gpu" not in scheduler.global_resources:
        for known in (scheduler.global_resources, scheduler.resources):
            known["gpu"] = count
