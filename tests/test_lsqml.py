"""LSQML by pty-chi: its coordinates are ours, it stops by its validation exposures, it repeats."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho.data.object_files import paste
from ptycho.physics.forward import illumination, predict_intensity, window_corners, window_start
from ptycho.reconstruction import exposures
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, reconstruct
from ptycho.reconstruction.ptychi_adapter import corrected_positions, object_box, ptychi_position
from tests.conftest import write_scan

OPTIONS = LSQMLOptions(epochs=25, early_stopping_patience=25, batch_size=16, compact_batching_below_overlap=0.0)


def run(scan, options=OPTIONS, **changes):
    validation = np.arange(0, len(scan), 10)
    fit = Exposures.of(scan, np.setdiff1d(np.arange(len(scan)), validation))
    return reconstruct(fit, Exposures.of(scan, validation), scan.probe, options, LSQMLRun(seed=0, **changes))


def misfit(result, scan, shift=(0, 0)):
    """Relative error where it is lit, up to a factor, against the truth moved by whole pixels; and that factor."""
    top, left = result.origin_px
    truth = np.roll(paste(scan.object[:], (-top, -left), result.object.shape), shift, (0, 1))
    incident = illumination(scan.probe, scan.xcoords, scan.ycoords, result.object.shape, result.origin_px)
    lit = incident > 0.3 * incident.max()
    estimate, truth = result.object[lit], truth[lit]
    factor = np.vdot(estimate, truth) / np.vdot(estimate, estimate)
    return np.linalg.norm(factor * estimate - truth) / np.linalg.norm(truth), factor


@pytest.fixture(scope="module")
def result(scan):
    return run(scan)


def test_positions_in_ptychis_convention():
    # a window of 8 px on an object of 20 px that starts at row 3: position 13 is its center pixel, 3 + 20/2
    assert ptychi_position(np.array([13.0, 14.5]), 3, 20).tolist() == [0.0, 1.5]


def test_positions_come_back_from_pty_chi_and_stay_on_the_object():
    """Those whose windows have left it are moved back, in pty-chi too."""
    import torch

    (top, left), n = (3, -5), 8
    y, x = np.array([13.0, 14.5, 99.0]), np.array([6.25, -40.0, 7.0])
    there = torch.tensor(np.stack([ptychi_position(y, top, 20), ptychi_position(x, left, 24)], axis=1))
    positions = SimpleNamespace(data=there, set_data=lambda data: setattr(positions, "data", data))
    task = SimpleNamespace(object=SimpleNamespace(data=torch.zeros(1, 20, 24)), probe_positions=positions)
    xcoords, ycoords = corrected_positions(task, (top, left), n)
    assert (ycoords[:2].tolist(), xcoords[[0, 2]].tolist()) == ([13.0, 14.5], [6.25, 7.0])
    window_corners((20, 24), xcoords, ycoords, n, (top, left))  # raises where a window is not on the object
    np.testing.assert_array_equal(positions.data[:, 0], ptychi_position(ycoords, top, 20))


def test_the_box_holds_every_window_with_a_margin():
    x, y = np.array([10.2, 30.7]), np.array([12.0, 12.4])
    (top, left), (height, width) = object_box(x, y, 8)
    assert (window_start(y, 8) - top >= 2).all()
    assert (window_start(x, 8) - left + 8 + 2 <= width).all()
    assert height % 2 == width % 2 == 0


def test_the_object_lies_on_its_own_pixels(scan, result):
    """Golden: no shift between our coordinates and pty-chi's."""
    error, factor = misfit(result, scan)
    assert error < 0.2
    assert abs(abs(factor) - 1) < 0.05
    moved = {shift: misfit(result, scan, shift)[0] for shift in ((-1, 0), (1, 0), (0, -1), (0, 1))}
    assert error < 0.85 * min(moved.values())
    # sub-pixel: the errors of opposite shifts are equal; half a pixel off they would differ by a third
    for forth, back in (((1, 0), (-1, 0)), ((0, 1), (0, -1))):
        assert abs(moved[forth] - moved[back]) < 0.1 * moved[forth]


def test_the_epoch_with_the_lowest_validation_deviance_is_kept(scan, result):
    assert list(result.history) == ["epoch", "loss", "validation_deviance"]
    deviance = result.history.set_index("epoch")["validation_deviance"]
    assert deviance.iloc[-1] < deviance.iloc[0]
    best = result.chosen["best_epoch"]
    assert best == deviance.idxmin()
    shorter = run(scan, replace(OPTIONS, epochs=best))
    np.testing.assert_array_equal(shorter.object, result.object)


def test_it_stops_when_the_validation_deviance_no_longer_falls(scan, monkeypatch):
    deviances = iter([3.0, 2.0, 2.5, 2.5, 1.0])
    monkeypatch.setattr(exposures, "poisson_deviance", lambda counts, mean: next(deviances))
    result = run(scan, replace(OPTIONS, epochs=5, early_stopping_patience=2))
    assert result.history["validation_deviance"].tolist() == [3.0, 2.0, 2.5, 2.5]
    assert result.chosen == {"best_epoch": 2}
    monkeypatch.setattr(exposures, "poisson_deviance", lambda counts, mean: np.nan)
    with pytest.raises(ValueError, match="epoch 1: the validation deviance is nan"):
        run(scan)


def test_the_truth_is_not_read_and_the_same_seed_repeats(scan, blind_scan, result):
    np.testing.assert_array_equal(result.object, run(blind_scan).object)


