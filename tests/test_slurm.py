"""The tiny study on a cluster: a throw-away Slurm of two nodes on this machine, through profiles/slurm as it is."""

import os
import re
import shutil
import socket
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.workflow import ROOT, config_file, jobs, snakemake

PROFILE = ROOT / "profiles/slurm"
IMPOSSIBLE = 2
THROW_AWAY = (
    "--slurm-no-account",
    "--slurm-status-command=squeue",  # no accounting here: `sacct` is there and knows no job
    "--slurm-init-seconds-before-status-checks=2",
    "--latency-wait=10",
)
"""What this Slurm wants beside the profile."""
TARGET = "results/tiny/dose_100000/dense/seed_0/test/comparison_metrics.csv"
"""A condition: it needs every rule that Slurm runs."""
METHODS = ["pinn", "lsqml"]
"""Of the tiny study's: the Baseline is trained and applied by the PINN's rules."""
LOCAL = set(
    re.search(r"localrules:.*?\n((?:    \w+,\n)+)", (ROOT / "Snakefile").read_text())[1].replace(",", "").split()
)


def free_port():
    """First of three ports in a row that are free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return min(found.getsockname()[1], 65000)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Start Slurm; end it, and what runs in it, after the tests. Its folder."""
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
    lines = (slurm / "jobs.txt").read_text().splitlines()
    return pd.DataFrame([dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines])


def comments(run):
    """What Snakemake told Slurm about its jobs, e.g. rule_view: job number to name."""
    pattern = r"submitted with SLURM jobid (\d+) \(log: \S+/slurm_logs/(\w+)/"
    return dict(re.findall(pattern, run.stdout + run.stderr))


@pytest.fixture(scope="module")
def cluster_study(slurm, tmp_path_factory):
    """A condition of the tiny study, run by Slurm: its folder, Snakemake's run, Slurm's list of jobs."""
    folder = tmp_path_factory.mktemp("cluster")
    run = submit(folder, config_file(folder, methods=METHODS), "--", TARGET)
    return folder, run, ended(slurm)


@pytest.mark.slow
@pytest.mark.slurm
def test_every_job_that_is_not_local_ran_under_slurm(cluster_study, tmp_path):
    folder, run, accounts = cluster_study
    wanted = jobs(snakemake(tmp_path, "-n", "--cores", "2", "--configfile", folder / "config.yaml", "--", TARGET))
    wanted = {f"rule_{rule}": count for rule, count in wanted.items() if rule not in LOCAL | {"total", "infer_network"}}
    submitted = pd.Series(comments(run))
    chunks = submitted.str.startswith("group_chunks_")
    assert submitted[~chunks].value_counts().to_dict() == wanted
    assert chunks.sum() == 1  # the two chunks of a network together
    assert set(accounts["JobId"]) == set(submitted.index)
    assert set(accounts["JobState"]) == {"COMPLETED"}
    assert set(accounts["NodeList"]) <= {"n1", "n2"}  # the second when the first is full


@pytest.mark.slow
@pytest.mark.slurm
def test_trainings_have_a_gpu_and_two_chunks_run_at_a_time(cluster_study):
    _, run, accounts = cluster_study
    names, requests = comments(run), accounts.set_index("JobId")
    for number, name in names.items():
        command = ["scontrol", "show", "job", number]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert ("TresPerJob=gres:gpu:1" in said) == (name == "rule_train")
        assert requests["ProcCnt"][number] == ("2" if name.startswith("group_chunks") else "1")
    assert set(requests["TimeLimit"][[number for number, name in names.items() if name == "rule_train"]]) == {"40"}


@pytest.mark.slow
@pytest.mark.slurm
def test_results_equal_those_of_a_local_run(cluster_study, study):
    here, there = study[0] / "results/tiny", cluster_study[0] / "results/tiny"
    paths = sorted(path.relative_to(there) for path in there.rglob("*.npz"))
    assert {path.parts[-1] for path in paths} >= {"sample.npz", "train.npz", "object.npz", "2of2.npz", "comparison.npz"}
    for path in paths:
        with np.load(here / path) as first, np.load(there / path) as second:
            for name in second.files:
                if first[name].dtype.kind not in "US":  # words of what made it
                    np.testing.assert_array_equal(first[name], second[name], err_msg=f"{path}: {name}")
    rows = "metric != 'cpu_s' and method in @METHODS"
    first, second = (pd.read_csv(folder / TARGET).query(rows) for folder in (study[0], cluster_study[0]))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.slurm
def test_a_failed_job_is_tried_again_with_more_memory_and_time(slurm, cluster_study, study, tmp_path):
    shutil.copytree(cluster_study[0] / "results", tmp_path / "results")
    scan = tmp_path / "results/tiny/data/dose_100000/seed_0/test.npz"
    scan.write_bytes(scan.read_bytes()[:-1000])
    target = "results/tiny/dose_100000/dense/seed_0/test.npz"
    before = len(ended(slurm))
    arguments = ("--rerun-triggers", "mtime", "--retries", "1", "--", target)
    run = submit(tmp_path, study[1], *arguments, check=False)
    assert run.returncode
    assert "cut short" in run.stdout + run.stderr  # the job's own log is shown
    tries = ended(slurm)[before:]
    assert list(tries["JobState"]) == ["FAILED", "FAILED"]
    assert list(tries["TimeLimit"]) == ["10", "20"]
    assert ["mem=1000M" in tries["Tres"].iloc[0], "mem=2000M" in tries["Tres"].iloc[1]] == [True, True]


def test_the_profile_knows_what_every_job_needs():
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    rules = set(re.findall(r"^ *(?:use rule \w+ as|rule) (\w+)", text, flags=re.MULTILINE))
    assert set(profile["set-resources"]) == rules - LOCAL - {
        "fetch",
        "study_page",
        "workflow_report",
    }  # localrule: True
    assert all(
        "attempt" in str(needs[key]) for needs in profile["set-resources"].values() for key in ("mem_mb", "runtime")
    )
    assert set(profile["groups"].values()) == set(profile["group-components"])
