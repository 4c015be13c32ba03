"""The tiny study on a cluster: a throw-away Slurm of two nodes on this machine, through profiles/slurm as it is."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ptycho.data.object_files import load_reconstruction
from ptycho.data.scan import open_scan
from ptycho.data.tiles import load_tiles
from ptycho.data.views import FIT, VALIDATION, open_view
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.tv import TVOptions, reconstruct
from ptycho.workflow.config import load_config, read_file
from tests.workflow import CONDITION, ROOT, config_file, jobs, output_of, rules_of, snakemake

PROFILE = ROOT / "profiles/slurm"
IMPOSSIBLE = 2
THROW_AWAY = (
    "--slurm-no-account",
    "--slurm-status-command=squeue",  # no accounting here: `sacct` is there and knows no job
    "--slurm-init-seconds-before-status-checks=2",
    "--latency-wait=10",
)
"""What this Slurm needs in addition to the profile."""
TARGET = f"{CONDITION}/test/comparison_metrics.csv"
"""A condition: its jobs are of every kind that the profile tells apart."""
DATA = "results/tiny/data/dose_100000/seed_0/test.npz"
TV = Path(f"{CONDITION}/test/tv/object.npz")
"""TV-MAP in tiles, which are jobs of their own."""


def on_slurm(test):
    """Mark a test that needs the throw-away Slurm."""
    for mark in (pytest.mark.slow, pytest.mark.ci, pytest.mark.slurm):
        test = mark(test)
    return test


def free_port():
    """The first of three ports in a row; it is free."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return min(listener.getsockname()[1], 65000)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The folder of a Slurm that is started here, and ended after the tests with all that runs in it."""
    folder = tmp_path_factory.mktemp("slurm")
    start = [ROOT / "tests/slurm/start.sh", folder]
    run = subprocess.run(
        start, capture_output=True, text=True, check=False, env=os.environ | {"PORT": str(free_port())}
    )
    if run.returncode == IMPOSSIBLE:
        pytest.skip(run.stderr.strip())
    try:
        assert run.returncode == 0, run.stderr
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            yield folder
    finally:
        subprocess.run([ROOT / "tests/slurm/stop.sh", folder], check=True)


def submit(folder, config, *arguments, check=True):
    """Run Snakemake with the profile."""
    options = ("--workflow-profile", PROFILE, "--configfile", config, *THROW_AWAY)
    return snakemake(folder, *options, *arguments, check=check)


def ended(slurm):
    """Slurm's own list of the jobs that have ended, in order."""
    lines = (slurm / "jobs.txt").read_text(encoding="utf-8").splitlines()
    return pd.DataFrame([dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines])


def comments(run):
    """Names that Snakemake gave its jobs, e.g. rule_view: number of the job -> name."""
    pattern = r"submitted with SLURM jobid (\d+) \(log: \S+/slurm_logs/(\w+)/"
    return dict(re.findall(pattern, output_of(run)))


@pytest.fixture(scope="module")
def cluster_study(slurm, tmp_path_factory):
    """A condition of the tiny study, TV-MAP in two chunks, run by Slurm: its folder, Snakemake's run, list of jobs."""
    folder = tmp_path_factory.mktemp("cluster")
    run = submit(folder, config_file(folder, tv__chunks=2, tv__tile_px=48), "--", TARGET, TV)
    return folder, run, ended(slurm)


@on_slurm
def test_every_job_that_is_not_local_ran_under_slurm(cluster_study, tmp_path):
    folder, run, accounts = cluster_study
    config = folder / "config.yaml"
    rules = rules_of(tmp_path, config)
    local = {name for name, rule in rules.items() if rule["local"]}
    wanted = jobs(snakemake(tmp_path, "-n", "--cores", "2", "--configfile", config, "--", TARGET, TV))
    wanted = {f"rule_{rule}": count for rule, count in wanted.items() if rule not in local | {"total", "infer_network"}}
    assert (wanted["rule_tv_start"], wanted["rule_tv_chunk"]) == (1, 2)
    submitted = pd.Series(comments(run))
    chunks = submitted.str.startswith("group_chunks_")
    assert submitted[~chunks].value_counts().to_dict() == wanted
    assert chunks.sum() == 1  # the two chunks of a network together
    assert set(accounts["JobId"]) == set(submitted.index)
    assert set(accounts["JobState"]) == {"COMPLETED"}
    assert set(accounts["NodeList"]) <= {"n1", "n2"}  # the second when the first is full


