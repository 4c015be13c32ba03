"""Flaws: what methods are told wrong, by how much, of what; the config that asks for it; tables, figures and jobs."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ptycho.cli.main import main
from ptycho.data.flaws import Flaw, drift, position_errors, tell
from ptycho.data.knowledge import open_known
from ptycho.data.scan import open_scan
from ptycho.data.tables import read_table
from ptycho.physics.displacement import rms_px
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import incoherent_modes, simulate_probe, with_modes
from ptycho.physics.samples import simulate_object
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.refinement import RefinementOptions, refine
from ptycho.reporting.figures import save
from ptycho.reporting.flaws import COLUMNS, NOTHING, flaw_table, plot_flaws
from ptycho.reporting.quality_figures import plot_quality
from ptycho.reporting.tables import difference_table, paired_differences, spread_table
from ptycho.scoring.knowledge import probe_error
from ptycho.scoring.metric_tables import of_flaw, warnings_of
from ptycho.scoring.price import price_table
from ptycho.workflow.config import ConfigError, check_config, load_config
from ptycho.workflow.files import ContractError
from ptycho.workflow.knowledge import EXACT, FlawKind, flaw_kind, unknown_of
from ptycho.workflow.paths import condition_of, label, wildcards_of
from tests.test_refinement import DOSE, probe_with, scanned
from tests.test_workflow import dry_run
from tests.workflow import ROOT, config_file, jobs, output_of, snakemake

OPTICS = {"n_pixels": 64, "pupil_px": 13.0, "stop": 0.3, "defocus_px": 26.0, "astigmatism_rad": 0.6, "coma_rad": 0.4}
STUDY = load_config(ROOT / "config/flaws.yaml")
DETECTOR_STUDY = load_config(ROOT / "config/flaws-detector.yaml")


def powers(probe):
    return np.sum(np.abs(probe.astype(complex)) ** 2, axis=(1, 2))


def test_incoherent_modes_are_orthogonal_have_the_photons_asked_for_and_begin_with_the_beam():
    beam = simulate_probe("zone_plate", **OPTICS)
    modes = simulate_probe("zone_plate", **OPTICS, modes=[0.7, 0.2, 0.1])
    products = np.abs(np.einsum("aij,bij->ab", modes, modes.conj(), dtype=complex))
    assert products == pytest.approx(np.diag([0.7, 0.2, 0.1]), abs=1e-6)
    assert modes[0] == pytest.approx(np.sqrt(0.7) * beam, abs=1e-6)
    assert beam.shape == (64, 64)
    with pytest.raises(ValueError, match="8 probe modes; wanted 1 to 7"):
        incoherent_modes(beam, [1 / 8] * 8)


def test_modes_of_a_gaussian_beam_are_those_of_hermite_and_gauss():
    beam = simulate_probe("gaussian", n_pixels=64, fwhm_px=12, modes=[0.5, 0.5])
    x = np.arange(64) - 32
    wanted = beam[0] * x[None, :]
    assert np.abs(np.vdot(beam[1], wanted)) == pytest.approx(np.linalg.norm(beam[1]) * np.linalg.norm(wanted), rel=1e-5)


def test_new_modes_are_weak_and_orthogonal_and_the_photons_stay():
    probe = 30 * simulate_probe("zone_plate", **OPTICS, modes=[0.8, 0.2])
    more = with_modes(probe, 4)
    assert powers(more) / powers(probe).sum() == pytest.approx([0.72, 0.18, 0.05, 0.05], rel=1e-4)
    products = np.abs(np.einsum("aij,bij->ab", more, more.conj(), dtype=complex)) / powers(probe).sum()
    assert products - np.diag(np.diag(products)) == pytest.approx(0, abs=1e-6)
    assert with_modes(probe, 1) == pytest.approx(probe)


def test_the_error_of_a_probe_knows_no_mixture_of_its_modes():
    probe = simulate_probe("zone_plate", **OPTICS, modes=[0.8, 0.2])
    mixed = np.stack([probe[0] + probe[1], probe[0] - probe[1]]) / np.sqrt(2)
    assert probe_error(mixed, probe) == pytest.approx(0, abs=1e-6)
    assert probe_error(np.roll(mixed, 3, axis=1), probe) == pytest.approx(0, abs=1e-6)
    assert probe_error(probe[:1], probe) == pytest.approx(1 - np.sqrt(0.8), abs=1e-6)


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


@pytest.mark.slow
def test_a_refinement_regains_a_missing_mode():
    _, (rows, columns) = scanned()
    modes = incoherent_modes(probe_with(12.0), [0.8, 0.2]) * np.float32(np.sqrt(DOSE))
    obj = simulate_object("dead_leaves", (96, 96), np.random.default_rng(5))
    frames = np.random.default_rng(1).poisson(predict_intensity(obj, modes, columns, rows)).astype(float)
    counts, told = Counts(lambda which: frames[which], columns, rows), modes[:1] / np.float32(np.sqrt(0.8))
    options = RefinementOptions(unknown=("probe",), rounds=3)
    alone = refine(counts, told, options, seed=0).parameters.probe
    found = refine(counts, told, replace(options, modes=2), seed=0).parameters.probe
    assert (len(alone), len(found)) == (1, 2)
    assert powers(found).sum() == pytest.approx(powers(modes).sum(), rel=1e-4)
    assert probe_error(found, modes) < 0.25 * probe_error(alone, modes)


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
    assert unknown_of(config, "defocus-10", "lsqml") == ["flux"]
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


FLAWS = {"exact": (EXACT, 0.0), "small": ("positions", 1.0), "large": ("positions", 4.0), "mended": ("positions", 4.0)}
ERRORS = {"exact": 0.1, "small": 0.2, "large": 0.8, "mended": 0.3}


def study_metrics(seeds=2):
    """Errors of two methods under four flaws, at two doses; the position errors that belong to them."""
    rows = [
        {"dose": dose, "view": "dense", "split": "test", "method": method, "flaw": flaw, "seed": seed}
        | {"metric": metric, "value": value}
        for flaw, error in ERRORS.items()
        for dose in (1000, 10_000)
        for method, factor in (("tv", 1.0), ("pinn", 1.2))
        for seed in range(seeds)
        for metric, value in {
            "error": factor * error + 0.01 * seed,
            "error_affine": error,
            "frc50_phase": 1 - error - 100 / dose,
            "position_rms_px": FLAWS[flaw][1],
            "probe_error": 0.0,
            "shift_px": error,
            "ramp_rad_per_px": 0.0,
        }.items()
    ]
    return pd.DataFrame(rows)


def table_of_flaws(metrics):
    kinds = {flaw: {"kind": kind, "size": size} for flaw, (kind, size) in FLAWS.items()}
    refined = {flaw: {"tv": ["positions"] * (flaw == "mended"), "pinn": []} for flaw in FLAWS}
    return flaw_table(metrics, kinds, refined)


def fluence():
    rows = [
        {"dose": dose, "view": "dense", "split": "test", "seed": seed} for dose in (1000, 10_000) for seed in (0, 1)
    ]
    table = pd.DataFrame(rows)
    return table.assign(overlap=0.7, fluence_photons_per_px=table["dose"] / 50)


def test_flaws_are_no_repetitions():
    metrics = study_metrics()
    differences = paired_differences(metrics)
    of_large = differences[(differences["flaw"] == "large") & (differences["metric"] == "error")]
    assert of_large["mean"].to_list() == pytest.approx([-0.16, -0.16])
    assert (of_large["n"] == 2).all()
    assert "large" in difference_table(differences)
    text = spread_table(metrics)
    assert len(text.splitlines()) == 1 + 4 * 2 * 2
    assert [line.split()[0] for line in text.splitlines()[1::4]] == list(FLAWS)
    alone = of_flaw(metrics)
    assert len(alone) == len(metrics) / 4
    assert of_flaw(alone) is alone
    figure = plot_quality(metrics, fluence(), metric="error")
    assert figure.get_supxlabel().startswith("flaw exact, test split, n = 2")


def test_every_flaw_has_its_price_and_the_photon_limit_is_that_of_all():
    metrics = study_metrics()
    limit = of_flaw(metrics[metrics["method"] == "tv"]).assign(method="photon limit")
    prices = price_table(pd.concat([metrics, limit]), fluence(), [0.6])
    assert prices.columns[0] == "flaw"
    status = prices.set_index(["flaw", "method"])["status"]
    assert status["exact", "tv"] == status["large", "photon limit"] == "at lowest dose"
    assert status["large", "tv"] == "not reached"


def test_a_plan_is_of_one_flaw(tmp_path, capsys):
    study_metrics().to_csv(tmp_path / "metrics.csv", index=False)
    fluence().to_csv(tmp_path / "fluence.csv", index=False)
    plan = ["plan", str(tmp_path), "--resolution", "0.6"]
    assert main(plan) == main([*plan, "--flaw", "large"]) == 0
    first, large = capsys.readouterr().out.splitlines()
    assert "TV-MAP dense ≤ 1,000 photons per exposure" in first
    assert "no method reaches it" in large
    assert main([*plan, "--flaw", "x"])
    assert f"--flaw x; {tmp_path} has exact, small, large, mended" in capsys.readouterr().err


def test_a_shift_is_no_bug_where_positions_were_wrong():
    warnings = warnings_of(study_metrics())
    assert warnings == []
    exact = study_metrics()
    exact.loc[exact["metric"] == "position_rms_px", "value"] = 0
    assert "tv, exact, dense 1000: shifted by 0.100 px at most" not in " ".join(warnings_of(exact))  # at the limit
    assert any(line.startswith("tv, large, dense 1000: shifted by 0.800 px") for line in warnings_of(exact))


def test_the_table_of_flaws_has_kind_size_and_what_was_refined():
    table = table_of_flaws(study_metrics())
    assert tuple(table.columns) == COLUMNS
    assert list(dict.fromkeys(table["flaw"])) == list(FLAWS)
    row = table[(table["flaw"] == "mended") & (table["metric"] == "error") & (table["dose"] == 1000)]
    row = row.set_index("method")
    assert row["refined"].to_dict() == {"tv": "positions", "pinn": NOTHING}
    assert row.loc["tv", "mean"] == pytest.approx(0.305)
    assert row.loc["tv", "sd"] == pytest.approx(0.01 / np.sqrt(2))
    assert (row["n"] == 2).all()


def test_errors_are_drawn_against_the_size_of_flaws(tmp_path):
    table = table_of_flaws(study_metrics())
    figure = plot_flaws(table, metric="error")
    save(figure, tmp_path / "flaws.png")
    first, second = figure.axes
    assert first.get_title() == "dense view, 1,000 photons per exposure"
    assert first.get_xlabel() == "rms error of positions [px]"
    lines = {
        (line.get_label(), line.get_linestyle()): line.get_xdata().tolist()
        for line in second.get_lines()
        if not line.get_label().startswith("_")
    }
    assert lines == {("TV-MAP", "--"): [0, 1, 4], ("TV-MAP", "-"): [4], ("PINN", "--"): [0, 1, 4, 4]}
    with pytest.raises(ContractError, match="no metric 'error' of a flaw with a size in split 'train'"):
        plot_flaws(table, split="train")


def test_jobs_of_a_study_of_flaws(tmp_path):
    run = snakemake(tmp_path, "-n", "--cores", "1", "--configfile", ROOT / "config/flaws.yaml", "--", "phase_g")
    counts, conditions = jobs(run), 13 * 2 * 2
    assert counts["simulate_scan"] == 2 * 2
    assert counts["view"] == 2 * 2 * 2
    assert counts["tell"] == 13 * 2 * 2
    assert counts["refine_knowledge"] == 6 * 2 * 2 * 2
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