def test_a_refined_probe_is_returned_in_our_units_with_its_illumination(scan, result):
    """As for a reference: from all exposures, none for validation."""
    assert result.refined is None
    exposures, options = Exposures.of(scan, np.arange(len(scan))), replace(OPTIONS, epochs=10)
    refined = reconstruct(exposures, None, scan.probe, options, LSQMLRun(seed=0, refine_probe=True))
    assert list(refined.history) == ["epoch", "loss"]
    assert refined.chosen == {"best_epoch": 10}
    probe, positions = refined.refined.probe, (scan.xcoords, scan.ycoords)
    assert (probe.shape, probe.dtype) == (scan.probe.shape, np.complex64)
    assert np.abs(probe - scan.probe).max() > 1e-2 * np.abs(scan.probe).max()
    predicted = predict_intensity(refined.object, probe, *positions, refined.origin_px)
    assert predicted.sum() == pytest.approx(np.square(scan.diffraction[:], dtype=np.float64).sum(), rel=0.05)
    incident = illumination(probe, *positions, refined.object.shape, refined.origin_px)
    np.testing.assert_allclose(refined.illumination, incident)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("small") / "scan.npz", n=32, columns=6, rows=6)


def refine(scan, error_px, **changes):
    """Reconstruct with positions that are wrong by so much, and return the errors before and after, (2, M) [px]."""
    error = np.random.default_rng(5).normal(0, error_px / np.sqrt(2), (2, len(scan)))
    told = replace(scan, xcoords=scan.xcoords + error[0], ycoords=scan.ycoords + error[1])
    options = replace(OPTIONS, epochs=40, early_stopping_patience=40, batch_size=12)
    result = run(told, options, refine_positions=True, **changes)
    positions = result.refined.positions
    np.testing.assert_array_equal(positions.exposures, np.arange(len(scan)))
    np.testing.assert_allclose(positions.xcoords - positions.x_shift, told.xcoords)
    np.testing.assert_allclose(positions.ycoords - positions.y_shift, told.ycoords)
    return result, error, np.stack([positions.xcoords - scan.xcoords, positions.ycoords - scan.ycoords])


def rms(error):
    """Root mean square length, without the shift that all share."""
    return np.sqrt(np.square(error - error.mean(axis=1, keepdims=True)).sum(axis=0).mean())


def test_positions_that_are_wrong_by_a_pixel_get_better(small):
    """Of the exposures to fit, and of those for validation, on which the epoch is chosen."""
    result, before, after = refine(small, 1.0)
    validation = np.arange(len(small)) % 10 == 0
    assert rms(after[:, ~validation]) < 0.4 * rms(before[:, ~validation])
    assert rms(after[:, validation]) < 0.4 * rms(before[:, validation])
    positions, box = result.refined.positions, (result.object.shape, result.origin_px)
    used = positions.xcoords[~validation], positions.ycoords[~validation]
    assert result.refined.probe is None
    np.testing.assert_allclose(result.illumination, illumination(small.probe, *used, *box))
    predicted = predict_intensity(
        result.object,
        small.probe,
        positions.xcoords[validation],
        positions.ycoords[validation],
        result.origin_px,
    )
    expected = Exposures.of(small, np.flatnonzero(validation)).deviance(predicted)
    kept = result.history.set_index("epoch").loc[result.chosen["best_epoch"], "validation_deviance"]
    assert kept == pytest.approx(expected, rel=1e-3)


def test_exact_positions_do_not_get_much_worse(small):
    """Also while the probe is refined."""
    for changes in ({}, {"refine_probe": True}):
        _, before, after = refine(small, 0.0, **changes)
        assert rms(before) == 0
        assert 0 < rms(after) < 0.25


@pytest.mark.parametrize(("stabilize", "low", "high"), [(False, 0.5, 0.85), (True, 0.9, 1.1)])
def test_dim_pixels_are_predicted_too_dim_unless_the_roots_are_stabilized(scan, stabilize, low, high):
    """The mean root of counts is far below the root of their mean where that is less than one photon."""
    mean = predict_intensity(scan.object[:], scan.probe, scan.xcoords, scan.ycoords)
    fitted = run(scan, stabilize=stabilize)
    predicted = predict_intensity(
        np.pad(fitted.object, 8, "edge"), scan.probe, scan.xcoords, scan.ycoords, np.subtract(fitted.origin_px, 8)
    )
    dim = (mean > 0.1) & (mean < 1)
    assert low < predicted[dim].sum() / mean[dim].sum() < high


def test_a_start_is_taken_up(scan, result):
    """From the object that a run has ended with, one epoch is better than one from a flat object."""
    epoch = replace(OPTIONS, epochs=1)
    boxes = []

    def start(box):
        boxes.append(box)
        return result.object

    runs = run(scan, epoch), run(scan, epoch, start=start)
    first, resumed = (result.history["validation_deviance"][0] for result in runs)
    assert boxes == [(result.origin_px, result.object.shape)]
    assert resumed < 0.9 * first


def test_torch_is_left_as_it_was(result):
    import torch

    assert torch.get_default_dtype() == torch.float32
    assert str(torch.get_default_device()) == "cpu"


def test_compact_batches_take_neighbors_with_half_the_momentum(scan, result, monkeypatch):
    import ptychi.api as api
    from ptychi.api import task

    setups, make = [], task.PtychographyTask

    def keep(setup, **data):
        setups.append(setup.reconstructor_options)
        return make(setup, **data)

    monkeypatch.setattr(task, "PtychographyTask", keep)
    compact, plain = run(scan, compact=True), run(scan)
    assert [solver.batching_mode for solver in setups] == [api.BatchingModes.COMPACT, api.BatchingModes.RANDOM]
    assert setups[0].momentum_acceleration_gain == 0.5 != setups[1].momentum_acceleration_gain
    np.testing.assert_array_equal(plain.object, result.object)
    assert np.abs(compact.object - result.object).max() > 1e-3
    assert misfit(compact, scan)[0] < 1.3 * misfit(result, scan)[0]
