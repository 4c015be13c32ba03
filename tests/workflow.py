"""The workflow as tests call it: in a folder, with changed configs; its jobs and their processes."""

import contextlib
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml

from ptycho.workflow.config import load_config, read_file
from tests.network import unshare, watched
from tests.snakemake_server import forked

ROOT = Path(__file__).parent.parent
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
TINY = ROOT / "config/tiny.yaml"
SMALLER = {
    "methods": ["pinn", "lsqml"],
    "views": {"dense": 0.7},
    "inference": {"chunks": 2, "tile_px": 45, "halo_px": 16},
}
"""What the shared study asks for, less than `TINY`: one network, one solver, one view; four tiles in two chunks."""
CONDITION = "results/tiny/dose_100000/dense/seed_0"
"""The condition of the shared study."""


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Environment of a Python that reads and writes text as ASCII unless it is told the encoding."""


def command_of(folder, *arguments):
    """The command that runs the workflow in a folder."""
    command = [SNAKEMAKE, "--snakefile", ROOT / "Snakefile", "--directory", folder, *arguments]
    return [str(part) for part in command]


def environment():
    """What a user's shell has: not the kernels that the other tests ask TensorFlow for."""
    return {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}


def snakemake(folder, *arguments, check=True, cwd=ROOT, under=(), **variables):
    """Run the workflow in a folder.

    In a process of its own where that has further environment variables or is run by another command, `under`;
    otherwise in one that is forked from an idle Snakemake.
    """
    command, env = command_of(folder, *arguments), environment()
    if under or variables:
        options = {"capture_output": True, "encoding": "utf-8", "cwd": cwd, "env": env | variables, "check": False}
        run = subprocess.run([*under, *command], **options)
    else:
        run = forked("run_snakemake", command, cwd=cwd, env=env)
    assert not check or run.returncode == 0, output_of(run)[-6000:]
    return run


def offline(folder, *arguments):
    """Run the workflow in a folder without a network, where that is possible, and record what asks for one."""
    return snakemake(folder, *arguments, under=unshare(), **watched(folder))


def output_of(run):
    """Everything that a run has printed."""
    return run.stdout + run.stderr


def jobs(run):
    """Numbers of jobs by rule, from the table of a dry run; empty if there is nothing to do."""
    table = output_of(run).rpartition("Job stats:")[2].partition("\n\n")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def config_file(folder, **changes):
    """Write a study file: the shared study's own keys with changes, as key__key=value; None removes a key.

    A nested key must be one of the config as the workflow sees it, defaults included.
    """
    own, merged = read_file(TINY) | copy.deepcopy(SMALLER), load_config(TINY)
    for path, value in changes.items():
        part, known = own, merged
        *parents, last = path.split("__")
        for parent in parents:
            part, known = part.setdefault(parent, {}), known[parent]
        part[last] = value
        if value is None:
            del part[last]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    return path


def rules_of(folder, config):
    """The rules of a study: name -> script, local or not, input as written, resources at the first and second attempt.

    In a process of its own: reading the Snakefile changes what signals do.
    """
    arguments = [str(path) for path in (ROOT / "Snakefile", folder, config)]
    run = forked("print_rules", arguments, cwd=ROOT, env=environment())
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def wait_until(condition, run, pause_s=1e-2, limit_s=300):
    """Poll until a condition holds while Snakemake runs."""
    end = time.monotonic() + limit_s
    while not condition():
        assert run.poll() is None, "Snakemake ended before it could be killed"
        assert time.monotonic() < end, f"nothing to kill within {limit_s} s"
        time.sleep(pause_s)


def processes_in(folder):
    """Processes that work in a folder: Snakemake, started with --directory, and its jobs."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == folder and "State:\tZ" not in (entry / "status").read_text("utf-8"):
                pids.append(int(entry.name))
    return pids


def jobs_in(folder):
    """Jobs that are alive in a folder: process id -> its script's name."""
    scripts = {}
    for pid in processes_in(folder):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_text("utf-8")
            if script := re.search(r"/\.snakemake/scripts/tmp\w+\.(\w+)\.py", command):
                scripts[pid] = script[1]
    return scripts


def log_of(pid):
    """The log that a job writes; None if it has not opened one."""
    with contextlib.suppress(OSError):
        path = Path(f"/proc/{pid}/fd/1").readlink()
        return path if path.suffix == ".log" else None
    return None


def assert_same_arrays(folder, undisturbed):
    """Hold every array of a study against another one's."""
    files = {path.relative_to(undisturbed) for path in undisturbed.glob("results/**/*.npz")}
    assert files == {path.relative_to(folder) for path in folder.glob("results/**/*.npz")}
    for name in files:
        with np.load(undisturbed / name) as first, np.load(folder / name) as second:
            for key in set(first.files) - {"metadata"}:  # which names the folder
                np.testing.assert_array_equal(first[key], second[key], err_msg=f"{name}: {key}")


def copy_of_code(folder):
    """Copy the repository's files, to change them."""
    left_out = (".git", ".venv", "results", "logs", ".snakemake", "*.egg-info", ".pytest_cache", ".*_cache", "docs")
    left_out += ("*.pyc.*", "*.tmp.*")  # what others are just compiling
    return shutil.copytree(ROOT, folder / "code", ignore=shutil.ignore_patterns(*left_out))


def run_in(code, folder, *arguments):
    """Run Snakemake with the code of a copy."""
    command = [SNAKEMAKE, "--snakefile", code / "Snakefile", "--directory", folder, *arguments]
    variables = {"PYTHONPATH": str(code), "PATH": f"{SNAKEMAKE.parent}:/usr/bin:/bin", "HOME": str(code)}
    options = {"capture_output": True, "encoding": "utf-8", "cwd": code, "env": variables, "check": False}
    run = subprocess.run([str(part) for part in command], **options)
    assert run.returncode == 0, output_of(run)[-6000:]
    return run
