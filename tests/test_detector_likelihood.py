"""The likelihood and error reduction of a detector with bad pixels, background and changing flux."""

import numpy as np
import pytest

from ptycho.physics.detector import Detector
from ptycho.physics.forward import illumination, predict_intensity
from ptycho.reconstruction import gradient_descent as gradient_descent_module
from ptycho.reconstruction.counts import Counts, mean_transmittance_of, split_counts
from ptycho.reconstruction.gradient_descent import gradient_descent
from ptycho.reconstruction.likelihood import BACKGROUND, Likelihood
from tests.test_detector import bad_pixels
from tests.test_gradient_descent import ORIGIN, SHAPE, N, X, Y, complex_noise, probe_of

BAD, DARK = bad_pixels(), np.linspace(0, 0.6, N * N, dtype=np.float32).reshape(N, N)
SCALE = np.array([0.6, 1.4, 1.0, 0.9, 1.1])
DETECTOR = Detector(bad_pixels=BAD, background=np.where(BAD, np.float32(0), DARK), exposure_scale=SCALE)
PROBE = probe_of(2)
OBJECT = (0.8 + 0.1 * complex_noise(SHAPE, 3)).astype(np.complex64)


def expected(obj, fraction=1.0):
    """Mean counts in double precision, without `ptycho.physics.detector`."""
    return fraction * (SCALE[:, None, None] * predict_intensity(obj, PROBE, X, Y, ORIGIN) + DARK)


FRAMES = np.where(BAD, 0, np.random.default_rng(2).poisson(expected(OBJECT))).astype(float)


def counts_of(frames=FRAMES, detector=DETECTOR):
    return Counts(frames.__getitem__, X, Y, 3, detector)


def test_the_value_is_the_deviance_of_valid_pixels():
    likelihood, guess = Likelihood(counts_of(), PROBE), OBJECT * np.float32(0.9)
    mean, y = expected(guess)[:, ~BAD] + BACKGROUND, FRAMES[:, ~BAD]
    assert likelihood.n_values == y.size
    terms = mean - y + y * np.log(np.maximum(y, 1e-12) / mean)
    assert likelihood(guess)[0] == pytest.approx(terms.sum(), rel=1e-4)
    assert likelihood.noise_level() == pytest.approx(np.sqrt(y.mean()))


def test_the_gradient_agrees_with_finite_differences():
    likelihood, step = Likelihood(counts_of(), PROBE), 1e-3
    gradient = likelihood(OBJECT)[1]
    direction = gradient / np.abs(gradient).max()
    slope = (likelihood(OBJECT + step * direction)[0] - likelihood(OBJECT - step * direction)[0]) / (2 * step)
    assert np.vdot(gradient, direction).real == pytest.approx(slope, rel=0.01)


@pytest.mark.parametrize("garbage", [0.0, 1e6])
def test_what_stands_in_bad_pixels_changes_no_bit(garbage):
    """Even where it has got past the scan's own mask."""
    dirty = FRAMES.copy()
    dirty[:, BAD] = garbage
    clean, other = Likelihood(counts_of(), PROBE), Likelihood(counts_of(dirty), PROBE)
    (value, gradient), (other_value, other_gradient) = clean(OBJECT), other(OBJECT)
    assert value == other_value
    np.testing.assert_array_equal(gradient, other_gradient)
    np.testing.assert_array_equal(clean.amplitude_update(OBJECT), other.amplitude_update(OBJECT))


def test_gradient_descent_stands_still_where_valid_pixels_hold_what_is_predicted(monkeypatch):
    """But for its prior and its background."""
    for name in ("SMOOTHNESS", "FIRST_BACKGROUND", "LAST_BACKGROUND"):
        monkeypatch.setattr(gradient_descent_module, name, 1.0e-9)
    exact = np.where(BAD, 1e6, expected(OBJECT) + BACKGROUND)
    update = Likelihood(counts_of(exact), PROBE).amplitude_update(OBJECT)
    scale = np.abs(Likelihood(counts_of(0 * exact), PROBE).amplitude_update(OBJECT)).max()
    assert np.abs(update).max() < 1e-5 * scale
    likelihood = Likelihood(counts_of(exact), PROBE)
    (last,) = gradient_descent(likelihood, OBJECT, 3, (3,))
    np.testing.assert_allclose(last, OBJECT, atol=1e-3)


def test_bad_pixels_taken_for_zeros_would_be_another_result():
    masked, unmasked = (
        Likelihood(counts_of(detector=detector), PROBE)
        for detector in (DETECTOR, Detector(background=DARK, exposure_scale=SCALE))
    )
    assert unmasked(OBJECT)[0] > 1.5 * masked(OBJECT)[0]


def test_exposures_are_lit_by_their_own_flux():
    likelihood = Likelihood(counts_of(), PROBE)
    one_by_one = sum(
        scale * illumination(PROBE, X[[j]], Y[[j]], SHAPE, ORIGIN) for j, scale in enumerate(SCALE.tolist())
    )
    np.testing.assert_allclose(likelihood.illumination(), one_by_one, rtol=1e-4, atol=1e-4 * one_by_one.max())


def test_a_part_of_the_photons_has_a_part_of_the_background():
    first, second = split_counts(counts_of(), 0.25, seed=0)
    every = np.arange(5)
    np.testing.assert_array_equal(first.frames(every) + second.frames(every), FRAMES)
    part, mean = Likelihood(first, PROBE, 0.25), expected(OBJECT, 0.25)[:, ~BAD] + BACKGROUND
    y = first.frames(every)[:, ~BAD]
    terms = mean - y + y * np.log(np.maximum(y, 1e-12) / mean)
    assert part(OBJECT)[0] == pytest.approx(terms.sum(), rel=1e-4)


def test_a_selection_keeps_the_flux_of_its_exposures():
    chosen = np.array([3, 1])
    picked = counts_of().select(chosen)
    np.testing.assert_array_equal(picked.detector.exposure_scale, SCALE[chosen])
    np.testing.assert_array_equal(picked.frames(np.array([1])), FRAMES[[1]])


def test_the_mean_transmittance_is_that_of_a_flat_sample_whatever_the_detector_loses():
    flat = np.where(BAD, 0, expected(np.full(SHAPE, 0.6, np.complex64)))
    counts = counts_of(flat)
    assert counts.mean_transmittance(PROBE) == pytest.approx(0.6, rel=1e-5)
    parts = [counts.select(np.array(part)) for part in ([0, 1], [2, 3, 4])]
    assert mean_transmittance_of(parts, PROBE) == pytest.approx(0.6, rel=1e-5)
    only_background = counts_of(np.where(BAD, 0, 0.5 * DARK)[None].repeat(5, 0))
    assert 0 < only_background.mean_transmittance(PROBE) < 0.1
