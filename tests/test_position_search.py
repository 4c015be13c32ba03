"""Positions under a known object, and exposures that are out of line."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.physics.detector import Detector
from ptycho.physics.forward import predict_intensity
from ptycho.physics.samples import simulate_object
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.parameters import Parameters
from ptycho.reconstruction.position_search import Reach, find_positions, out_of_line, under_object
from ptycho.reconstruction.refinement import RefinementOptions, refine
from ptycho.reconstruction.refiner import exposures_per_pixel
from ptycho.reconstruction.relocation import FOLDS, Relocation
from tests.test_refinement import N, probe_with


def grid(count, spacing_px, rng):
    """Rows and columns of count² patch centers."""
    rows, columns = (
        spacing_px * axis.ravel() + 24 + rng.uniform(-1, 1, count**2) for axis in np.indices((count, count))
    )
    return rows, columns


def test_positions_are_found_however_far_off_they_are():
    rng = np.random.default_rng(7)
    obj, (rows, columns) = simulate_object("dead_leaves", (96, 96), rng), grid(4, 9.0, rng)
    probe = probe_with(12.0)
    frames = rng.poisson(predict_intensity(obj, probe, columns, rows)).astype(float)
    errors = 9 * np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]])[np.arange(16) % 4].T
    counts = Counts(lambda which: frames[which], columns + errors[1], rows + errors[0])
    known = Parameters(object=obj, probe=probe[None].astype(np.complex64), shifts=np.zeros((2, 0)), flux=np.ones(0))
    likelihood, here = under_object(counts, known, (0, 0), 14)
    reach = Reach(radius_px=12, largest_px=12, spread_px=6)
    shifts = find_positions(likelihood.with_background(0.02), here, reach, np.random.default_rng(0))
    np.testing.assert_allclose(shifts, -errors, atol=0.15)


@pytest.mark.parametrize("what", ["far", "poor"])
def test_what_is_out_of_line_is_told(what):
    rng = np.random.default_rng(1)
    positions, shifts = rng.uniform(0, 100, (2, 80)), rng.uniform(-1, 1, (2, 80))
    deviance = 100 + rng.uniform(-1, 1, 80)
    assert not out_of_line(shifts, positions, deviance).any()
    if what == "far":
        shifts[:, 17] = 3, -3
    else:
        deviance[17] += 3
    assert np.flatnonzero(out_of_line(shifts, positions, deviance)).tolist() == [17]


def test_an_affine_map_is_in_line():
    positions = np.random.default_rng(1).uniform(0, 100, (2, 80))
    assert not out_of_line(0.1 * positions + 5, positions, np.ones(80)).any()


@pytest.mark.slow
def test_exposures_at_the_border_that_are_far_off_find_home(monkeypatch):
    """Without a search anew, one of them stays under an object of its own; once one was elsewhere, all are placed."""
    placed, chosen = Relocation._placed, []
    monkeypatch.setattr(Relocation, "_placed", lambda *args: chosen.append(args[2]) or placed(*args))
    rng = np.random.default_rng(3)
    obj, (rows, columns) = simulate_object("dead_leaves", (104, 104), rng), grid(8, 5.0, rng)
    frames = rng.poisson(predict_intensity(obj, probe_with(12.0), columns, rows)).astype(float)
    errors = rng.normal(0, 1.5, (2, 64))
    errors[:, [0, 24, 39, 60]] = [[7.0, -3.0, 4.0, 8.0], [-8.0, -9.5, 9.5, -6.0]]
    counts = Counts(lambda which: frames[which], columns + errors[1], rows + errors[0])
    options = RefinementOptions(unknown=("positions",), search_px=8.0, rounds=3)
    found = refine(counts, probe_with(12.0), options, seed=0).parameters
    left = errors + found.shifts
    assert np.hypot(*(left - np.median(left, axis=1, keepdims=True))).max() < 1.0
    assert len(chosen) == 1 + FOLDS
    assert np.sort(np.concatenate(chosen[1:])).tolist() == list(range(64))


@pytest.mark.parametrize("spacing", [5.0, 40.0])
def test_exposures_that_light_the_same_pixels_are_counted(spacing):
    rows, columns = spacing * np.indices((6, 6)).reshape(2, -1)
    probe = probe_with(12.0)
    scale, flux = np.linspace(0.5, 1.5, 36), np.linspace(1.2, 0.8, 36)
    counts = Counts(np.ones((36, N, N)).__getitem__, columns, rows, detector=Detector(exposure_scale=scale))
    likelihood = JointLikelihood(counts, probe, margin_px=8)
    moved = np.tile([[6.0], [-5.0]], 36)
    parameters = replace(likelihood.parameters(np.ones(likelihood.shape, np.complex64)), shifts=moved, flux=flux)
    photons = np.abs(probe) ** 2
    canvas = np.zeros((N + 200, N + 200))
    for row, column, light in zip(rows.astype(int), columns.astype(int), flux * scale, strict=True):
        canvas[row : row + N, column : column + N] += light * photons
    found = exposures_per_pixel(likelihood, parameters)
    assert found == pytest.approx((canvas**2).sum() / (((flux * scale) ** 2).sum() * (photons**2).sum()), rel=1e-4)
    assert found == pytest.approx(1, abs=1e-4) if spacing == 40 else found > 2
