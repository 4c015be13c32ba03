"""Gradient descent on a canvas: the first iterate is a closed form, and every addition a gain."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho.physics.forward import (
    diffract,
    illumination,
    inverse_diffract,
    predict_intensity,
    shift_probe,
    split_position,
    window_start,
)
from ptycho.reconstruction import gradient_descent as gradient_descent_module
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.gradient_descent import CURVATURE, REGULARIZATION, gradient_descent
from ptycho.reconstruction.likelihood import BACKGROUND, Likelihood

N = 16
X, Y = np.array([9.3, 14.0, 11.7, 17.45, 10.2]), np.array([8.6, 10.49, 15.0, 17.2, 12.51])
"""Positions between pixels [px]."""
SHAPE, ORIGIN = (24, 24), (1, 1)
"""Box around their windows, worked out by hand."""


def complex_noise(shape, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def probe_of(modes):
    """A spot a quarter of the window wide, without symmetry, that lights the whole detector."""
    square = (np.arange(N) - N // 2) ** 2
    spot = np.exp(-np.add.outer(square, square) / 24)
    return (3 * spot * complex_noise((modes, N, N), 1)).astype(np.complex64)


def counts_of(frames, block_size=64):
    return Counts(frames.__getitem__, X, Y, block_size)


@pytest.fixture(params=[1, 3], ids=["one mode", "three modes"])
def problem(request):
    """Probe, noisy counts, and an object that does not explain them."""
    probe = probe_of(request.param)
    frames = (
        np.random.default_rng(2).poisson(predict_intensity(complex_noise(SHAPE, 3), probe, X, Y, ORIGIN)).astype(float)
    )
    return probe, frames, complex_noise(SHAPE, 4).astype(np.complex64)


def amplitude_error(obj, probe, frames, origin, positions=(X, Y)):
    """Σ (√I - √y)², by the forward model, in double precision; the floor belongs to I."""
    predicted = predict_intensity(obj.astype(np.complex128), probe, *positions, origin)
    return np.sum((np.sqrt(predicted + BACKGROUND) - np.sqrt(frames)) ** 2)


def test_the_update_is_zero_where_the_counts_are_those_predicted(problem):
    probe, _, _ = problem
    obj = complex_noise(SHAPE, 5).astype(np.complex64)
    likelihood = Likelihood(counts_of(predict_intensity(obj, probe, X, Y, ORIGIN) + BACKGROUND), probe)
    scale = np.abs(obj).max() * likelihood.illumination().max()
    assert np.abs(likelihood.amplitude_update(obj)).max() < 1e-5 * scale
    assert np.abs(likelihood.amplitude_update(1.1 * obj)).max() > 1e-2 * scale


def test_the_update_is_minus_half_the_gradient_of_the_squared_error_of_amplitudes(problem):
    """d/dε E(O + ε D) = Re⟨D, dE/dRe O + i dE/dIm O⟩, and -2 times the update is that gradient."""
    probe, frames, obj = problem
    likelihood = Likelihood(counts_of(frames), probe)
    assert (likelihood.shape, likelihood.origin_px) == (SHAPE, ORIGIN)
    gradient = -2 * likelihood.amplitude_update(obj).astype(np.complex128)
    single = np.zeros((2, *SHAPE), complex)
    single[0, 9, 13], single[1, 14, 8] = 1, 1j
    for direction in (*single, complex_noise(SHAPE, 6)):
        step = 1e-5 * direction
        error = [amplitude_error(obj + sign * step, probe, frames, ORIGIN) for sign in (1, -1)]
        slope = (error[0] - error[1]) / 2e-5
        assert slope == pytest.approx(np.vdot(direction, gradient).real, rel=1e-3)


@pytest.mark.parametrize("block_size", [1, 2, 5])
def test_the_update_does_not_depend_on_the_size_of_blocks(problem, block_size):
    probe, frames, obj = problem
    whole = Likelihood(counts_of(frames), probe).amplitude_update(obj)
    for cache_bytes in (0, 1 << 28):
        likelihood = Likelihood(counts_of(frames, block_size), probe, cache_bytes=cache_bytes)
        np.testing.assert_allclose(likelihood.amplitude_update(obj), whole, atol=1e-6 * np.abs(whole).max())


def test_from_a_flat_object_the_first_iterate_is_the_stitched_inverse_diffraction(problem):
    """(Σ P* F⁻¹(√y F(tP) / |F(tP)|) + r t) / (Σ |P|² + r), with r a fraction of the peak: written out here."""
    probe, frames, _ = problem
    likelihood, flat = Likelihood(counts_of(frames), probe), 0.8
    total, peak = np.zeros(SHAPE, complex), np.max(np.sum(np.abs(probe) ** 2, axis=0))
    for frame, x, y in zip(frames, X, Y, strict=True):
        shifted = shift_probe(probe, split_position(y)[1], split_position(x)[1])
        waves = diffract(flat * shifted)
        intensity = np.sum(np.abs(waves) ** 2, axis=0)
        waves *= np.sqrt(frame / (intensity + BACKGROUND))
        row, column = window_start(y, N) - ORIGIN[0], window_start(x, N) - ORIGIN[1]
        total[row : row + N, column : column + N] += (inverse_diffract(waves) * shifted.conj()).sum(0)
    light, rest = illumination(probe, X, Y, SHAPE, ORIGIN), REGULARIZATION * peak
    expected = (total + rest * flat) / (light + rest)
    first = gradient_descent(likelihood, np.full(SHAPE, flat, np.complex64), 0, (0,))
    assert len(first) == 1
    np.testing.assert_allclose(first[0], expected, atol=2e-5 * np.abs(expected).max())
    assert np.abs(expected - flat).max() > 0.1


def test_iterates_are_returned_in_the_order_in_which_they_are_wanted(problem):
    probe, frames, obj = problem
    likelihood = Likelihood(counts_of(frames), probe)
    by_number = {k: gradient_descent(likelihood, obj, 5, (k,))[0] for k in (0, 1, 2, 5)}
    kept = gradient_descent(likelihood, obj, 5, (5, 1, 0, 2))
    for number, iterate in zip((5, 1, 0, 2), kept, strict=True):
        np.testing.assert_array_equal(iterate, by_number[number])
    assert len({iterate.tobytes() for iterate in kept}) == 4
    assert kept[0].dtype == np.complex64


def noiseless(scan):
    """Likelihood of the counts that the scan's own object gives."""
    positions = scan.xcoords, scan.ycoords
    frames = predict_intensity(scan.object[:], scan.probe, *positions)
    return Likelihood(Counts(frames.__getitem__, *positions), scan.probe)


