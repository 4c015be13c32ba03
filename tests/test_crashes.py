"""Jobs and Snakemake die at random moments in every phase; the documented command goes on to the same results."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ptycho.data.canvas import Canvas
from tests.workflow import (
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
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc"),
]
EVERYTHING, SNAKEMAKE_ALONE, JOB_ALONE, INTERRUPT = (
    "SIGKILL to all",
    "SIGKILL to Snakemake alone",
    "SIGKILL to the job alone",
    "SIGINT to Snakemake alone",
)
WAYS = (EVERYTHING, SNAKEMAKE_ALONE, INTERRUPT, JOB_ALONE)
SECONDS = 15
"""That an interrupt may take on a machine that does other things as well."""
LONG = [
    "simulate_scan",
    "view",
    "train",
    "train",
    "train",
    "infer_network",
    "infer_network",
    "infer_network",
    "lsqml",
    "lsqml",
    "compare",
    "compare",
]


def seconds_of(rule, results):
    """How long the jobs of a rule took in an undisturbed run, at most 20 s."""
    numbers = [pd.read_csv(path, sep="\t")["s"].iloc[0] for path in results.glob(f"*/cost/{rule}/**/*.tsv")]
    return min(float(np.mean(numbers)), 20.0)


def catch(rule, place, run, rng, seconds):
    """Wait for a job of a rule, then for a random share of its time; return its process id, alive."""
    while True:
        wait_until(lambda: rule in jobs_in(place).values(), run)
        caught = [pid for pid, name in jobs_in(place).items() if name == rule]
        time.sleep(rng.uniform(0, seconds))
        for pid in caught:
            if pid in jobs_in(place):
                return pid


def end(way, place, run, pid):
    """End a run, and wait until none of its processes is left; a job that dies alone lets the others end."""
    if way == EVERYTHING:
        found = processes_in(place)
        for number in (
            signal.SIGSTOP,
            signal.SIGKILL,
        ):  # all at a stand: nobody sees another die
            for pid in found:
                os.kill(pid, number)
    elif way == JOB_ALONE:
        os.kill(pid, signal.SIGKILL)
    else:
        os.kill(run.pid, signal.SIGKILL if way == SNAKEMAKE_ALONE else signal.SIGINT)
    run.wait(timeout=300 if way == JOB_ALONE else SECONDS)
    limit = time.monotonic() + SECONDS
    while left := processes_in(place):
        assert time.monotonic() < limit, f"{left} outlived {way}"
        time.sleep(0.05)


def state_of(place):
    """Size and time of every file of the results."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns) for path in place.glob("results/**/*") if path.is_file()
    }


def go_through(kills, place, undisturbed, config, *targets):
    """Run the study, or what targets need, ending it once for each of `kills`; hold what is left against another."""
    seed = int(np.random.default_rng().integers(1 << 31))
    print(f"seed of the moments: {seed}")
    rng = np.random.default_rng(seed)
    options = ("--cores", "2", "--configfile", config)
    arguments = (*options, "--", *targets)
    wanted = jobs(snakemake(place, "-n", *arguments))
    finished, output = Counter(), place / "snakemake.txt"

    def count():
        finished.update(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", output.read_text()))

    for number, rule in enumerate(kills):
        way, seconds = WAYS[number % len(WAYS)], seconds_of(rule, undisturbed / "results")
        with (
            output.open("w") as file,
            subprocess.Popen(
                command_of(place, *arguments), stdout=file, stderr=file, cwd=ROOT, env=environment()
            ) as run,
        ):
            try:
                pid = catch(rule, place, run, rng, seconds)
                print(f"{way}, while {rule} was alive: {log_of(pid) or 'it had not opened its log'}")
                end(way, place, run, pid)
            finally:
                for pid in processes_in(place):
                    os.kill(pid, signal.SIGKILL)
        count()
        before = state_of(place)
        time.sleep(1)
        assert state_of(place) == before  # nobody goes on writing
        snakemake(place, *options, "--unlock")
    with output.open("w") as file:
        subprocess.run(command_of(place, *arguments), stdout=file, stderr=file, check=True, cwd=ROOT, env=environment())
    count()
    assert {name: finished[name] for name in wanted if name != "total"} == {
        name: number for name, number in wanted.items() if name != "total"
    }  # no job that had finished was made again
    assert_same_arrays(place, undisturbed)


def test_a_study_that_dies_while_it_iterates_trains_and_infers(study, tmp_path):
    undisturbed, config = study
    place = tmp_path.resolve() / "killed"
    shutil.copytree(undisturbed, place)
    condition = place / "results/tiny/dose_100000/dense/seed_0"
    for folder in (condition / "pinn", condition / "test/pinn", condition / "test/lsqml"):
        shutil.rmtree(folder)
    target = condition / "test/comparison_metrics.csv"
    target.unlink()
    go_through(
        ["lsqml", "train", "infer_network", "infer_network"], place, undisturbed, config, target.relative_to(place)
    )


@pytest.mark.long
def test_a_study_that_dies_in_every_phase(study, tmp_path):
    undisturbed, config = study
    place = tmp_path.resolve() / "killed"
    place.mkdir()
    go_through(LONG, place, undisturbed, config)


@pytest.mark.parametrize("moment", ["it computes", "it writes"])
def test_a_chunk_job_killed_half_way_is_made_anew_alone(study, tmp_path, moment):
    """SIGKILL to a chunk job and its Snakemake: no half-file that looks whole; that chunk alone; the same object."""
    place = tmp_path.resolve() / "killed"
    shutil.copytree(study[0], place)
    target = Path("results/tiny/dose_100000/dense/seed_0/test/pinn/object.npz")
    chunk = (place / target).parent / "chunks/2of2.npz"
    log = place / "logs/tiny/infer/dose_100000/dense/seed_0/test/pinn/2of2.log"
    for path in (place / target, chunk, log):
        path.unlink()
    kept = {path.name: path.read_bytes() for path in chunk.parent.iterdir()}
    arguments = ("--cores", "2", "--configfile", study[1])
    command = command_of(place, *arguments, "--", chunk.relative_to(place))
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment()
    ) as run:
        try:
            wait_until(lambda: log.exists() and "groups:" in log.read_text(), run)  # the bar, before the first batch
            killed = processes_in(place)
            assert run.pid in killed
            assert len(killed) > 1
            if moment == "it writes":
                wait_until(lambda: len(os.listdir(chunk.parent)) > len(kept), run, pause_s=1e-4)
            for pid in killed:
                os.kill(pid, signal.SIGSTOP)
            if moment == "it computes":
                assert "100%" not in log.read_text()
                assert not chunk.exists()
        finally:
            for pid in processes_in(place):  # all of them at a stand: nobody sees another die, and cleans up
                os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while processes_in(place):
        assert time.monotonic() < end
    if chunk.exists():  # killed after the renaming
        assert Canvas.load(chunk)[1]["groups"][1] == 40
    snakemake(place, *arguments, "--unlock")
    assert jobs(snakemake(place, "-n", *arguments, "--", target)) == {"infer_network": 1, "merge": 1, "total": 2}
    snakemake(place, *arguments, "--", target)
    assert {path.name for path in chunk.parent.iterdir()} == {*kept, chunk.name}  # nothing is left of the attempt
    assert all((chunk.parent / name).read_bytes() == content for name, content in kept.items())
    with np.load(study[0] / target) as first, np.load(place / target) as second:
        np.testing.assert_array_equal(second["object"], first["object"])
        np.testing.assert_array_equal(second["weight"], first["weight"])