@on_slurm
def test_trainings_have_a_gpu_and_two_chunks_run_at_a_time(cluster_study):
    _, run, accounts = cluster_study
    names, requests = comments(run), accounts.set_index("JobId")
    for number, name in names.items():
        command = ["scontrol", "show", "job", number]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert ("TresPerJob=gres:gpu:1" in shown) == (name == "rule_train_network")
        assert requests["ProcCnt"][number] == ("2" if name.startswith("group_chunks") else "1")
    trainings = [number for number, name in names.items() if name == "rule_train_network"]
    assert list(requests["TimeLimit"][trainings]) == ["40"]


@on_slurm
def test_results_equal_those_of_a_local_run(cluster_study, study):
    here, there = study[0] / "results/tiny", cluster_study[0] / "results/tiny"
    paths = sorted(path.relative_to(there) for path in there.rglob("*.npz"))
    paths = [path for path in paths if "tv" not in path.parts]
    assert {path.parts[-1] for path in paths} >= {"sample.npz", "train.npz", "object.npz", "2of2.npz", "comparison.npz"}
    for path in paths:
        with np.load(here / path) as first, np.load(there / path) as second:
            for name in second.files:
                if first[name].dtype.kind not in "US":  # the text of the record
                    np.testing.assert_array_equal(first[name], second[name], err_msg=f"{path}: {name}")
    rows = "metric != 'cpu_s'"
    first, second = (pd.read_csv(folder / TARGET).query(rows) for folder in (study[0], cluster_study[0]))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True), rtol=1e-6)


@on_slurm
def test_tiles_in_jobs_of_their_own_are_the_object_of_one_job(cluster_study):
    folder, _, _ = cluster_study
    scan = open_scan(folder / DATA)
    view = open_view(folder / f"{CONDITION}/test.npz", scan)
    options = TVOptions(**load_config(folder / "config.yaml")["tv"])
    assert len(load_tiles(folder / TV.parent / "tiles.npz", scan)) > 1
    counts = Counts.of(scan, view.of_role(FIT, VALIDATION))
    merged, _ = load_reconstruction(folder / TV)
    np.testing.assert_array_equal(merged.object, reconstruct(counts, scan.probe, options, seed=0).object)


@on_slurm
def test_a_failed_job_is_tried_again_with_more_memory_and_time(slurm, cluster_study, study, tmp_path):
    shutil.copytree(cluster_study[0] / "results", tmp_path / "results")
    scan = tmp_path / DATA
    scan.write_bytes(scan.read_bytes()[:-1000])
    target = f"{CONDITION}/test.npz"
    before = len(ended(slurm))
    arguments = ("--rerun-triggers", "mtime", "--retries", "1", "--", target)
    run = submit(tmp_path, study[1], *arguments, check=False)
    assert run.returncode
    assert "test.npz: " in output_of(run)  # the job's own log is shown
    assert "cut short" in output_of(run)
    tries = ended(slurm)[before:]
    assert list(tries["JobState"]) == ["FAILED", "FAILED"]
    assert list(tries["TimeLimit"]) == ["10", "20"]
    assert ["mem=1200M" in tries["Tres"].iloc[0], "mem=2400M" in tries["Tres"].iloc[1]] == [True, True]


def test_the_profile_groups_chunks_and_leaves_resources_to_the_rules(tmp_path):
    profile, rules = read_file(PROFILE / "config.yaml"), rules_of(tmp_path, ROOT / "config/config.yaml")
    assert "set-resources" not in profile
    assert set(profile["groups"]) == {"infer_network"} < set(rules)
    assert set(profile["groups"].values()) == set(profile["group-components"])
    assert not any(rules[name]["local"] for name in profile["groups"])
    assert profile["retries"] > 0  # with more memory and time: test_rules.py
