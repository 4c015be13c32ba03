"""Flaws: what methods are told wrong, by how much, of what; the config that asks for it; the jobs of a study."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from ptycho.data.flaws import Flaw, drift, position_errors, tell
from ptycho.data.knowledge import open_known
from ptycho.data.scan import open_scan
from ptycho.data.tables import read_table
from ptycho.physics.displacement import rms_px
from ptycho.physics.probes import incoherent_modes
from ptycho.reporting.flaws import COLUMNS, NOTHING
from ptycho.scoring.knowledge import probe_error
from ptycho.workflow.config import ConfigError, check_config, load_config
from ptycho.workflow.knowledge import EXACT, FlawKind, flaw_kind, unknown_of
from ptycho.workflow.paths import condition_of, label, wildcards_of
from tests.test_workflow import dry_run
from tests.workflow import ROOT, config_file, jobs, output_of, snakemake

STUDY = load_config(ROOT / "config/flaws.yaml")
DETECTOR_STUDY = load_config(ROOT / "config/flaws-detector.yaml")


def powers(probe):
    return np.sum(np.abs(probe.astype(complex)) ** 2, axis=(1, 2))


def test_errors_of_positions_differ_in_size_only():
    small, large = (
        position_errors(Flaw(positions_px=size), 4000, np.random.default_rng([20, 1])) for size in (0.5, 5.0)
    )
    assert large == pytest.approx(10 * small)
    assert rms_px(large) == pytest.approx(5, rel=0.03)
    both = position_errors(Flaw(positions_px=0.5, drift_px=2), 4000, np.random.default_rng([20, 1]))
    assert rms_px(both - small) == pytest.approx(2)


def test_a_drift_is_slow_and_has_the_length_asked_for():
    shifts = drift(400, 2.0, np.random.default_rng(0))
    assert rms_px(shifts) == pytest.approx(2)
    assert rms_px(np.diff(shifts)) < 0.1


def test_nothing_is_told_wrong_by_default(scan):
    told = tell(scan, Flaw(), np.random.default_rng(0)).of(scan)
    assert told.xcoords == pytest.approx(scan.xcoords)
    assert told.ycoords == pytest.approx(scan.ycoords)
    assert told.probe == pytest.approx(scan.probe)
    assert told.detector.background is None


def test_a_flaw_changes_what_is_told_and_keeps_the_photons(scan):
    modes = incoherent_modes(scan.probe[0], [0.3, 0.7]) * np.float32(np.sqrt(powers(scan.probe).sum()))
    detector = replace(
        scan.detector,
        exposure_scale=np.linspace(0.5, 1.5, len(scan)),
        background=np.full((scan.n_pixels,) * 2, 0.5, np.float32),
    )
    right = replace(scan, probe=modes, detector=detector)
    flaw = Flaw(positions_px=1, missing_modes=1, flux="unknown", background="unknown")
    told = tell(right, flaw, np.random.default_rng(0))
    assert told.probe.shape == (1, scan.n_pixels, scan.n_pixels)
    assert probe_error(told.probe, modes[1:]) == pytest.approx(0, abs=1e-6)  # the weaker one, the first, is missing
    assert powers(told.probe).sum() == pytest.approx(powers(modes).sum(), rel=1e-5)
    assert told.exposure_scale == pytest.approx(1)
    assert told.background is None
    assert 0.8 < rms_px(np.stack([told.ycoords - scan.ycoords, told.xcoords - scan.xcoords])) < 1.2
    known = tell(right, Flaw(), np.random.default_rng(0))
    assert known.exposure_scale == pytest.approx(detector.exposure_scale)
    assert known.background == pytest.approx(detector.background)


def test_a_wrong_probe_takes_the_place_of_the_right_one(scan):
    wrong = scan.probe[:, ::-1] * np.float32(0.01)
    told = tell(scan, Flaw(defocus=0.1), np.random.default_rng(0), wrong)
    assert told.probe == pytest.approx(scan.probe[:, ::-1], abs=1e-4)


@pytest.mark.parametrize(
    ("flaw", "changes", "message"),
    [
        ({"defocus": 0.1}, {"probe": {"kind": "gaussian", "n_pixels": 64, "fwhm_px": 12}}, "a gaussian probe has no"),
        ({"defocus": 5}, {}, r"flaws\.x\.defocus: 5 opens the beam to 156 px; wanted up to 64 px"),
        ({"missing_modes": 1}, {}, r"flaws\.x\.missing_modes: 1 of 1 of the probe; wanted fewer"),
        ({"flux": "unknown"}, {}, r"flaws\.x\.flux: nothing is untold without source\.detector\.flux_jitter"),
        ({"background": "unknown"}, {}, r"flaws\.x\.background: nothing is untold without source\.detector\.backg"),
        ({"knowledge": {"methods": {"refined": "exact"}}}, {}, r"flaws\.x\.knowledge\.methods: refined is not one of"),
        ({"positions_px": 11}, {}, r"flaws\.x\.positions_px: 11 is greater than the maximum of 10"),
        ({"position_px": 1}, {}, r"flaws\.x: .*'position_px' was unexpected.*allowed keys: background, defocus"),
        ({}, {"modes": [0.5, 0.4]}, r"source\.probe\.modes: sum to 0\.9; wanted 1"),
    ],
)
def test_what_a_source_has_not_cannot_be_told_wrong(flaw, changes, message):
    config = copy.deepcopy(STUDY) | {"flaws": {"x": flaw}}
    config["source"]["probe"] = changes.get("probe", config["source"]["probe"] | changes)
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_a_measured_scan_has_no_defocus_and_flaws_have_names():
    config = load_config(ROOT / "config/siemens.yaml") | {"flaws": {"x": {"defocus": 0.1, "missing_modes": 3}}}
    with pytest.raises(ConfigError, match=r"a measured scan has no defocus") as error:
        check_config(config)
    assert "missing_modes: 3 of 3" in str(error.value)
    with pytest.raises(ConfigError, match=r"flaws: 'a/b' is no name; wanted letters .*, digits, \. and - alone"):
        check_config(copy.deepcopy(STUDY) | {"flaws": {"a/b": {}}})


def test_what_is_refined_is_said_by_study_flaw_and_method():
    config = copy.deepcopy(STUDY)
    assert unknown_of(config) == unknown_of(config, "positions-2") == []
    assert unknown_of(config, "positions-2-refined") == ["positions"]
    config["knowledge"] = {**config["knowledge"], "probe": "refined", "methods": {"pinn": EXACT}}
    config["flaws"]["defocus-10"]["knowledge"] = {"probe": EXACT, "flux": "refined", "methods": {"tv": EXACT}}
    assert unknown_of(config, "positions-2-refined") == ["probe", "positions"]
    assert unknown_of(config, "defocus-10", "unrolled") == ["flux"]
    assert unknown_of(config, "defocus-10", "lsqml") == []  # it refines probe and positions alone
    assert unknown_of(config, "positions-2-refined", "lsqml") == ["probe", "positions"]
    assert unknown_of(config, "defocus-10", "pinn") == unknown_of(config, "defocus-10", "tv") == []


def test_a_flaw_has_a_kind_and_a_size():
    assert flaw_kind(STUDY, "exact") == FlawKind(EXACT, 0)
    assert flaw_kind(STUDY, "positions-0.5-refined") == FlawKind("positions", 0.5)
    assert flaw_kind(DETECTOR_STUDY, "modes") == FlawKind("modes", 1)
    assert flaw_kind(DETECTOR_STUDY, "flux") == FlawKind("flux", 0.05)
    assert flaw_kind(DETECTOR_STUDY, "background-refined") == FlawKind("background", 0.5)
    both = copy.deepcopy(STUDY) | {"flaws": {"x": {"defocus": -0.1, "drift_px": 1}}}
    kind, size = flaw_kind(both, "x")
    assert kind == "drift+defocus"
    assert np.isnan(size)


def test_a_path_names_its_flaw():
    path = "results/x/object_b/flaw_drift-0.5/dose_5/dense/seed_2/test/tv/object.npz"
    wanted = {"object": "b", "flaw": "drift-0.5", "dose": 5, "view": "dense", "seed": 2}
    assert condition_of(path) == wanted
    assert label(wildcards_of(path), "flaw", "view") == "flaw drift-0.5, dense view"
    told = "results/x/flaw_a/data/dose_5/seed_2/train_told.npz"
    assert wildcards_of(told) == {"flaw": "a", "dose": "5", "seed": "2", "split": "train"}
    assert wildcards_of("cost/tv/flaw_a/dose_5/dense/seed_2/test/tv.tsv")["flaw"] == "a"


def test_jobs_of_a_study_of_flaws(tmp_path):
    run = snakemake(tmp_path, "-n", "--cores", "1", "--configfile", ROOT / "config/flaws.yaml", "--", "phase_g")
    counts, conditions = jobs(run), 15 * 2 * 2
    assert counts["simulate_scan"] == 2 * 2
    assert counts["view"] == 2 * 2 * 2
    assert counts["tell"] == 15 * 2 * 2
    assert counts["refine_knowledge"] == 8 * 2 * 2 * 2
    assert counts["compare"] == counts["lsqml"] == counts["tv"] == counts["train_unrolled"] == conditions
    assert counts["photon_bound"] == counts["plot_flaws"] == 2
    assert counts["tabulate_flaws"] == 1
    assert "results/flaws/flaw_drift-2-refined/dose_10000/dense/seed_0/test/comparison_metrics.csv" in output_of(run)


def test_a_method_reads_what_it_is_to_take_for_known(tmp_path):
    flaws = {"exact": {}, "wrong": {"positions_px": 1, "knowledge": {"positions": "refined", "methods": {"tv": EXACT}}}}
    config = config_file(tmp_path, flaws=flaws, methods=["pinn", "lsqml", "tv"])
    run = snakemake(tmp_path, "-n", "--cores", "1", "--configfile", config, "--", "phase_g")
    inputs = {}
    for job in output_of(run).split("\nrule ")[1:]:
        name, text = job.split(":", 1)
        inputs.setdefault(name, []).append(next((line for line in text.splitlines() if "input:" in line), ""))
    told, refined = "flaw_wrong/data/dose_100000/seed_0/test_told.npz", "flaw_wrong/dose_100000/dense/seed_0/test_know"
    of = {name: " ".join(line for line in lines if "flaw_wrong" in line) for name, lines in inputs.items()}
    assert [name for name in ("tv", "lsqml", "refine_knowledge") if told in of[name]] == [
        "tv",
        "lsqml",
        "refine_knowledge",
    ]
    assert refined in of["infer_network"]
    assert refined not in of["tv"] + of["lsqml"]
    assert told in of["compare"]
    assert refined in of["compare"]
    assert "train_told.npz" not in of["train_network"]
    assert "flaw_exact/data/dose_100000/seed_0/train_told.npz" in " ".join(inputs["train_network"])


def test_a_flaw_that_cannot_be_stops_the_dry_run(tmp_path):
    config = config_file(tmp_path, flaws={"x": {"missing_modes": 2}})
    run = snakemake(tmp_path, "-n", "--configfile", config, check=False)
    assert run.returncode
    assert "flaws.x.missing_modes: 2 of 1 of the probe; wanted fewer" in output_of(run)


@pytest.mark.slow
def test_a_tiny_study_of_flaws(tmp_path):
    """Told, refined, scored and drawn; the second run has nothing to do."""
    optics = {"positions_px": 1.0, "defocus": 0.2, "missing_modes": 1, "flux": "unknown", "background": "unknown"}
    mended = {"positions_px": 1.0, "knowledge": {"positions": "refined"}}
    config = config_file(
        tmp_path,
        flaws={"exact": {}, "optics": optics, "positions": {"positions_px": 1.0}, "mended": mended},
        refinement={"search_px": 0, "rounds": 1},
        methods=["tv"],
        source__probe__modes=[0.85, 0.15],
        source__detector={"flux_jitter": 0.05, "background": 0.2},
    )
    figure = "results/tiny/flaws_test_error.png"
    snakemake(tmp_path, "--cores", "2", "--configfile", config, "--", figure)
    scan = open_scan(tmp_path / "results/tiny/data/dose_100000/seed_0/test.npz")
    known = {
        flaw: open_known(scan.path, tmp_path / f"results/tiny/flaw_{flaw}/data/dose_100000/seed_0/test_told.npz")
        for flaw in ("exact", "optics", "positions")
    }
    assert known["exact"].xcoords == pytest.approx(scan.xcoords)
    assert known["exact"].detector.exposure_scale == pytest.approx(scan.detector.exposure_scale)
    assert known["positions"].xcoords == pytest.approx(known["optics"].xcoords)
    assert known["optics"].probe.shape[0] == 1
    table = read_table(tmp_path / "results/tiny/flaws.csv", *COLUMNS)
    values = table.set_index(["flaw", "metric"])["mean"]
    assert values["exact", "position_rms_px"] == values["exact", "probe_error"] == pytest.approx(0, abs=1e-6)
    assert values["positions", "position_rms_px"] == pytest.approx(1, abs=0.2)
    assert values["mended", "position_rms_px"] < 0.5 * values["positions", "position_rms_px"]
    assert values["optics", "probe_error"] > 0.1
    errors = [values[flaw, "error"] for flaw in ("exact", "mended", "positions", "optics")]
    assert errors == sorted(errors)
    assert table.set_index("flaw")["refined"].to_dict() == dict.fromkeys(known, NOTHING) | {"mended": "positions"}
    assert not dry_run(tmp_path, config, "--", figure)
