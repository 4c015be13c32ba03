"""The workflow as its users call it: dry runs, wrong configs, and a tiny study from end to end."""

import os
import re
import shutil
import time
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from ptycho.cli.provenance import find_record, root_of, state_of, state_of_code
from ptycho.methods import METHODS
from ptycho.scoring.registration import Gauge
from tests.workflow import (
    CONDITION,
    ROOT,
    config_file,
    jobs,
    snakemake,
)

METRICS = (
    {
        f"{name}_{part}"
        for name in ("mae", "rmse", "psnr", "ssim", "ms_ssim", "frc50")
        for part in ("amplitude", "phase")
    }
    | {"error", "heldout_deviance", "shift_px", "ramp_rad_per_px", "cpu_s"}
    | {field.name for field in fields(Gauge)}
)


def test_a_dry_run_lists_the_whole_default_study(tmp_path):
    found = jobs(snakemake(tmp_path, "-n", "--cores", "4"))
    conditions = 6
    assert found["train_network"] == 2 * conditions
    assert found["infer_network"] == 2 * 2 * conditions
    assert found["merge"] == 3 * conditions
    assert found["train_unrolled"] == found["infer_unrolled"] == found["tv"] == conditions
    assert found["lsqml"] == found["compare"] == found["simulate_scan"] == conditions
    assert found["view"] == 2 * conditions
    assert not list(tmp_path.glob("results/**/*.npz"))


def test_methods_named_in_halves_reconstruct_either_half_of_the_photons(tmp_path):
    arguments = ("-n", "--cores", "1", "--configfile", config_file(tmp_path, halves=["lsqml", "tv"]))
    found = jobs(snakemake(tmp_path, *arguments))
    assert found["half_scans"] == 1
    assert found["half_frc"] == 2
    assert found["lsqml_half"] == found["tv_half"] == 2 * 2


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("phase_c", "simulate_scan"),
        ("phase_d", "view"),
        ("phase_e", "train"),
        ("phase_f", "lsqml"),
        ("inference", "merge"),
        ("phase_g", "compare"),
    ],
)
def test_every_phase_can_be_asked_for_alone(tmp_path, target, last):
    found = jobs(snakemake(tmp_path, "-n", "--cores", "1", "--configfile", config_file(tmp_path), "--", target))
    assert last in found
    if target in ("phase_c", "phase_d"):
        assert "train" not in found
    if target == "phase_f":
        assert "infer_network" not in found


def test_both_splits_are_one_word_away(tmp_path):
    config = config_file(tmp_path, splits=["train", "test"])
    found = jobs(snakemake(tmp_path, "-n", "--cores", "1", "--configfile", config))
    assert found["compare"] == 2 * 2
    assert found["train_network"] == 2 * 2
    assert found["region"] == 2


def test_several_objects_have_folders_of_their_own(tmp_path):
    run = snakemake(tmp_path, "-n", "--cores", "1", "--configfile", ROOT / "config/seeds.yaml")
    found, conditions = jobs(run), 2 * 3 * 2 * 3
    assert found["sample"] == found["region"] == found["plot_sample"] == 2
    assert found["compare"] == found["train_unrolled"] == found["lsqml"] == conditions
    assert found["simulate_scan"] == 2 * 3 * 2 * 3
    assert "results/seeds/object_lines/dose_1000/dense/seed_2/test/comparison_metrics.csv" in run.stdout + run.stderr


@pytest.mark.parametrize("both", [True, False])
def test_one_object_or_several_but_not_both_or_none(tmp_path, both):
    objects = {"one": {"kind": "dead_leaves"}}
    changes = {"objects": objects} if both else {"source__object": None}
    run = snakemake(tmp_path, "-n", "--configfile", config_file(tmp_path, **changes), check=False)
    assert "source.object, objects: wanted the one or the other" in run.stdout + run.stderr


def test_the_measured_study_has_its_own_jobs(tmp_path):
    found = jobs(snakemake(tmp_path, "-n", "--cores", "1", "--configfile", ROOT / "config/siemens.yaml"))
    assert {"fetch", "convert", "halve", "reference", "simulate_scan", "train", "lsqml", "compare"} <= set(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"training__epocs": 1}, "epocs"),
        ({"doses": None}, "'doses' is a required property"),
        ({"doses": [-1]}, r"doses\[0\]: -1 .*minimum"),
        ({"views__dense": 1.2}, r"views\.dense: 1\.2"),
        ({"inference__chunks": 0}, r"inference\.chunks: 0"),
    ],
)
def test_a_wrong_config_stops_the_dry_run(tmp_path, change, says):
    run = snakemake(tmp_path, "-n", "--configfile", config_file(tmp_path, **change), check=False)
    assert run.returncode != 0
    assert re.search(says, run.stdout + run.stderr)


@pytest.mark.slow
def test_the_tiny_study_runs_to_its_table_and_pictures(study):
    results = study[0] / "results/tiny"
    table = pd.read_csv(results / "metrics.csv")
    assert list(table.columns) == ["dose", "view", "split", "method", "seed", "metric", "value"]
    assert set(table["metric"]) == METRICS
    assert len(table) == 2 * 3 * len(METRICS)
    lost = table["value"].isna()  # a network of one short epoch may not be registered, which NaN says
    assert set(table.loc[lost, "metric"]) <= {"shift_px", "shift_y_px", "shift_x_px"}
    assert not lost[table["method"] == "lsqml"].any()
    assert np.isfinite(table.loc[~lost, "value"]).all()
    for name in (
        "quality_test_error.png",
        "summary.txt",
        "data/sample.png",
        "dose_100000/dense/seed_0/test/comparison.png",
    ):
        assert (results / name).stat().st_size > 500
    lsqml = table[(table["method"] == "lsqml") & (table["view"] == "dense")].set_index("metric")["value"]
    assert lsqml["shift_px"] < 0.1  # the probe is known: nothing to shift
    assert lsqml["error"] < 0.5


