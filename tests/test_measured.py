"""A small measured study with two incoherent modes, from scan to tables; and which scripts the tests execute."""

import json
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml

from ptycho.data.knowledge import open_known
from ptycho.data.npz import open_member
from ptycho.data.object_files import load_reconstruction, paste
from ptycho.data.scan import mean_counts, open_scan
from ptycho.data.views import HOLDOUT, open_view
from ptycho.physics.forward import predict_intensity
from ptycho.physics.noise import poisson_deviance
from ptycho.physics.probes import scale_to
from ptycho.scoring.knowledge import known_by
from ptycho.scoring.metrics import error
from ptycho.scoring.registration import align
from tests.conftest import write_scan
from tests.network import record_of, unshare
from tests.workflow import ROOT, offline

DOSE = 4000
RESULTS = "results/measured"
CONDITION = f"{RESULTS}/dose_{DOSE}/dense/seed_0"
CONFIG = {
    "study": "measured",
    "doses": [DOSE],
    "methods": ["pinn", "lsqml", "tv"],
    "halves": ["tv"],
    "views": {"dense": 0.7},
    "source": {"kind": "measured", "scan": "scan.npz", "seed": 5, "train_fraction": 0.5},
    "grouping": {"n_groups": 20},
    "network": {"filters": 2, "physics_iterations": 2},
    "training": {"steps": 10},
    "reference": {"epochs": 10, "modes": 2},
    "knowledge": {"positions": "refined"},
    "refinement": {"search_px": 0, "rounds": 1},
    "lsqml": {"epochs": 5},
    "tv": {"lambda_max": 64, "lambda_min": 4, "iterations": 5, "final_iterations": 10},
}
CHECKED = f"{RESULTS}/data/check"
TARGETS = (
    f"{RESULTS}/summary.txt",
    f"{RESULTS}/data/sample.png",
    f"{RESULTS}/data/dose_{DOSE}/seed_0/train.npz",
    f"{CONDITION}/test/comparison.png",
    f"{CONDITION}/test/frc.png",
    f"{CONDITION}/test/half_frc.png",
    "ablation",
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder of a study whose "measured" scan is a simulated one: 20 rows, so that both splits fit."""
    folder = tmp_path_factory.mktemp("measured")
    write_scan(folder / "scan.npz", columns=8, rows=20, modes=2)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    offline(folder, "--cores", "2", "--configfile", folder / "config.yaml", "--", *TARGETS)
    return folder


def counts_of(path):
    """All photon counts of a scan."""
    return np.rint(np.square(open_scan(path).diffraction[:], dtype=np.float64)).astype(int)


def test_reference_and_study_share_the_photons_and_no_photon_is_lost(measured):
    whole = counts_of(measured / "scan.npz")
    reference, study = (counts_of(measured / RESULTS / f"data/half_{name}.npz") for name in ("reference", "study"))
    np.testing.assert_array_equal(reference + study, whole)
    assert reference.sum() == pytest.approx(whole.sum() / 2, abs=5 * np.sqrt(whole.sum()) / 2)


def test_the_reference_is_close_to_the_object_that_was_measured(measured):
    reference, metadata = load_reconstruction(measured / RESULTS / "data/reference.npz")
    assert metadata["method"].startswith("lsqml, probe refined; object by maximum likelihood")
    assert reference.refined.probe.shape == (2, 64, 64)
    scan = open_scan(measured / "scan.npz")
    obj, illumination = (
        paste(array, reference.origin_px, scan.object.shape, fill=fill)
        for array, fill in ((reference.object, 1), (reference.illumination, 0))
    )
    scanned = tuple(slice(int(axis.min()), int(axis.max())) for axis in (scan.ycoords, scan.xcoords))
    aligned, gauge = align(obj, scan.object[:], illumination, scanned)
    assert error(aligned, scan.object[:][scanned]) < 0.2
    assert gauge.shift_px < 1  # object and probe may shift together
    history = pd.read_csv(measured / RESULTS / "data/reference.csv")
    assert list(history["epoch"]) == list(range(1, CONFIG["reference"]["epochs"] + 1))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_the_scan_is_checked_before_its_reference_is_made(measured):
    verdict = json.loads((measured / f"{CHECKED}.json").read_text(encoding="utf-8"))
    assert verdict["status"] == 0
    assert "the right way round" in (measured / f"{CHECKED}.txt").read_text(encoding="utf-8")
    assert (measured / f"{CHECKED}.html").stat().st_mtime < (measured / RESULTS / "data/reference.npz").stat().st_mtime


def test_the_reference_is_judged_by_photons_that_it_was_not_made_from(measured):
    numbers = json.loads((measured / RESULTS / "data/reference_misfit.json").read_text(encoding="utf-8"))
    assert numbers["exposures"] == 160
    assert 0.9 < numbers["misfit"] < 3
    assert (measured / RESULTS / "data/reference_misfit.png").stat().st_size > 500
    summary = (measured / RESULTS / "summary.txt").read_text(encoding="utf-8")
    assert f"Reference: misfit {numbers['misfit']:.3g} ±" in summary
    exceeds = "WARNING: reference: misfit" in summary
    assert exceeds == (numbers["misfit"] > numbers["explained_by_shot_noise"])


def test_positions_of_the_reference_are_refined_and_those_of_the_study(measured):
    """Recorded ones are right here: they move little, and the study says by how much."""
    reference, metadata = load_reconstruction(measured / RESULTS / "data/reference.npz")
    whole, gain = open_scan(measured / "scan.npz"), metadata["position_refinement"]
    assert 0 < gain["moved_affine_px"] <= gain["moved_px"] < 0.3
    kept = gain["misfit_refined"] < gain["misfit_recorded"]
    assert kept == (reference.refined.positions is not None)
    numbers = json.loads((measured / RESULTS / "data/reference_misfit.json").read_text(encoding="utf-8"))
    assert numbers["position_refinement"] == gain
    assert numbers["misfit"] == pytest.approx(min(gain["misfit_refined"], gain["misfit_recorded"]))
    note = f"Reference: positions {'moved' if kept else 'are the recorded ones'}"
    for text in ("data/reference_misfit.txt", "summary.txt"):
        assert note in (measured / RESULTS / text).read_text(encoding="utf-8")
    assert (measured / RESULTS / "data/reference_refined.png").stat().st_size > 500
    folder = measured / RESULTS / f"data/dose_{DOSE}/seed_0"
    scan, exposures = open_scan(folder / "test.npz"), open_member(folder / "test.npz", "scan_index")[:]
    told = open_known(scan.path, folder / "test_told.npz")
    found = known_by(reference, whole)
    for axis in ("xcoords", "ycoords"):
        assert getattr(scan, axis) == pytest.approx(getattr(found, axis)[exposures])
        assert getattr(told, axis) == pytest.approx(getattr(whole, axis)[exposures])
    assert told.probe == pytest.approx(scan.probe)


def test_jobs_that_hold_all_frames_say_what_they_need(measured):
    needs = r"{} needs about 0\.[67]\d* GB of memory: 5 copies of \d+ frames of \d+ × \d+ px, 0\.0\d+ GB each"
    logs = {"reference": "the reference", f"lsqml/dose_{DOSE}/dense/seed_0/test/lsqml": "LSQML"}
    for name, what in logs.items():
        assert re.search(needs.format(what), (measured / f"logs/measured/{name}.log").read_text(encoding="utf-8")), name


def test_the_misfit_of_every_method_is_in_the_summary(measured):
    metrics = pd.read_csv(measured / RESULTS / "metrics.csv").set_index(["method", "metric"])["value"]
    summary = (measured / RESULTS / "summary.txt").read_text(encoding="utf-8")
    assert "heldout_misfit" in summary
    for method in CONFIG["methods"]:
        exceeds = metrics[method, "heldout_misfit"] > metrics[method, "explained_misfit"]
        assert exceeds == (f"WARNING: {method}: misfit of holdout exposures" in summary)


def test_train_and_test_rows_are_apart_by_the_guard_band(measured):
    sample = measured / RESULTS / "data/sample.npz"
    is_test, y, chosen = (open_member(sample, key)[...] for key in ("is_test", "ycoords", "scan_index"))
    guard = json.loads(str(np.load(sample)["metadata"]))["guard_px"]
    assert y[is_test == 1].min() - y[is_test == 0].max() >= guard > 0
    assert min(np.bincount(is_test)) >= 30
    refined = load_reconstruction(measured / RESULTS / "data/reference.npz")[0].refined.positions
    assert np.ptp(y - refined.ycoords[np.searchsorted(refined.exposures, chosen)]) < 1e-9


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_scan_of_lower_dose_has_the_photons_that_were_asked_for(measured, split):
    """Within the counting noise of binomial thinning, and of the same exposures."""
    half = open_scan(measured / RESULTS / "data/half_study.npz")
    scan = open_scan(measured / RESULTS / f"data/dose_{DOSE}/seed_0/{split}.npz")
    fraction = DOSE / mean_counts(half.diffraction)
    chosen = np.load(scan.path)["scan_index"]
    expected = fraction * np.square(half.diffraction[chosen], dtype=np.float64).sum() / len(chosen)
    noise = np.sqrt((1 - fraction) * expected / len(chosen))
    assert mean_counts(scan.diffraction) == pytest.approx(expected, abs=5 * noise)
    assert 0.8 * DOSE < mean_counts(scan.diffraction) < 1.25 * DOSE
    assert (counts_of(scan.path) <= counts_of(half.path)[chosen]).all()


def test_half_scans_have_half_of_the_photons_each_and_are_different(measured):
    data = measured / RESULTS / f"data/dose_{DOSE}/seed_0"
    whole, *halves = (counts_of(data / name) for name in ("test.npz", "halves/test_1.npz", "halves/test_2.npz"))
    np.testing.assert_array_equal(sum(halves), whole)
    assert halves[0].sum() == pytest.approx(whole.sum() / 2, abs=5 * np.sqrt(whole.sum()) / 2)
    assert (halves[0] != halves[1]).any()


def test_reconstructions_of_the_halves_agree_at_low_frequency(measured):
    curves = pd.read_csv(measured / CONDITION / "test/half_frc.csv")
    assert set(curves["method"]) == {"tv"}
    assert set(curves["part"]) == {"amplitude", "phase"}
    low = curves.query("0.05 < frequency < 0.2").groupby("part")["frc"].mean()
    high = curves.query("frequency > 0.9").groupby("part")["frc"].mean()
    assert (low > 0.5).all()
    assert (high < 0.5).all()
    crossings = pd.read_csv(measured / CONDITION / "test/half_crossings.csv")
    assert set(crossings["threshold"]) == {"1/7", "half-bit", "1-bit"}
    assert crossings["frequency"].between(0, 1).all()


def test_methods_are_scored_against_the_reference(measured):
    metrics = pd.read_csv(measured / RESULTS / "metrics.csv")
    assert list(metrics["method"].unique()) == ["pinn", "lsqml", "tv"]
    assert set(metrics["dose"]) == {DOSE}
    values = metrics.set_index(["method", "metric"])["value"]
    assert values.notna().all()
    assert values["tv", "error"] < values["lsqml", "error"] < 0.5
    assert values["pinn", "error"] < 0.5
    summary = (measured / RESULTS / "summary.txt").read_text(encoding="utf-8")
    assert "aligned to the reference" in summary
    assert "truth" not in summary
    for name in ("comparison", "frc", "half_frc"):
        assert (measured / CONDITION / f"test/{name}.png").stat().st_size > 500


def test_a_network_has_learned_from_all_modes_and_is_applied_with_them(measured):
    """Its object explains the counts of holdout exposures with both modes, not with the photons of both in one."""
    scan = open_scan(measured / f"{RESULTS}/data/dose_{DOSE}/seed_0/test.npz")
    powers = np.sum(np.abs(scan.probe) ** 2, axis=(1, 2))
    assert powers.min() > 0.05 * powers.sum()
    with zipfile.ZipFile(measured / CONDITION / "pinn/model.keras") as archive, archive.open("probe.npy") as member:
        np.testing.assert_array_equal(np.lib.format.read_array(member), scan.probe)
    log = measured / f"logs/measured/infer/dose_{DOSE}/dense/seed_0/test/pinn/1of1.log"
    assert "WARNING" not in log.read_text(encoding="utf-8")
    result, _ = load_reconstruction(measured / CONDITION / "test/pinn/object.npz")
    chosen = open_view(measured / CONDITION / "test.npz").of_role(HOLDOUT)
    obj = paste(result.object, result.origin_px, scan.object.shape, fill=1)
    both, one = (
        poisson_deviance(
            np.square(scan.diffraction[chosen], dtype=np.float64),
            predict_intensity(obj, probe, scan.xcoords[chosen], scan.ycoords[chosen]),
        )
        for probe in (scan.probe, scale_to(scan.probe[powers.argmax()], powers.sum()))
    )
    assert both < 0.95 * one


def test_the_ablation_of_tv_is_its_score(measured):
    table = pd.read_csv(measured / RESULTS / "ablation.csv")
    metrics = pd.read_csv(measured / RESULTS / "metrics.csv").query("method == 'tv'")
    keys = ["dose", "view", "split", "method", "seed", "metric"]
    both = table.merge(metrics, on=keys)
    assert len(both) == len(table) == len(metrics)
    np.testing.assert_allclose(both["value_x"], both["value_y"])
    assert "tv" in (measured / RESULTS / "ablation.txt").read_text(encoding="utf-8")


ELSEWHERE = {
    "ablate": ("test_reruns.py", '"--", "ablation"'),
    "compare_models": ("test_compare_models.py", "compare_models.py"),
    "convert": ("test_measured_scans.py", "siemens/data/measured.npz"),
    "plot_flaws": ("test_flaws.py", "/flaws_test_error.png"),
    "plot_knowledge": ("test_knowledge.py", "/test_knowledge.png"),
    "study_page": ("test_page.py", '"--", "report"'),
    "tabulate_flaws": ("test_flaws.py", "/flaws_test_error.png"),
    "tell": ("test_flaws.py", "/flaws_test_error.png"),
    "tv_chunk": ("test_tv_chunks.py", "half_1/history.csv"),
    "tv_start": ("test_tv_chunks.py", "half_1/history.csv"),
    "workflow_report": ("test_page.py", '"--", "report"'),
}
"""Scripts that no study of a fixture executes: the file of the test that does, and a line of it."""
NETWORK = {"fetch"}
"""Scripts that need a network; `fetch_member`, which does the work, is in test_formats.py."""


def executed_in(folder):
    """Scripts that jobs have executed in a folder, by Snakemake's own records."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(".snakemake/metadata/*")]
    return {re.search(r"scripts/(\w+)\.py", record["code"])[1] for record in records}


def test_every_script_is_executed_by_a_test(study, every_method, measured):
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    executed = set.union(*(executed_in(folder) for folder in (study[0], every_method[0], measured)))
    assert executed <= scripts
    assert scripts - executed == set(ELSEWHERE) | NETWORK
    for script, (file, line) in ELSEWHERE.items():
        assert line in (ROOT / "tests" / file).read_text(encoding="utf-8"), script


def test_no_job_uses_a_socket_or_asks_for_an_address(study, every_method, measured):
    for folder in (study[0], every_method[0], measured):
        jobs = []
        for entry in record_of(folder):
            if script := re.search(r"\.snakemake/scripts/tmp\w+\.(\w+)\.py", " ".join(entry["command"])):
                jobs.append((script[1], entry.get("asked")))
        assert {script for script, _ in jobs} == executed_in(folder)  # all of them were watched
        assert [job for job in jobs if job[1]] == []


def test_studies_run_without_a_network(study, every_method, measured):
    if not unshare():
        pytest.skip("no network namespace can be made here (unshare --net)")
    for folder in (study[0], every_method[0], measured):
        routes = [entry["routes"] for entry in record_of(folder) if "routes" in entry]
        assert routes
        assert not any(routes)
