"""What is scored under one condition, and the warnings about it, also when methods fail."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ptycho.data.object_files import Reconstruction, save_reconstruction
from ptycho.data.views import View
from ptycho.reporting.figures import plot_comparison
from ptycho.reporting.frc_figures import plot_frc
from ptycho.scoring.evaluate import compare, frc_table
from ptycho.scoring.metric_tables import misfit_warnings, warnings_of, with_condition
from ptycho.scoring.metrics import METRICS
from ptycho.scoring.photon_bound import draw_errors
from ptycho.scoring.region import Region
from ptycho.workflow.files import ContractError
from tests.conftest import view_of

CONDITION = {"dose": 1000, "view": "dense", "seed": 0}


@pytest.mark.parametrize("value", [0, np.nan])
def test_a_method_that_failed_does_not_stop_the_others(scan, tmp_path, value):
    truth = scan.object[:]
    objects = {"tv": truth, "pinn": np.full_like(truth, value)}
    for method, obj in objects.items():
        result = Reconstruction(object=obj.astype(np.complex64), illumination=np.ones(obj.shape), origin_px=(0, 0))
        save_reconstruction(tmp_path / f"{method}.npz", result, method=method)
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
    warnings = warnings_of(with_condition(table, **CONDITION, split="test"))
    assert warnings == ["pinn, dense 1000: could not be registered: the log of compare says why"]
    plot_comparison(arrays, {}, "")
    plot_frc(frc_table(arrays), "")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Region(40, 90, 40, 46), "the scored rectangle has 50 × 6 px; wanted 11 px a side at least"),
        (Region(0, 12, 0, 12), "no exposure lights the scored Region"),
    ],
)
def test_a_rectangle_that_cannot_be_scored_is_refused(scan, region, message):
    view = view_of(scan)
    middle = view.exposures[np.abs(scan.ycoords[view.exposures] - scan.ycoords.max()) < 20]
    part = View(exposures=middle, role=np.zeros(len(middle), np.int8), nn_indices=view.nn_indices, metadata={})
    with pytest.raises(ContractError, match=rf"\.npz: {message}"):
        compare({}, scan, part, region)


def test_a_truth_that_is_not_finite_where_it_is_scored_is_refused(scan, tmp_path):
    obj = scan.object[:]
    save_reconstruction(tmp_path / "a.npz", Reconstruction(object=obj, illumination=np.abs(obj), origin_px=(0, 0)))
    obj[50, 60] = np.nan
    broken = replace(scan, object=obj)
    with pytest.raises(ContractError, match=r"\.npz: 'objectGuess' holds 1 values that are not finite"):
        compare({"tv": tmp_path / "a.npz"}, broken, view_of(scan), Region(40, 90, 40, 90))
    with pytest.raises(ContractError, match=r"\.npz: 'objectGuess' holds 1 values that are not finite"):
        draw_errors(broken, view_of(scan), Region(40, 90, 40, 90), [])


def test_the_misfit_of_the_truth_is_one_and_a_wrong_object_is_warned_of(scan, tmp_path):
    objects = {"tv": scan.object[:], "pinn": np.full_like(scan.object[:], 0.7)}
    for method, obj in objects.items():
        result = Reconstruction(object=obj, illumination=np.ones(obj.shape), origin_px=(0, 0))
        save_reconstruction(tmp_path / f"{method}.npz", result, method=method)
    paths = {method: tmp_path / f"{method}.npz" for method in objects}
    table, _ = compare(paths, scan, view_of(scan), Region(40, 90, 40, 90))
    values = table.set_index(["method", "metric"])["value"]
    assert 0.8 < values["tv", "heldout_misfit"] < 1.2 < values["tv", "explained_misfit"]
    assert values["pinn", "heldout_misfit"] > values["pinn", "explained_misfit"]
    (warning,) = misfit_warnings(with_condition(table, **CONDITION, split="test"))
    assert warning.startswith(f"pinn: misfit of holdout exposures {values['pinn', 'heldout_misfit']:.3g} in 1")
    assert "in 1 of 1 conditions" in warning
    assert misfit_warnings(with_condition(table[table["metric"] == "error"], **CONDITION, split="test")) == []


def test_repetitions_of_a_condition_share_a_warning():
    rows = [
        {"dose": 10, "view": "dense", "split": split, "method": "pinn", "object": name, "seed": seed}
        | {"metric": "shift_px", "value": 0.3 if seed else 0.05}
        for split in ("train", "test")
        for name in ("a", "b")
        for seed in (0, 1)
    ]
    message = "split: shifted by 0.300 px at most, 2 of 4; a known probe allows 0.1 px"
    assert warnings_of(pd.DataFrame(rows)) == [f"pinn, dense 10, {split} {message}" for split in ("train", "test")]


def test_a_removed_ramp_is_a_warning():
    row = {"dose": 10, "view": "dense", "split": "test", "seed": 0, "metric": "ramp_rad_per_px"}
    table = pd.DataFrame([{**row, "method": "lsqml", "value": 0.012}, {**row, "method": "tv", "value": 0.003}])
    message = "lsqml, dense 10: tilted by a phase ramp of 0.0120 rad/px; a known probe allows 0.005 rad/px"
    assert warnings_of(table) == [message]


def test_repetitions_that_could_not_be_registered_are_counted():
    row = {"dose": 10, "view": "dense", "split": "test", "method": "pinn", "metric": "shift_px"}
    table = pd.DataFrame([{**row, "seed": seed, "value": value} for seed, value in enumerate((np.nan, 0.0))])
    assert warnings_of(table) == ["pinn, dense 10: could not be registered, 1 of 2: the log of compare says why"]
