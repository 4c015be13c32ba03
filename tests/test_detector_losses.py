"""Networks and a detector: their losses are means over valid pixels, their inputs and examples carry the detector."""

import numpy as np
import pytest
import tensorflow as tf

from ptycho.data.tiles import cut_view
from ptycho.loader import open_groups, open_tiles
from ptycho.model import losses
from ptycho.model.unet_training import target_of
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import BACKGROUND, Likelihood
from tests.conftest import ONE_TILE, view_of, write_scan
from tests.test_detector_likelihood import BAD, DETECTOR, FRAMES, OBJECT, PROBE, counts_of, expected


@pytest.fixture
def target():
    likelihood = Likelihood(counts_of(), PROBE)
    return target_of(likelihood, likelihood.origin_px)


def test_the_deviance_of_a_canvas_is_twice_the_likelihood_per_valid_pixel(target):
    likelihood, guess = Likelihood(counts_of(), PROBE), OBJECT * np.float32(0.9)
    value = float(losses.canvas_deviance(tf.constant(guess), **target))
    assert value == pytest.approx(2 * likelihood(guess)[0] / likelihood.n_values, rel=1e-5)
    assert likelihood.n_values == 5 * (~BAD).sum()


def test_its_gradient_is_the_likelihoods(target):
    likelihood, canvas = Likelihood(counts_of(), PROBE), tf.constant(OBJECT)
    with tf.GradientTape() as tape:
        tape.watch(canvas)
        value = losses.canvas_deviance(canvas, **target)
    gradient = tape.gradient(value, canvas).numpy() * likelihood.n_values / 2
    reference = likelihood(OBJECT)[1]
    np.testing.assert_allclose(gradient, reference, atol=1e-4 * np.abs(reference).max())


def test_the_amplitude_error_is_a_mean_over_valid_pixels(target):
    mean = expected(OBJECT)[:, ~BAD] + BACKGROUND
    value = float(losses.canvas_amplitude_error(tf.constant(OBJECT), **target))
    assert value == pytest.approx(np.abs(np.sqrt(mean) - np.sqrt(FRAMES[:, ~BAD])).mean(), rel=1e-4)


def test_a_target_of_a_perfect_detector_does_not_mention_it():
    likelihood = Likelihood(counts_of(detector=type(DETECTOR)()), PROBE)
    assert sorted(target_of(likelihood, likelihood.origin_px)) == ["frames", "left", "probes", "top"]


def test_groups_and_tiles_have_the_flux_of_their_exposures(tmp_path):
    scale = np.linspace(0.8, 1.2, 49)
    scan = write_scan(tmp_path / "scan.npz", detector={"exposure_scale": scale, "bad_pixels": np.eye(64, dtype=bool)})
    tiles = cut_view(scan, np.arange(len(scan)), ONE_TILE)
    for container in (open_groups(scan, view_of(scan)), open_tiles(scan, tiles)):
        counts = Counts.of_group(container, 0)
        np.testing.assert_array_equal(counts.detector.exposure_scale, scale[container.members(0)])
        np.testing.assert_array_equal(counts.detector.bad_pixels, np.eye(64, dtype=bool))
        assert not counts.frames(np.array([0]))[0, np.eye(64, dtype=bool)].any()
