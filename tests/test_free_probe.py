"""Error reduction of object and probe together: what it is told, what it finds, and what must not matter."""

import numpy as np
import pytest

from ptycho.physics.detector import PERFECT, Detector
from ptycho.physics.forward import predict_intensity
from ptycho.reconstruction.free_probe import STEP, FewExposures
from tests.faulty_scans import N, right


@pytest.fixture(scope="module")
def raw():
    return right(rows=6)


def misfit_of(raw, estimate, detector=PERFECT):
    """Mean squared difference of amplitudes, in shot noise: 1/4 for the truth."""
    mean = predict_intensity(estimate.object, estimate.probe, raw.xcoords, raw.ycoords, estimate.origin_px)
    mean = detector.expected_counts(mean)
    return np.mean((np.sqrt(detector.valid_values(raw.counts)) - np.sqrt(detector.valid_values(mean))) ** 2)


def test_counts_of_a_known_probe_are_predicted_to_shot_noise(raw):
    few = FewExposures(raw.counts, raw.xcoords, raw.ycoords, raw.probe, PERFECT)
    assert misfit_of(raw, few.reconstruct(40)) < 0.13
    assert misfit_of(raw, few.reconstruct(2)) > 0.25


def test_a_free_probe_stays_where_it_is_exact_and_mends_where_it_is_not(raw):
    rough = np.abs(raw.probe) * np.exp(0.8j * np.angle(raw.probe))
    exact, known, free = (
        FewExposures(raw.counts, raw.xcoords, raw.ycoords, probe, PERFECT).reconstruct(40, step)
        for probe, step in ((raw.probe, STEP), (rough, 0.0), (rough, STEP))
    )
    assert misfit_of(raw, exact) < 0.13
    assert misfit_of(raw, free) < 0.3 * misfit_of(raw, known)


def test_what_stands_in_bad_pixels_changes_no_bit(raw):
    bad = np.zeros((N, N), bool)
    bad[10:12], bad[:, 20] = True, True
    estimates = [
        FewExposures(
            np.where(bad, filler, raw.counts), raw.xcoords, raw.ycoords, raw.probe, Detector(bad_pixels=bad)
        ).reconstruct(10, STEP)
        for filler in (0, 7e6)
    ]
    np.testing.assert_array_equal(*(estimate.object for estimate in estimates))
    assert misfit_of(raw, estimates[0], Detector(bad_pixels=bad)) < 2


def test_flux_and_background_belong_to_the_prediction(raw):
    rng = np.random.default_rng(0)
    flux, background = rng.uniform(0.5, 1.5, len(raw.xcoords)), np.full((N, N), 2.0, np.float32)
    detector = Detector(exposure_scale=flux / flux.mean(), background=background)
    mean = predict_intensity(raw.object, raw.probe, raw.xcoords, raw.ycoords)
    measured = raw.changed(counts=rng.poisson(detector.expected_counts(mean)))
    few = FewExposures(measured.counts, raw.xcoords, raw.ycoords, raw.probe, detector)
    told = misfit_of(measured, few.reconstruct(40, STEP), detector)
    untold = FewExposures(measured.counts, raw.xcoords, raw.ycoords, raw.probe, PERFECT)
    assert told < 0.35 < misfit_of(measured, untold.reconstruct(40, STEP))


def test_incoherent_modes_are_fitted_together(raw):
    modes = np.stack([0.9 * raw.probe, 0.4 * raw.probe * np.linspace(-1, 1, N)]).astype(np.complex64)
    counts = np.random.default_rng(1).poisson(predict_intensity(raw.object, modes, raw.xcoords, raw.ycoords))
    few = FewExposures(counts, raw.xcoords, raw.ycoords, modes, PERFECT)
    assert misfit_of(raw.changed(counts=counts), few.reconstruct(40)) < 0.3
