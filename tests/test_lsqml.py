import numpy as np
import pytest

from ptycho.data.object_files import paste
from ptycho.physics.forward import illumination, window_start
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, object_box, ptychi_position, reconstruct

OPTIONS = LSQMLOptions(epochs=25, patience=25, batch_size=16)


def run(scan, stop=slice(0, None, 10), **changes):
    chosen = np.arange(len(scan))
    apart = chosen[stop]
    fit = np.setdiff1d(chosen, apart)
    options = {"seed": 0, "compact": False} | changes
    return reconstruct(Exposures.of(scan, fit), Exposures.of(scan, apart), scan.probe, OPTIONS, **options)


@pytest.fixture(scope="module")
def result(scan):
    return run(scan)


def test_positions_in_ptychis_convention():
    # a window of 8 px on an object of 20 px that starts at row 3: position 13 is its center pixel, 3 + 20/2
    assert ptychi_position(np.array([13.0, 14.5]), 3, 20).tolist() == [0.0, 1.5]


def test_the_box_holds_every_window_with_a_margin():
    x, y = np.array([10.2, 30.7]), np.array([12.0, 12.4])
    (top, left), (height, width) = object_box(x, y, 8)
    assert (window_start(y, 8) - top >= 2).all()
    assert (window_start(x, 8) - left + 8 + 2 <= width).all()
    assert height % 2 == width % 2 == 0


def test_the_object_comes_out_on_its_own_pixels(scan, result):
    """Golden: no shift between our coordinates and pty-chi's."""
    top, left = result.origin_px
    truth = paste(scan.object[:], (-top, -left), result.object.shape)
    light = illumination(scan.probe, scan.xcoords, scan.ycoords, result.object.shape, result.origin_px)
    lit = light > 0.3 * light.max()
    errors = {}
    for shift in (-1, 0, 1):
        for axis in (0, 1):
            moved = np.roll(truth, shift, axis)[lit]
            estimate = result.object[lit]
            factor = np.vdot(estimate, moved) / np.vdot(estimate, estimate)
            errors[shift, axis] = np.linalg.norm(factor * estimate - moved) / np.linalg.norm(moved)
            if shift == 0:
                assert abs(abs(factor) - 1) < 0.05
    assert errors[0, 0] < 0.2
    assert errors[0, 0] < 0.85 * min(value for (shift, _), value in errors.items() if shift)
    # sub-pixel: the errors of opposite shifts balance; half a pixel off they would differ by a third
    for axis in (0, 1):
        assert abs(errors[1, axis] - errors[-1, axis]) < 0.1 * errors[1, axis]


def test_the_kept_epoch_is_the_best_for_the_stop_exposures(result):
    assert list(result.history) == ["epoch", "loss", "validation_deviance"]
    assert result.history["validation_deviance"].iloc[-1] < result.history["validation_deviance"].iloc[0]


def test_truth_reaches_it_not_and_the_seed_makes_it_repeatable(scan, blind_scan, result):
    np.testing.assert_array_equal(result.object, run(blind_scan).object)


def test_torch_is_left_as_it_was(result):
    import torch

    assert torch.get_default_dtype() == torch.float32
    assert str(torch.get_default_device()) == "cpu"


def test_compact_batches_run(scan):
    assert np.isfinite(run(scan, compact=True).object).all()
