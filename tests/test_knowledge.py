"""Knowledge files: what they hold, what is refused, how it is scored and drawn, and which jobs read them."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.data.knowledge import MAX_SHIFT_PX, Knowledge, open_known, save_knowledge
from ptycho.data.npz import load_arrays, save_arrays
from ptycho.data.object_files import Reconstruction, Refined, save_reconstruction
from ptycho.data.scan import open_scan
from ptycho.data.views import open_view
from ptycho.physics.displacement import displaced, rms_px
from ptycho.reporting.figures import save
from ptycho.reporting.knowledge_figures import plot_knowledge
from ptycho.scoring.evaluate import compare, score_method
from ptycho.scoring.knowledge import probe_error
from ptycho.scoring.region import Region
from ptycho.workflow.files import ContractError
from tests.conftest import view_of
from tests.test_workflow import dry_run
from tests.workflow import CONDITION, config_file, snakemake

KEYS = ("probeGuess", "xcoords", "ycoords", "exposure_scale", "metadata")


def knowledge_of(scan, shift=(0.0, 0.0), **changes):
    own = {
        "probe": scan.probe,
        "ycoords": scan.ycoords + shift[0],
        "xcoords": scan.xcoords + shift[1],
        "exposure_scale": np.ones(len(scan)),
        "background": None,
    }
    return Knowledge(**own | changes)


def test_a_knowledge_file_takes_the_place_of_what_the_scan_says(scan, tmp_path):
    background = np.full((scan.n_pixels,) * 2, 0.25, np.float32)
    saved = knowledge_of(scan, (1.5, -40.0), probe=scan.probe[:, ::-1], background=background)
    save_knowledge(tmp_path / "known.npz", saved, refined=["positions"])
    known = open_known(scan.path, tmp_path / "known.npz")
    assert known.ycoords == pytest.approx(scan.ycoords + 1.5)
    assert known.xcoords == pytest.approx(scan.xcoords - 40)
    assert known.probe == pytest.approx(scan.probe[:, ::-1])
    assert known.detector.background == pytest.approx(background)
    assert known.diffraction[:3] == pytest.approx(scan.diffraction[:3])
    assert open_known(scan.path, []).xcoords == pytest.approx(scan.xcoords)


def test_half_of_the_photons_take_half_of_what_is_known(scan):
    background = np.full((scan.n_pixels,) * 2, 0.5, np.float32)
    half = replace(scan, probe=scan.probe / np.float32(np.sqrt(2)))
    known = knowledge_of(scan, background=background).of(half)
    assert known.probe == pytest.approx(half.probe)
    assert known.detector.background == pytest.approx(0.5 * background)


def test_a_probe_of_a_methods_own_is_scored_with_the_positions_that_it_was_told(scan, tmp_path):
    told = replace(scan, xcoords=scan.xcoords + np.where(np.arange(len(scan)) % 2, 0.5, -0.5))
    own = Reconstruction(
        object=scan.object[:],
        illumination=np.ones(scan.object.shape, np.float32),
        origin_px=(0, 0),
        refined=Refined(probe=scan.probe.conj()),
    )
    save_reconstruction(tmp_path / "object.npz", own, method="pinn")
    region = Region(16, scan.object.shape[0] - 16, 16, scan.object.shape[1] - 16)
    scores, _ = score_method(tmp_path / "object.npz", scan, view_of(scan), region, told)
    assert scores["position_rms_px"] == pytest.approx(0.5, rel=0.01)
    assert scores["probe_error"] == pytest.approx(probe_error(scan.probe.conj(), scan.probe))
    assert scores["probe_error"] > 0.01


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("xcoords", lambda x: x[1:], r"'xcoords' is float64 with shape \(\d+,\); wanted float64"),
        ("ycoords", lambda y: y.astype(np.float32), "'ycoords' is float32"),
        (
            "ycoords",
            lambda y: y + 2 * MAX_SHIFT_PX,
            "'ycoords' has positions that are not finite, or further",
        ),
        ("xcoords", lambda x: x * np.nan, "'xcoords' has positions that are not finite"),
        ("probeGuess", lambda p: p[:, 1:], "with a probe of"),
        ("probeGuess", lambda p: p * np.nan, "'probeGuess' holds"),
        ("probeGuess", lambda p: 0 * p, "'probeGuess' is zero everywhere"),
        ("probeGuess", lambda p: np.array("P"), "'probeGuess' is <U1"),
        ("exposure_scale", lambda s: -s, "'exposure_scale' holds -1"),
        ("exposure_scale", lambda s: s[1:], r"'exposure_scale' is float64 with shape"),
        ("exposure_scale", None, "no key 'exposure_scale'"),
        ("metadata", lambda _: np.array("[1]"), "'metadata'"),
    ],
)
def test_what_does_not_fit_the_scan_is_refused_by_name(scan, tmp_path, key, change, message):
    path = tmp_path / "known.npz"
    save_knowledge(path, knowledge_of(scan))
    arrays = dict(zip(KEYS, load_arrays(path, *KEYS), strict=True))
    value = arrays.pop(key)
    save_arrays(path, **arrays, **({key: change(value)} if change else {}))
    with pytest.raises(ContractError, match=message) as error:
        open_known(scan.path, path)
    assert str(error.value).startswith(str(path))


def test_an_affine_map_of_positions_is_undone_in_the_object(scan, tmp_path):
    middle = np.array([scan.ycoords.mean(), scan.xcoords.mean()])
    rows, columns = scan.ycoords - middle[0], scan.xcoords - middle[1]
    bent = replace(scan, ycoords=scan.ycoords + 0.01 * rows, xcoords=scan.xcoords + 0.01 * columns)
    grid = np.indices(scan.object.shape) - middle[:, None, None]
    objects = {"tv": scan.object[:], "pinn": displaced(scan.object[:], 0.01 * grid)}
    for method, obj in objects.items():
        result = Reconstruction(object=obj, illumination=np.ones(obj.shape), origin_px=(0, 0))
        save_reconstruction(tmp_path / f"{method}.npz", result, method=method)
    paths = {method: tmp_path / f"{method}.npz" for method in objects}
    table, _ = compare(paths, scan, view_of(scan), Region(40, 90, 40, 90), dict.fromkeys(paths, bent))
    values = table.set_index(["method", "metric"])["value"]
    assert values["pinn", "position_rms_px"] > 0.2
    assert values["pinn", "position_rms_affine_px"] == pytest.approx(0, abs=1e-6)
    assert values["pinn", "probe_error"] == pytest.approx(0, abs=1e-6)
    assert values["pinn", "error_affine"] < 0.5 * values["pinn", "error"]
    assert values["tv", "error"] < 1e-3 < values["tv", "error_affine"]


def test_holdout_exposures_are_predicted_where_they_are_known_to_be(scan, tmp_path):
    obj = scan.object[:]
    for name, origin in (("here", (0, 0)), ("away", (-40, 30))):
        result = Reconstruction(object=obj, illumination=np.ones(obj.shape), origin_px=origin)
        save_reconstruction(tmp_path / f"{name}.npz", result, method="tv")
    region, view = Region(40, 90, 40, 90), view_of(scan)
    right, _ = score_method(tmp_path / "here.npz", scan, view, region)
    away, _ = score_method(tmp_path / "away.npz", scan, view, region, knowledge_of(scan, (-40, 30)).of(scan))
    assert away["heldout_deviance"] == pytest.approx(right["heldout_deviance"])
    assert away["heldout_misfit"] < 1.2


def test_what_was_refined_is_drawn(scan, tmp_path):
    known = knowledge_of(scan, (0.5, 0.0), exposure_scale=np.linspace(0.9, 1.1, len(scan))).of(scan)
    figure = plot_knowledge(scan, known, np.arange(len(scan)), ("probe", "positions", "flux", "background"))
    save(figure, tmp_path / "known.png")
    titles = [axes.get_title() for part in figure.subfigs for axes in part.axes]
    assert titles[0] == "probe before"
    assert any(title.startswith("positions moved by") for title in titles)


def test_a_study_refines_once_for_all_methods_of_a_condition(tmp_path):
    knowledge = {"probe": "exact", "positions": "refined", "flux": "exact", "background": "exact"}
    methods = ["pinn", "unrolled", "tv"]
    counts = dry_run(tmp_path, config_file(tmp_path, knowledge=knowledge, methods=methods))
    assert counts["refine_knowledge"] == counts["view"]
    assert counts["plot_knowledge"] == counts["compare"]
    assert "refine_knowledge" not in dry_run(tmp_path, config_file(tmp_path, methods=methods))


@pytest.mark.slow
def test_a_study_refines_exact_positions_to_what_they_are_and_draws_them(tmp_path):
    knowledge = {"probe": "exact", "positions": "refined", "flux": "refined", "background": "exact"}
    config = config_file(tmp_path, knowledge=knowledge, refinement={"search_px": 0, "rounds": 1}, methods=["tv"])
    snakemake(tmp_path, "--cores", "2", "--configfile", config, "--", f"{CONDITION}/test_knowledge.png")
    (scan,) = tmp_path.glob("results/tiny/data/dose_*/seed_0/test.npz")
    recorded, known = open_scan(scan), open_known(scan, tmp_path / CONDITION / "test_knowledge.npz")
    exposures = open_view(tmp_path / CONDITION / "test.npz", recorded).exposures
    moved = np.stack([known.ycoords - recorded.ycoords, known.xcoords - recorded.xcoords])
    assert 0 < rms_px(moved[:, exposures]) < 0.3
    assert known.detector.exposure_scale[exposures] == pytest.approx(1, rel=0.1)
    assert known.probe == pytest.approx(recorded.probe)
    assert (tmp_path / CONDITION / "test_knowledge/history.csv").is_file()