def test_iterations_lower_the_deviance_and_momentum_lowers_it_further(scan, monkeypatch):
    likelihood = noiseless(scan)
    flat, kept = np.full(likelihood.shape, 0.8, np.complex64), (0, 2, 4, 8, 16)
    objects = gradient_descent(likelihood, flat, 16, kept)
    deviances = [likelihood(obj)[0] for obj in objects]
    assert (np.diff(deviances) < 0).all()
    assert deviances[-1] < 0.05 * deviances[0]
    monkeypatch.setattr(gradient_descent_module, "MOMENTUM", 0.0)
    plain = gradient_descent(likelihood, flat, 16, kept)
    assert deviances[2] < 0.7 * likelihood(plain[2])[0]
    assert deviances[4] < 0.6 * likelihood(plain[4])[0]
    np.testing.assert_array_equal(plain[0], objects[0])  # the control: the first iterate has no momentum yet


def test_a_part_of_the_photons_gives_the_same_estimate(problem, monkeypatch):
    """The likelihood of a split knows its fraction, so that the object has no other scale.

    The prior is left out, and the background is at its upper limit, which is a fraction of the mean count.
    """
    for name, value in (("SMOOTHNESS", 0.0), ("FIRST_BACKGROUND", 1e9), ("LAST_BACKGROUND", 1e9)):
        monkeypatch.setattr(gradient_descent_module, name, value)
    probe, frames, obj = problem
    whole, part = Likelihood(counts_of(frames), probe), Likelihood(counts_of(0.3 * frames), probe, 0.3)
    first, second = (gradient_descent(likelihood, obj, 3, (3,))[0] for likelihood in (whole, part))
    np.testing.assert_allclose(first, second, atol=1e-2 * np.abs(first).max())


def test_the_gradient_is_that_of_the_deviance(problem):
    probe, frames, obj = problem
    for likelihood in (
        Likelihood(counts_of(frames), probe),
        Likelihood(counts_of(frames, 2), probe).with_background(0.5),
    ):
        np.testing.assert_array_equal(likelihood.gradient(obj), likelihood(obj)[1])


def error_of(obj, truth):
    """Relative distance from the truth after one complex factor."""
    factor = np.vdot(obj, truth) / np.vdot(obj, obj)
    return np.linalg.norm(factor * obj - truth) / np.linalg.norm(truth)


def inner_error(scan, frames, iterations=30):
    """Distance of an estimate from a scan's object where it is well illuminated."""
    positions = scan.xcoords, scan.ycoords
    likelihood = Likelihood(Counts(frames.__getitem__, *positions), scan.probe)
    flat = np.full(likelihood.shape, 0.9, np.complex64)
    (estimate,) = gradient_descent(likelihood, flat, iterations, (iterations,))
    (top, left), (height, width) = likelihood.origin_px, likelihood.shape
    truth = scan.object[top : top + height, left : left + width]
    lit = likelihood.illumination() > 0.3 * likelihood.illumination().max()
    return error_of(estimate[lit], truth[lit])


