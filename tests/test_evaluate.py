"""What is scored under one condition, and what is said of it, when methods fail."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest

from ptycho.data.object_files import save_object
from ptycho.reporting.figures import plot_comparison
from ptycho.reporting.frc_figures import plot_frc
from ptycho.reporting.tables import warnings_of, with_condition
from ptycho.scoring.evaluate import Region, compare, frc_table
from ptycho.scoring.metrics import METRICS
from ptycho.workflow.paths import condition_of
from ptycho.workflow.processes import run
from ptycho.workflow.provenance import record_of
from tests.conftest import view_of
from tests.workflow import ROOT

CONDITION = {"dose": 1000, "view": "dense", "seed": 0}


@pytest.mark.parametrize("value", [0, np.nan])
def test_a_method_that_died_stops_no_other(scan, tmp_path, value):
    truth = scan.object[:]
    objects = {"tv": truth, "pinn": np.full_like(truth, value)}
    for method, obj in objects.items():
        save_object(tmp_path / f"{method}.npz", obj.astype(np.complex64), np.ones(truth.shape), (0, 0), method=method)
    region = Region(40, 90, 40, 90)
    paths = {method: tmp_path / f"{method}.npz" for method in objects}
    table, arrays = compare(paths, scan, view_of(scan), region)
    values = table.set_index(["method", "metric"])["value"]
    assert values["tv", "error"] < 1e-3
    assert np.isnan(values["pinn", "shift_px"])
    assert np.isnan(values["pinn", "scale"])
    if np.isnan(value):
        assert all(np.isnan(values["pinn", name]) for name in METRICS)
    else:
        assert values["pinn", "error"] == pytest.approx(1)
    said = warnings_of(with_condition(table, **CONDITION, split="test"))
    assert said == ["pinn, dense 1000: could not be registered: the log of compare says why"]
    plot_comparison(arrays["truth"], {name: arrays[name] for name in objects}, {}, "")
    plot_frc(frc_table(arrays), "")


def test_warnings_of_one_condition_share_a_line():
    rows = [
        {"dose": 10, "view": "dense", "split": split, "method": "pinn", "object": name, "seed": seed}
        | {"metric": "shift_px", "value": 0.3 if seed else 0.05}
        for split in ("train", "test")
        for name in ("a", "b")
        for seed in (0, 1)
    ]
    said = "split: shifted by 0.30 px at most, 2 of 4; a known probe allows 0.1 px"
    assert warnings_of(pd.DataFrame(rows)) == [f"pinn, dense 10, {split} {said}" for split in ("train", "test")]


def test_a_ramp_that_was_taken_off_is_said():
    row = {"dose": 10, "view": "dense", "split": "test", "seed": 0, "metric": "ramp_rad_per_px"}
    table = pd.DataFrame([{**row, "method": "lsqml", "value": 0.012}, {**row, "method": "tv", "value": 0.003}])
    said = "lsqml, dense 10: tilted by a phase ramp of 0.0120 rad/px; a known probe allows 0.005 rad/px"
    assert warnings_of(table) == [said]


def test_what_was_lost_is_counted():
    row = {"dose": 10, "view": "dense", "split": "test", "method": "pinn", "metric": "shift_px"}
    table = pd.DataFrame([{**row, "seed": seed, "value": value} for seed, value in enumerate((np.nan, 0.0))])
    assert warnings_of(table) == ["pinn, dense 10: could not be registered, 1 of 2: the log of compare says why"]


def test_a_condition_is_told_from_a_path():
    assert condition_of("results/x/object_b/dose_5/dense/seed_2/test/frc.csv") == {
        "object": "b",
        "dose": 5,
        "view": "dense",
        "seed": 2,
    }
    with pytest.raises(ValueError, match=r"data/dose_10/seed_0/test\.npz: wanted a file under"):
        condition_of("results/x/data/dose_10/seed_0/test.npz")


def test_a_record_has_the_seed_of_the_object_that_it_is_of():
    objects = {"a": {"kind": "dead_leaves"}, "b": {"kind": "lines", "seed": 21}}
    study = {"study": "s", "seeds": [0, 1], "source": {"seed": 20}, "objects": objects}
    for name, own in (("a", {}), ("b", {"object": 21})):
        facts = {"wildcards": {"object": name, "seed": "1"}, "params": {}, "input": [], "output": []}
        record = record_of(SimpleNamespace(config=study, rule="r", **facts), ROOT / "scripts/merge.py")
        assert record["seeds"] == {"sample": 20, **own, "noise_and_training": [1]}
        json.dumps(record)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG")
def test_a_program_that_a_job_runs_dies_with_it(tmp_path):
    assert run([sys.executable, "-c", "print(1)"], capture_output=True, text=True, check=True).stdout == "1\n"
    file = tmp_path / "pid"
    program = f"from ptycho.workflow.processes import run\nrun(['sh', '-c', 'echo $$ > {file}; exec sleep 60'])"

    def wait_for(true):
        end = time.monotonic() + 30
        while not true():
            assert time.monotonic() < end
            time.sleep(0.02)

    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as job:
        wait_for(lambda: file.exists() and file.read_text().endswith("\n"))
        child = int(file.read_text())
        os.kill(job.pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
