"""Snakemake's scheduler: how many GPUs it may assign, and an estimate of the time to completion from its log."""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ptycho.workflow.files import StrPath

EVENT = "progress"
"""Snakemake's name of the log event whose record has the numbers of jobs `done` and in `total`."""


class EtaHandler(logging.Handler):
    """Handler of Snakemake's log that prints how many jobs are left, and how long they take at the pace so far.

    Jobs differ in length. The first ones of a study are short, so that early estimates are too low.

    Parameters
    ----------
    clock : callable
        Returns monotonic time [s].
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self.clock, self.start = clock, clock()

    def emit(self, record: logging.LogRecord) -> None:
        """Print the estimate while some jobs are done and some are left."""
        done, total = getattr(record, "done", 0), getattr(record, "total", 0)
        if str(getattr(record, "event", "")) != EVENT or not 0 < done < total:
            return
        left = total - done
        seconds = (self.clock() - self.start) / done * left
        print(f"{done} jobs done, {left} left, roughly {_duration(seconds)} to go", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def visible_gpus(devices: StrPath = "/dev", environment: Mapping[str, str] | None = None) -> int:
    """Count the NVIDIA GPUs that jobs may use, without loading a library.

    Parameters
    ----------
    devices : path
        Folder of the device files `nvidia0`, `nvidia1`, … (Linux).
    environment : mapping, optional
        Its `CUDA_VISIBLE_DEVICES` may restrict them; default: `os.environ`.
    """
    present = sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in Path(devices).glob("nvidia*"))
    visible = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    chosen = [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    return min(present, len(chosen))


def limit_gpus(scheduler: Any, count: int) -> None:
    """Let Snakemake's scheduler assign `count` GPUs at a time, unless `--resources gpu=…` gave a number.

    Parameters
    ----------
    scheduler : snakemake.scheduling.job_scheduler.JobScheduler
        Its `global_resources` and `resources` get an entry `gpu`.
    """
    if count and "gpu" not in scheduler.global_resources:
        for resources in (scheduler.global_resources, scheduler.resources):
            resources["gpu"] = count
