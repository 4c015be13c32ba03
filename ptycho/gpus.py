"""GPUs of this machine: a study that runs on it trains one network at a time on each."""

import os
import re
from pathlib import Path


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


def share_out(scheduler, count: int) -> None:
    """Let Snakemake's scheduler hand out so many GPUs, unless `--resources gpu=…` has told it how many."""
    if count and "gpu" not in scheduler.global_resources:
        for known in (scheduler.global_resources, scheduler.resources):
            known["gpu"] = count
