"""The workflow as its users call it: dry runs, invalid configs, and a tiny study from end to end."""

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
from tests.workflow import CONDITION, ROOT, config_file, jobs, output_of, snakemake

METRICS = (
    {
        f"{name}_{part}"
        for name in ("mae", "rmse", "psnr", "ssim", "ms_ssim", "frc50")
        for part in ("amplitude", "phase")
    }
    | {"heldout_deviance", "heldout_misfit", "explained_misfit", "mean_pattern_deviance"}
    | {"error", "shift_px", "ramp_rad_per_px", "cpu_s"}
    | {field.name for field in fields(Gauge)}
)


def dry_run(folder, config, *arguments):
    """Jobs that a study would run in a folder."""
    return jobs(snakemake(folder, "-n", "--cores", "2", "--configfile", config, *arguments))


def test_a_dry_run_lists_the_whole_default_study(tmp_path):
    counts = jobs(snakemake(tmp_path, "-n", "--cores", "4"))
    conditions = 6
    assert counts["train_network"] == 2 * conditions
    assert counts["infer_network"] == counts["merge"] == 3 * conditions  # one chunk, of the unrolled network, too
    assert counts["train_unrolled"] == counts["tv"] == conditions
    assert counts["lsqml"] == counts["compare"] == counts["simulate_scan"] == conditions
    assert counts["view"] == 2 * conditions
    assert counts["tiles"] == conditions  # of the split that is reconstructed
    assert (counts["photon_bound"], counts["plot_price"]) == (2, 1)  # a limit of each view, for all doses
    assert not list(tmp_path.glob("results/**/*.npz"))


def test_methods_named_in_halves_reconstruct_both_half_scans(tmp_path):
    counts = dry_run(tmp_path, config_file(tmp_path, halves=["lsqml", "tv"], views={"dense": 0.7, "sparse": 0.2}))
    assert counts["half_scans"] == 1
    assert counts["half_frc"] == 2
    assert counts["lsqml_half"] == counts["tv_half"] == 2 * 2


@pytest.mark.parametrize(
    ("target", "needed", "not_needed"),
    [
        ("phase_c", "simulate_scan", "view"),
        ("phase_d", "tiles", "train_network"),
        ("phase_e", "train_network", "tiles"),
        ("phase_f", "lsqml", "train_network"),
        ("inference", "merge", "compare"),
        ("phase_g", "compare", "plot_view"),
    ],
)
def test_every_phase_can_be_run_alone(tmp_path, target, needed, not_needed):
    counts = dry_run(tmp_path, config_file(tmp_path), "--", target)
    assert needed in counts
    assert not_needed not in counts


def test_without_a_network_no_tiles_are_cut(tmp_path):
    counts = dry_run(tmp_path, config_file(tmp_path, methods=["lsqml"]))
    assert counts["view"] == counts["plot_view"] == 2
    assert "tiles" not in counts


def test_both_splits_are_one_key_away(tmp_path):
    counts = dry_run(tmp_path, config_file(tmp_path, splits=["train", "test"]))
    assert counts["compare"] == 2
    assert counts["lsqml"] == counts["tiles"] == 2
    assert counts["train_network"] == 1
    assert counts["region"] == counts["photon_bound"] == 2


def test_several_objects_have_folders_of_their_own(tmp_path):
    run = snakemake(tmp_path, "-n", "--cores", "1", "--configfile", ROOT / "config/seeds.yaml")
    counts, conditions = jobs(run), 2 * 3 * 2 * 3
    assert counts["sample"] == counts["region"] == counts["plot_sample"] == 2
    assert counts["photon_bound"] == 2 * 2
    assert counts["compare"] == counts["train_unrolled"] == counts["lsqml"] == conditions
    assert counts["simulate_scan"] == 2 * 3 * 2 * 3
    assert "results/seeds/object_lines/dose_1000/dense/seed_2/test/comparison_metrics.csv" in output_of(run)


@pytest.mark.parametrize("both", [True, False])
def test_a_study_has_one_object_or_several_but_not_both_or_none(tmp_path, both):
    objects = {"first": {"kind": "dead_leaves"}}
    changes = {"objects": objects} if both else {"source__object": None}
    run = snakemake(tmp_path, "-n", "--configfile", config_file(tmp_path, **changes), check=False)
    assert run.returncode
    assert "source.object, objects: wanted" in output_of(run)


def test_the_measured_study_has_jobs_of_its_own(tmp_path):
    counts = dry_run(tmp_path, ROOT / "config/siemens.yaml")
    own = {"fetch", "convert", "check", "split_photons", "reference", "judge_reference", "split_measured"}
    own |= {"reduce_dose", "half_scans", "half_frc"}
    assert own | {"train_network", "lsqml", "lsqml_half", "compare"} <= set(counts)
    assert not {"sample", "simulate_scan", "photon_bound"} & set(counts)
    assert counts["plot_price"] == 1


def test_an_ablation_needs_a_method_with_parts(tmp_path):
    run = snakemake(tmp_path, "-n", "--configfile", config_file(tmp_path), "--", "ablation", check=False)
    assert run.returncode
    assert "ablation: wanted tv, unrolled or refined among the methods; found ['pinn', 'lsqml']" in output_of(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training__stepps": 1}, "stepps"),
        ({"doses": None}, "'doses' is a required property"),
        ({"doses": [-1]}, r"doses\[0\]: -1 .*minimum"),
        ({"views__dense": 1.2}, r"views\.dense: 1\.2"),
        ({"inference__chunks": 0}, r"inference\.chunks: 0"),
    ],
)
def test_an_invalid_config_stops_the_dry_run(tmp_path, change, message):
    run = snakemake(tmp_path, "-n", "--configfile", config_file(tmp_path, **change), check=False)
    assert run.returncode != 0
    assert re.search(message, output_of(run))
    assert "Traceback" not in output_of(run)