@pytest.fixture(scope="module")
def long_scan():
    """Exposures in a row, ten diameters of the beam long, of an object whose phase varies slowly along it."""
    rng, probe = np.random.default_rng(5), probe_of(1)
    x, y = np.meshgrid(np.arange(10, 90, 2.5), np.arange(10, 18, 2.5))
    x, y = (axis.ravel() + rng.uniform(-0.5, 0.5, axis.size) for axis in (x, y))
    obj = np.exp(1j * np.cos(np.pi * np.arange(100) / 100) * np.ones((28, 1)))
    return SimpleNamespace(xcoords=x, ycoords=y, probe=probe, object=obj.astype(np.complex64))


def test_slow_phases_take_fewer_iterations_than_without_their_gain(long_scan, monkeypatch):
    frames = predict_intensity(long_scan.object, long_scan.probe, long_scan.xcoords, long_scan.ycoords)
    error = inner_error(long_scan, frames)
    monkeypatch.setattr(gradient_descent_module, "SLOW_PHASE_GAIN", 0.0)
    assert error < 0.5 * inner_error(long_scan, frames)


def reduced(scan, photons):
    """Return a scan and its noisy frames at another mean count per exposure."""
    predicted = predict_intensity(scan.object, scan.probe, scan.xcoords, scan.ycoords)
    factor = photons / predicted.sum(axis=(1, 2)).mean()
    probe = (np.sqrt(factor) * scan.probe).astype(np.complex64)
    frames = np.random.default_rng(6).poisson(factor * predicted).astype(float)
    return SimpleNamespace(**{**vars(scan), "probe": probe}), frames


def rough_scan(seed, extent, step, strength):
    """Jittered exposures, `step` px apart, of a phase that varies within some pixels."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(10, extent, step), np.arange(10, extent, step))
    x, y = (axis.ravel() + rng.uniform(-0.5, 0.5, axis.size) for axis in (x, y))
    phase = strength * gaussian_filter(rng.normal(size=(extent + 20, extent + 20)), 1.5)
    return SimpleNamespace(xcoords=x, ycoords=y, probe=probe_of(1), object=np.exp(1j * phase).astype(np.complex64))


@pytest.mark.parametrize(("photons", "gain"), [(100, (0.3, 0.7)), (1e6, (0.99, 1.01))], ids=["few", "many"])
def test_the_prior_helps_where_photons_are_few_and_does_not_show_where_they_are_many(monkeypatch, photons, gain):
    scan, frames = reduced(rough_scan(0, 40, 3, 3.0), photons)
    error = inner_error(scan, frames)
    monkeypatch.setattr(gradient_descent_module, "SMOOTHNESS", 0.0)
    low, high = gain
    assert low < error / inner_error(scan, frames) < high


def test_at_few_photons_the_likelihood_is_better_than_replaced_amplitudes(monkeypatch):
    """The square root of a count is, on average, smaller than the square root of its mean."""
    scan, frames = reduced(rough_scan(0, 40, 3, 3.0), 300)
    error = inner_error(scan, frames)
    monkeypatch.setattr(Likelihood, "gradient", lambda self, obj: -CURVATURE * self.amplitude_update(obj))
    assert error < 0.97 * inner_error(scan, frames)


def test_a_decreasing_background_finds_its_way_where_exposures_hardly_overlap(monkeypatch):
    """With a small one from the start, pixels with counts but hardly any predicted intensity lead astray."""
    scan, frames = reduced(rough_scan(0, 70, 8, 7.5), 1e4)
    error = inner_error(scan, frames)
    monkeypatch.setattr(gradient_descent_module, "FIRST_BACKGROUND", gradient_descent_module.LAST_BACKGROUND)
    assert error < 0.8 * inner_error(scan, frames)


def test_a_global_phase_of_the_probe_does_not_show_in_the_estimate(scan, counts):
    """Nobody can measure it. Photons where none is predicted must not take their phase from rounding errors."""
    turned = (scan.probe * np.exp(0.7j)).astype(np.complex64)
    estimates = []
    for probe in (scan.probe, turned):
        likelihood = Likelihood(counts, probe)
        flat = np.full(likelihood.shape, 0.8, np.complex64)
        estimates.append(gradient_descent(likelihood, flat, 8, (8, 0)))
    lit = likelihood.illumination() > 0.1 * likelihood.illumination().max()
    for first, second in zip(*estimates, strict=True):
        assert np.abs(first - second)[lit].max() < 1e-4


@pytest.mark.parametrize("block_size", [1, 5, 16])
def test_estimates_do_not_depend_on_the_size_of_blocks_by_one_bit(scan, counts, block_size):
    """A difference in the last bit grows in the iterations and in the network, beyond what the law of chunks allows."""
    flat = np.full(Likelihood(counts, scan.probe).shape, 0.8, np.complex64)
    whole, parts = (
        gradient_descent(Likelihood(each, scan.probe), flat, 4, (4,))[0]
        for each in (counts, replace(counts, block_size=block_size))
    )
    np.testing.assert_array_equal(parts, whole)