@pytest.mark.slow
def test_every_log_holds_what_its_job_said(study):
    logs = study[0] / "logs/tiny"
    assert "epoch 1/1" in (logs / "train/dose_100000/dense/seed_0/pinn.log").read_text()
    assert "kept epoch" in (logs / "iterate/dose_100000/dense/seed_0/test/lsqml.log").read_text()
    assert "photons detected" in (logs / "expose/dose_100000/seed_0/test.log").read_text()


@pytest.mark.slow
def test_every_result_says_what_made_it(study):
    folder = study[0].resolve()
    files = [path for path in folder.glob("results/**/*.*") if path.is_file() and "cost" not in path.parts]
    assert {path.suffix for path in files} >= {".csv", ".json", ".keras", ".npz", ".png", ".txt"}
    for path in files:
        record, carrier = find_record(path)
        assert path in [folder / output for output in record["outputs"]], path
        assert root_of(carrier, record) == folder
        assert record["seeds"] == {"sample": 3, "noise_and_training": [0]}
        assert state_of_code(record) == "the same"
        for name, digest in record["inputs"].items():
            assert state_of(folder / name, digest) == "unchanged", name


@pytest.mark.slow
def test_the_number_of_chunks_changes_no_object(study, tmp_path):
    """The law of chunks, through the rules, on the models that they trained."""
    folder, _ = study
    for chunks in (1, 3):
        place = tmp_path / str(chunks)
        shutil.copytree(folder / "results", place / "results")
        (place / "results/tiny/dose_100000/dense/seed_0/test/pinn/object.npz").unlink()
        (place / "results/tiny/dose_100000/dense/seed_0/test/baseline/object.npz").unlink()
        config = config_file(place, inference__chunks=chunks, inference__batch_size=8)
        targets = [f"results/tiny/dose_100000/dense/seed_0/test/{method}/object.npz" for method in ("pinn", "baseline")]
        snakemake(place, "--cores", "2", "--configfile", config, "--rerun-triggers", "mtime", "--", *targets)
        for target in targets:
            with np.load(folder / target) as first, np.load(place / target) as second:
                heavy = first["weight"] > 1e-3 * first["weight"].max()
                difference = np.abs(first["object"] - second["object"])[heavy].max()
                assert difference <= 1e-6 * np.abs(first["object"]).max()


@pytest.mark.slow
def test_a_damaged_chunk_stops_the_merge(study, tmp_path):
    folder, config = study
    shutil.copytree(folder / "results", tmp_path / "results")
    condition = tmp_path / "results/tiny/dose_100000/dense/seed_0/test/pinn"
    chunk = condition / "chunks/2of2.npz"
    chunk.write_bytes(chunk.read_bytes()[:-1000])
    (condition / "object.npz").unlink()
    target = condition.relative_to(tmp_path) / "object.npz"
    arguments = ("--cores", "1", "--configfile", config, "--rerun-triggers", "mtime", "--", target)
    run = snakemake(tmp_path, *arguments, check=False)
    assert run.returncode
    assert "2of2.npz: not an NPZ, cut short, or damaged" in run.stdout + run.stderr
    assert not (condition / "object.npz").exists()


@pytest.mark.slow
def test_truth_reaches_no_method_without_supervision_through_the_rules(every_method, tmp_path):
    """Overwrite every truth by NaN, make the objects of all methods but the Baseline anew: the same, bit by bit."""
    methods = [method for method in METHODS if method != "baseline"]
    assert {"pinn", "lsqml", "tv", "unrolled", "refined"} <= set(methods)
    folder, config = every_method
    targets = [f"{CONDITION}/test/{method}/object.npz" for method in methods]
    shutil.copytree(folder / "results/tiny", tmp_path / "results/tiny")
    for path in tmp_path.glob("results/tiny/data/dose_*/seed_*/*.npz"):
        with np.load(path) as arrays:
            fields = dict(arrays)
        fields["objectGuess"] = np.full_like(fields["objectGuess"], np.nan)
        np.savez(path, **fields)
    for method in methods:
        shutil.rmtree(tmp_path / CONDITION / method, ignore_errors=True)
        shutil.rmtree(tmp_path / CONDITION / "test" / method)
    now = time.time()  # one moment for all: what looks older than its input would be made again, a scan with its truth
    for path in tmp_path.glob("results/tiny/**/*"):
        os.utime(path, (now, now))
    snakemake(tmp_path, "--cores", "2", "--configfile", config, "--rerun-triggers", "mtime", "--", *targets)
    for path in tmp_path.glob("results/tiny/data/dose_*/seed_*/*.npz"):
        with np.load(path) as arrays:
            assert np.isnan(arrays["objectGuess"]).all()  # nothing has put it back
    for target in targets:
        with np.load(folder / target) as first, np.load(tmp_path / target) as second:
            np.testing.assert_array_equal(first["object"], second["object"], err_msg=target)
            assert np.isfinite(second["object"]).all()
