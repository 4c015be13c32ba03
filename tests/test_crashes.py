"""Jobs and Snakemake are killed at random moments in every phase; the documented command resumes to the same results.

A seed decides the moments and is printed when a test fails; run the test with PTYCHO_CRASH_SEED=… to repeat them.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ptycho.data.canvas import read_metadata
from tests.workflow import (
    CONDITION,
    ROOT,
    assert_same_arrays,
    command_of,
    environment,
    jobs,
    jobs_in,
    log_of,
    processes_in,
    snakemake,
    wait_until,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc"),
]
EVERYTHING, SNAKEMAKE_ALONE, JOB_ALONE, INTERRUPT = (
    "SIGKILL to all",
    "SIGKILL to Snakemake alone",
    "SIGKILL to the job alone",
    "SIGINT to Snakemake alone",
)
WAYS = (EVERYTHING, SNAKEMAKE_ALONE, INTERRUPT, JOB_ALONE)
LIMIT_S = 30
"""Longest that it may take to end a run, on a machine that does other things as well."""
COST = {"train_network": "train", "infer_network": "infer"}
"""Rules whose measurements have another name."""
PHASES = {
    "phase_c": ["simulate_scan"],
    "phase_d": ["view"],
    "phase_e": 3 * ["train_network"],
    "phase_f": 2 * ["lsqml"],
    "inference": 3 * ["infer_network"],
    "all": 2 * ["compare"],
}
"""Target -> rules during whose jobs the run is ended."""


def seconds_of(rule, results):
    """How long the jobs of a rule take at least, by their times in an undisturbed run on a busier machine."""
    tables = [
        pd.read_csv(path, sep="\t", na_values="-") for path in results.glob(f"*/cost/{COST.get(rule, rule)}/**/*.tsv")
    ]
    times = pd.concat(tables)[["cpu_time", "s"]].fillna(0).mean()
    return float(max(times["cpu_time"], times["s"] / 2))


def crash_seed():
    """The seed of the moments: a new one for every run, unless PTYCHO_CRASH_SEED says which."""
    seed = int(os.environ.get("PTYCHO_CRASH_SEED") or np.random.default_rng().integers(1 << 31))
    print(f"PTYCHO_CRASH_SEED={seed}")
    return seed


def catch(rule, folder, run, rng, seconds):
    """Wait for a job of a rule, then for a random fraction of its time; return its process id, alive.

    None if Snakemake ends before: then all jobs were faster than the random moments.
    """
    limit = time.monotonic() + 300
    while run.poll() is None:
        assert time.monotonic() < limit
        waiting = [pid for pid, name in jobs_in(folder).items() if name == rule]
        time.sleep(rng.uniform(0, seconds) if waiting else 0.01)
        if pid := next((pid for pid in waiting if pid in jobs_in(folder)), None):
            return pid
    assert run.returncode == 0
    return None


def end(way, folder, run, pid):
    """End a run, and wait until none of its processes is left; a job that dies alone lets the others end."""
    if way == EVERYTHING:
        pids = processes_in(folder)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stop all first: none sees another die
            for pid in pids:
                os.kill(pid, number)
    elif way == JOB_ALONE:
        os.kill(pid, signal.SIGKILL)
    else:
        os.kill(run.pid, signal.SIGKILL if way == SNAKEMAKE_ALONE else signal.SIGINT)
    run.wait(timeout=300 if way == JOB_ALONE else LIMIT_S)
    limit = time.monotonic() + LIMIT_S
    while left := processes_in(folder):
        assert time.monotonic() < limit, f"{left} outlived {way}"
        time.sleep(0.05)


def state_of(folder):
    """Size and time of every file of the results."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.glob("results/**/*") if path.is_file()
    }


