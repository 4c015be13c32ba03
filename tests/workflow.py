"""The workflow as tests call it: in a folder, with changed configs; its jobs and their processes."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parent.parent
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
CONDITION = "results/tiny/dose_100000/dense/seed_0"
"""Of the tiny study."""


def command_of(folder, *arguments):
    command = [SNAKEMAKE, "--snakefile", ROOT / "Snakefile", "--directory", folder, *arguments]
    return [str(part) for part in command]


def environment():
    """What a user's shell has: not the kernels that the other tests ask TensorFlow for."""
    return {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}


def snakemake(folder, *arguments, check=True):
    options = {"capture_output": True, "text": True, "cwd": ROOT, "env": environment()}
    run = subprocess.run(command_of(folder, *arguments), check=False, **options)
    assert not check or run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return run


def jobs(run):
    """Numbers of jobs by rule, from the table of a dry run; empty if there is nothing to be done."""
    text = run.stdout + run.stderr
    table = text.rpartition("Job stats:")[2].partition("\n\n")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def config_file(folder, **changes):
    """Write the tiny study's config with changes, as key__key=value; None takes a key away."""
    config = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())
    for key, value in changes.items():
        part = config
        *parents, last = key.split("__")
        for parent in parents:
            part = part[parent]
        part[last] = value
        if value is None:
            del part[last]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def wait_until(true, run, pause_s=1e-2, limit_s=300):
    """Poll until something is true while Snakemake runs."""
    end = time.monotonic() + limit_s
    while not true():
        assert run.poll() is None, "Snakemake ended before it could be killed"
        assert time.monotonic() < end, f"nothing to kill within {limit_s} s"
        time.sleep(pause_s)


def processes_in(folder):
    """Processes that work in a folder: Snakemake, started with --directory, and its jobs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == folder and "State:\tZ" not in (entry / "status").read_text():
                found.append(int(entry.name))
    return found


def jobs_in(folder):
    """Jobs that are alive in a folder: process id to the rule that it is of, from the name of its script."""
    found = {}
    for pid in processes_in(folder):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_text()
            if script := re.search(r"/\.snakemake/scripts/tmp\w+\.(\w+)\.py", command):
                found[pid] = script[1]
    return found


def log_of(pid):
    """The log that a job writes, None if it has not opened one."""
    with contextlib.suppress(OSError):
        path = Path(f"/proc/{pid}/fd/1").readlink()
        return path if path.suffix == ".log" else None
    return None


def assert_same_arrays(place, undisturbed):
    """Hold every array of a study against another one's."""
    files = {path.relative_to(undisturbed) for path in undisturbed.glob("results/**/*.npz")}
    assert files == {path.relative_to(place) for path in place.glob("results/**/*.npz")}
    for name in files:
        with np.load(undisturbed / name) as first, np.load(place / name) as second:
            for key in set(first.files) - {"metadata"}:  # which names the folder
                np.testing.assert_array_equal(first[key], second[key], err_msg=f"{name}: {key}")


def copy_of_the_house(folder):
    """Copy the code, to change it."""
    things = (".git", ".venv", "results", "logs", ".snakemake", "*.egg-info", ".pytest_cache")
    return shutil.copytree(ROOT, folder / "house", ignore=shutil.ignore_patterns(*things))


def run_in(house, folder, *arguments):
    """Run Snakemake with the code of a copy."""
    command = [SNAKEMAKE, "--snakefile", house / "Snakefile", "--directory", folder, *arguments]
    environment = {"PYTHONPATH": str(house), "PATH": f"{SNAKEMAKE.parent}:/usr/bin:/bin", "HOME": str(house)}
    options = {"capture_output": True, "text": True, "cwd": house, "env": environment, "check": False}
    run = subprocess.run([str(part) for part in command], **options)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return run