@pytest.mark.slow
def test_the_tiny_study_runs_to_its_tables_and_figures(study):
    results = study[0] / "results/tiny"
    table = pd.read_csv(results / "metrics.csv")
    assert list(table.columns) == ["dose", "view", "split", "method", "seed", "metric", "value"]
    assert set(table["metric"]) == METRICS
    assert len(table) == 2 * len(METRICS)
    lost = table["value"].isna()  # a network trained for a few steps may not be registered, which NaN says
    assert set(table.loc[lost, "metric"]) <= {"shift_px", "shift_y_px", "shift_x_px"}
    assert not lost[table["method"] == "lsqml"].any()
    assert np.isfinite(table.loc[~lost, "value"]).all()
    for name in ("quality_test_error.png", "price.png", "cost_test.png", "summary.txt", "data/sample.png"):
        assert (results / name).stat().st_size > 500
    for name in ("train.png", "test.png", "test/comparison.png", "test/frc.png", "pinn/history.png"):
        assert (study[0] / CONDITION / name).stat().st_size > 500
    bound = pd.read_csv(results / "bound.csv")
    assert list(bound.columns) == list(table.columns)
    assert set(bound["metric"]) == {"error", "frc50_amplitude", "frc50_phase"}
    assert bound["value"].between(0, 1).all()
    price = pd.read_csv(results / "price.csv")
    assert list(price["method"]) == ["pinn"] * 3 + ["lsqml"] * 3 + ["photon limit"] * 3
    assert set(price["status"]) <= {"at lowest dose", "not reached"}  # there is one dose
    summary = (results / "summary.txt").read_text(encoding="utf-8")
    assert "test split, dense view: 4, redundancy " in summary
    assert "WARNING: test, dense: the halo of the tiles, 16 px, is narrower than half a pattern" in summary
    lsqml = table[table["method"] == "lsqml"].set_index("metric")["value"]
    assert lsqml["shift_px"] < 0.1  # the probe is known: nothing to shift
    assert lsqml["error"] < 0.5


@pytest.mark.slow
def test_every_log_holds_the_output_of_its_job(study):
    logs = study[0] / "logs/tiny"
    for name, message in (
        ("train/dose_100000/dense/seed_0/pinn.log", "round 1/10"),
        ("train/dose_100000/dense/seed_0/pinn.log", "kept epoch"),
        ("lsqml/dose_100000/dense/seed_0/test/lsqml.log", "kept epoch"),
        ("simulate_scan/dose_100000/seed_0/test.log", "photons detected"),
    ):
        assert message in (logs / name).read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_result_has_a_record_that_holds(study):
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
    """The law of chunks, through the rules, on the model that they trained; test_inference.py has uneven ones."""
    folder, _ = study
    target = f"{CONDITION}/test/pinn/object.npz"
    shutil.copytree(folder / "results", tmp_path / "results")
    (tmp_path / target).unlink()
    config = config_file(tmp_path, inference__chunks=1, inference__batch_size=5)
    snakemake(tmp_path, "--cores", "2", "--configfile", config, "--rerun-triggers", "mtime", "--", target)
    assert len(list((tmp_path / target).parent.glob("chunks/*of1.npz"))) == 1
    with np.load(folder / target) as first, np.load(tmp_path / target) as second:
        bright = first["illumination"] > 1e-3 * first["illumination"].max()
        difference = np.abs(first["object"] - second["object"])[bright].max()
        assert difference <= 1e-6 * np.abs(first["object"]).max()


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["test/pinn/chunks/2of2.npz", "test_tiles.npz"])
def test_a_damaged_file_stops_the_merge_and_is_named(study, tmp_path, damaged):
    folder, config = study
    shutil.copytree(folder / "results", tmp_path / "results")
    results, path = tmp_path / CONDITION / "test/pinn", tmp_path / CONDITION / damaged
    path.write_bytes(path.read_bytes()[:-1000])
    (results / "object.npz").unlink()
    target = f"{CONDITION}/test/pinn/object.npz"
    arguments = ("--cores", "1", "--configfile", config, "--rerun-triggers", "mtime", "--", target)
    run = snakemake(tmp_path, *arguments, check=False)
    assert run.returncode
    assert re.search(rf"{path.name}: .*(cut short|damaged)", output_of(run))
    assert "another tiling" not in output_of(run)
    assert not (results / "object.npz").exists()


@pytest.mark.slow
def test_the_truth_reaches_no_method_without_supervision_through_the_rules(every_method, tmp_path):
    """Overwrite every truth by NaN, reconstruct with all methods but the Baseline again: equal to the bit."""
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
    now = (
        time.time()
    )  # one time for all: a scan that looks older than its input would be simulated again, with its truth
    for path in tmp_path.glob("results/tiny/**/*"):
        os.utime(path, (now, now))
    snakemake(tmp_path, "--cores", "2", "--configfile", config, "--rerun-triggers", "mtime", "--", *targets)
    for path in tmp_path.glob("results/tiny/data/dose_*/seed_*/*.npz"):
        with np.load(path) as arrays:
            assert np.isnan(arrays["objectGuess"]).all()  # nothing has restored it
    for target in targets:
        with np.load(folder / target) as first, np.load(tmp_path / target) as second:
            np.testing.assert_array_equal(first["object"], second["object"], err_msg=target)
            assert np.isfinite(second["object"]).all()