def run_with_kills(kills, folder, study, target, rng):
    """Run what a target needs, ending the run once for each of `kills`: a way and the rule that is then at work."""
    undisturbed, config = study
    options = ("--cores", "2", "--configfile", config)
    arguments, killed = (*options, "--", target), 0
    wanted = jobs(snakemake(folder, "-n", *arguments))
    finished, output = Counter(), folder / "snakemake.txt"

    def count():
        text = output.read_text(encoding="utf-8")
        finished.update(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", text))

    for way, rule in kills:
        seconds = seconds_of(rule, undisturbed / "results")
        with (
            output.open("w", encoding="utf-8") as file,
            subprocess.Popen(
                command_of(folder, *arguments), stdout=file, stderr=file, cwd=ROOT, env=environment()
            ) as run,
        ):
            try:
                if pid := catch(rule, folder, run, rng, seconds):
                    print(f"{way}, while {rule} was alive: {log_of(pid) or 'it had not opened its log'}")
                    end(way, folder, run, pid)
                    killed += 1
            finally:
                for pid in processes_in(folder):
                    os.kill(pid, signal.SIGKILL)
        count()
        before = state_of(folder)
        time.sleep(1)
        assert state_of(folder) == before  # nobody goes on writing
        snakemake(folder, *options, "--unlock")
    with output.open("w", encoding="utf-8") as file:
        last = subprocess.run(command_of(folder, *arguments), stdout=file, stderr=file, cwd=ROOT, env=environment())
    assert last.returncode == 0, output.read_text(encoding="utf-8")[-6000:]
    count()
    assert {name: finished[name] for name in wanted if name != "total"} == {
        name: number for name, number in wanted.items() if name != "total"
    }  # no job that had finished was run again
    assert killed


def test_a_study_killed_while_it_reconstructs_trains_and_infers(study, tmp_path):
    folder = tmp_path.resolve() / "killed"
    shutil.copytree(study[0], folder)
    condition = folder / CONDITION
    for results in (condition / "pinn", condition / "test/pinn", condition / "test/lsqml"):
        shutil.rmtree(results)
    target = condition / "test/comparison_metrics.csv"
    target.unlink()
    kills = zip(WAYS, ["lsqml", "train_network", "infer_network", "infer_network"], strict=True)
    run_with_kills(kills, folder, study, target.relative_to(folder), np.random.default_rng(crash_seed()))
    assert_same_arrays(folder, study[0])


@pytest.mark.long
def test_a_study_killed_in_every_phase(study, tmp_path):
    folder = tmp_path.resolve() / "killed"
    folder.mkdir()
    rng, ways = np.random.default_rng(crash_seed()), cycle(WAYS)
    for target, rules in PHASES.items():
        run_with_kills([(next(ways), rule) for rule in rules], folder, study, target, rng)
    assert_same_arrays(folder, study[0])


@pytest.mark.parametrize("moment", ["it computes", "it writes"])
def test_a_chunk_job_killed_half_way_is_run_again_alone(study, tmp_path, moment):
    """SIGKILL to a chunk job and its Snakemake: no partial file looks complete, and the object is the same."""
    folder = tmp_path.resolve() / "killed"
    shutil.copytree(study[0], folder)
    target = Path(f"{CONDITION}/test/pinn/object.npz")
    chunk = (folder / target).parent / "chunks/2of2.npz"
    log = folder / "logs/tiny/infer/dose_100000/dense/seed_0/test/pinn/2of2.log"
    for path in (folder / target, chunk, log):
        path.unlink()
    kept = {path.name: path.read_bytes() for path in chunk.parent.iterdir()}
    arguments = ("--cores", "2", "--configfile", study[1])
    command = command_of(folder, *arguments, "--", chunk.relative_to(folder))
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment()
    ) as run:
        try:
            wait_until(
                lambda: log.exists() and "tiles:" in log.read_text("utf-8"), run
            )  # the progress bar, before the first tile
            killed = processes_in(folder)
            assert run.pid in killed
            assert len(killed) > 1
            if moment == "it writes":
                wait_until(lambda: len(os.listdir(chunk.parent)) > len(kept), run, pause_s=1e-4)
            for pid in killed:
                os.kill(pid, signal.SIGSTOP)
            if moment == "it computes":
                assert "100%" not in log.read_text("utf-8")
                assert not chunk.exists()
        finally:
            for pid in processes_in(folder):  # all of them stopped: none sees another die, and cleans up
                os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + LIMIT_S
    while processes_in(folder):
        assert time.monotonic() < end
    if chunk.exists():  # killed after the renaming
        assert read_metadata(chunk)["tiles"] == [2, 4]
    snakemake(folder, *arguments, "--unlock")
    assert jobs(snakemake(folder, "-n", *arguments, "--", target)) == {"infer_network": 1, "merge": 1, "total": 2}
    snakemake(folder, *arguments, "--", target)
    assert {path.name for path in chunk.parent.iterdir()} == {*kept, chunk.name}  # nothing is left of the attempt
    assert all((chunk.parent / name).read_bytes() == content for name, content in kept.items())
    with np.load(study[0] / target) as first, np.load(folder / target) as second:
        np.testing.assert_array_equal(second["object"], first["object"])
        np.testing.assert_array_equal(second["illumination"], first["illumination"])
