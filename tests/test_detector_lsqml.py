"""LSQML and a detector: pty-chi's mask, a background, the flux of every exposure."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.physics.detector import Detector
from ptycho.physics.forward import predict_intensity
from ptycho.physics.noise import poisson_deviance
from ptycho.physics.probes import add_modes, scale_to
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, reconstruct
from tests.test_detector import bad_pixels

ONE_EPOCH = LSQMLOptions(epochs=1, early_stopping_patience=9, batch_size=12, compact_batching_below_overlap=0.0)
BAD = bad_pixels(64)
DARK = np.where(BAD, 0, np.linspace(0, 2, 64 * 64).reshape(64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def exact(scan):
    """Exposures without noise at whole pixels (pty-chi shifts the first of two modes alone), bad pixels 0."""
    scale = np.random.default_rng(0).uniform(0.6, 1.4, len(scan))
    probe = scale_to(add_modes(scan.probe, 2, fraction=0.2), 20_000)
    positions = np.rint(scan.xcoords), np.rint(scan.ycoords)
    intensity = predict_intensity(scan.object[:], probe, *positions)
    counts = np.where(BAD, 0, scale[:, None, None] * intensity + DARK)
    detector = Detector(bad_pixels=BAD, background=DARK, exposure_scale=scale)
    frames = np.sqrt(counts).astype(np.float32)
    return Exposures(frames, *positions, detector), probe, intensity


def start_at(scan):
    """The truth, on the box of a reconstruction; a margin of it lies outside the scan's object."""

    def start(box):
        (top, left), (height, width) = box
        padded = np.pad(scan.object[:], 2, constant_values=1)
        return padded[top + 2 : top + 2 + height, left + 2 : left + 2 + width]

    return start


@pytest.mark.parametrize("changes", [{}, {"compact": True}, {"stabilize": True}], ids=str)
def test_the_truth_stays_where_it_is(scan, exact, changes):
    """Mask, background and flux are those of the forward model: nothing is left to be changed."""
    exposures, probe, _ = exact
    start = start_at(scan)
    result = reconstruct(exposures, None, probe, ONE_EPOCH, LSQMLRun(seed=0, start=start, **changes))
    truth = start((result.origin_px, result.object.shape))
    assert np.abs(result.object - truth).max() < 1e-3
    assert result.history["loss"].iloc[0] < 1e-5
    wrong = replace(exposures, detector=replace(exposures.detector, background=None))
    moved = reconstruct(wrong, None, probe, ONE_EPOCH, LSQMLRun(seed=0, start=start, **changes))
    assert np.abs(moved.object - truth).max() > 1e-2


def test_a_probe_that_is_refined_keeps_its_photons(scan, exact):
    """pty-chi rescales it at first, to the photons of valid pixels alone."""
    exposures, probe, intensity = exact
    result = reconstruct(
        exposures, None, probe, replace(ONE_EPOCH, epochs=2), LSQMLRun(seed=0, refine_probe=True, start=start_at(scan))
    )
    predicted = predict_intensity(
        result.object, result.refined.probe, exposures.xcoords, exposures.ycoords, result.origin_px
    )
    assert predicted.sum() == pytest.approx(intensity.sum(), rel=1e-3)


def test_the_validation_deviance_is_per_valid_pixel(scan, exact):
    exposures, _, intensity = exact
    guess, detector = 0.9 * intensity, exposures.detector
    mean = 0.9 * detector.exposure_scale[:, None, None] * intensity + DARK
    counts = np.square(exposures.diffraction, dtype=np.float64)
    assert exposures.deviance(guess) == pytest.approx(poisson_deviance(counts[:, ~BAD], mean[:, ~BAD]))


def test_the_illumination_has_the_flux_of_every_exposure(scan, exact):
    exposures, probe, _ = exact
    result = reconstruct(exposures, None, probe, ONE_EPOCH, LSQMLRun(seed=0))
    photons = exposures.detector.exposure_scale.sum() * 20_000
    assert result.illumination.sum() == pytest.approx(photons, rel=1e-3)
