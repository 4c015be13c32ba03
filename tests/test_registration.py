"""Laws of registration: a known gauge is found and removed, and what cannot be registered is refused."""

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

from ptycho.physics.samples import simulate_object
from ptycho.scoring.registration import AlignmentError, Gauge, align

SIDE = 200
REGION = (slice(32, 168), slice(28, 180))
NOISE = 0.1  # rms over |O| <= 1: the noise of 1e4 photons per exposure, see `reconstruction`
ILLUMINATION = np.ones((SIDE, SIDE))


CONTRASTS = {
    "both": lambda obj: obj,
    "amplitude": lambda obj: np.abs(obj).astype(np.complex128),
    "phase": lambda obj: np.exp(1j * np.angle(obj)),
}


@cache
def scene(kind="dead_leaves", contrast="both", seed=3):
    return CONTRASTS[contrast](simulate_object(kind, (SIDE, SIDE), np.random.default_rng(seed)).astype(np.complex128))


def displaced(obj, shift_y, shift_x):
    """Move content towards larger row and column."""
    f_y, f_x = np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)
    return np.fft.ifft2(np.fft.fft2(obj) * np.exp(-2j * np.pi * (f_y * shift_y + f_x * shift_x)))


def distorted(obj, shift=(0, 0), ramp=(0, 0), factor=1, noise=0.0, seed=0, region=REGION):
    """The truth with a gauge and noise: factor · exp(i ramp · (r - center)) · (truth(r - shift) + noise)."""
    y, x = (np.arange(SIDE) - (s.start + s.stop - 1) / 2 for s in region)
    rng = np.random.default_rng(seed)
    grain = noise * rng.normal(scale=np.sqrt(0.5), size=(2, SIDE, SIDE))
    return (
        factor * np.exp(1j * (ramp[0] * y[:, None] + ramp[1] * x)) * (displaced(obj, *shift) + grain[0] + 1j * grain[1])
    )


def relative_error(aligned, truth):
    return np.linalg.norm(aligned - truth[REGION]) / np.linalg.norm(truth[REGION])


def test_without_noise_the_truth_is_recovered():
    truth = scene()
    aligned, gauge = align(distorted(truth, (2.37, -5.61), (0.05, -0.09), 1.7j), truth, ILLUMINATION, REGION)
    assert relative_error(aligned, truth) < 3e-3
    assert gauge.shift_y_px == pytest.approx(2.37, abs=1e-3)
    assert gauge.shift_x_px == pytest.approx(-5.61, abs=1e-3)
    assert gauge.scale == pytest.approx(1.7, rel=1e-4)
    assert gauge.phase_rad == pytest.approx(np.pi / 2, abs=1e-4)


def test_a_bright_pixel_one_row_lower_is_a_shift_of_plus_one_in_y():
    truth = np.full((40, 40), 0.5 + 0j)
    truth[18, 22] = 1
    estimate = np.full((40, 40), 0.5 + 0j)
    estimate[19, 22] = 1
    aligned, gauge = align(estimate, truth, np.ones((40, 40)), (slice(10, 30), slice(10, 30)))
    assert (gauge.shift_y_px, gauge.shift_x_px) == (1, 0)
    np.testing.assert_allclose(aligned, truth[10:30, 10:30], atol=1e-9)


def test_phase_that_grows_by_a_tenth_per_column_is_a_ramp_in_x_about_the_regions_center():
    truth = scene()
    columns = np.arange(SIDE) - (REGION[1].start + REGION[1].stop - 1) / 2
    _, gauge = align(truth * np.exp(0.1j * columns), truth, ILLUMINATION, REGION)
    assert gauge.ramp_x_rad_per_px == pytest.approx(0.1, rel=1e-6)
    assert gauge.ramp_y_rad_per_px == pytest.approx(0, abs=1e-6)
    assert gauge.phase_rad == pytest.approx(0, abs=1e-6)


def test_the_truth_is_returned_unchanged():
    truth = scene()
    aligned, gauge = align(truth, truth, ILLUMINATION, REGION)
    np.testing.assert_allclose(aligned, truth[REGION], rtol=1e-12)
    assert gauge.shift_px == 0
    assert gauge.ramp_rad_per_px < 1e-12
    assert gauge.scale == pytest.approx(1, rel=1e-12)


def test_negligible_and_whole_pixel_shifts_are_not_interpolated():
    truth = scene()
    aligned, gauge = align(distorted(truth, (5e-4, 0)), truth, ILLUMINATION, REGION)
    assert gauge.shift_px == 0
    moved = np.roll(truth, (3, -2), (0, 1))
    aligned, gauge = align(moved, truth, ILLUMINATION, REGION)
    assert (gauge.shift_y_px, gauge.shift_x_px) == (3, -2)
    np.testing.assert_allclose(aligned, truth[REGION], atol=1e-9)


def test_interpolation_keeps_the_power_of_noise():
    """White noise stays white: a blurring interpolation would take up to half of its power."""
    truth = scene()
    aligned, _ = align(distorted(truth, (0.5, 0.5), noise=0.2), truth, ILLUMINATION, REGION)
    assert np.var(aligned - truth[REGION]) == pytest.approx(0.04, rel=0.04)


def test_alignment_is_idempotent_and_deterministic():
    truth = scene("siemens")
    estimate = distorted(truth, (1.3, 0.4), (0.02, 0), 2, NOISE)
    first, gauge = align(estimate, truth, ILLUMINATION, REGION)
    again, same = align(estimate, truth, ILLUMINATION, REGION)
    assert same == gauge
    np.testing.assert_array_equal(again, first)
    whole = (slice(None), slice(None))
    _, rest = align(first, truth[REGION], ILLUMINATION[REGION], whole)
    assert rest.shift_px < 0.01
    assert rest.ramp_rad_per_px < 1e-5
    assert rest.scale == pytest.approx(1, abs=1e-3)


def test_scale_is_biased_neither_by_noise_nor_by_wrong_phases():
    """Complex least squares would shrink it by <exp(i error)> = 0.65; that of amplitudes would grow by 1.12."""
    truth = scene()
    _, gauge = align(distorted(truth, noise=0.5), truth, ILLUMINATION, REGION)
    assert gauge.scale == pytest.approx(1, abs=0.03)
    wrong = np.exp(0.9j * np.sin(np.arange(SIDE) / 5)) * np.exp(0.9j * np.sin(np.arange(SIDE) / 7))[:, None]
    assert abs(wrong[REGION].mean()) < 0.75
    aligned, gauge = align(truth * wrong, truth, ILLUMINATION, REGION, max_shift_px=0)
    assert gauge.scale == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(np.abs(aligned), np.abs(truth[REGION]), rtol=0.01)


def test_scikit_image_finds_the_same_shift():
    truth = scene()
    estimate = distorted(truth, (1.62, -0.83), noise=0.05)
    _, gauge = align(estimate, truth, ILLUMINATION, REGION)
    fields = [np.hanning(136)[:, None] * np.hanning(152) * (f[REGION] - f[REGION].mean()) for f in (truth, estimate)]
    shift, _, _ = phase_cross_correlation(*fields, upsample_factor=50, normalization=None)
    np.testing.assert_allclose((gauge.shift_y_px, gauge.shift_x_px), -shift, atol=0.06)


def test_pixels_are_weighted_by_illumination():
    truth = scene()
    estimate = truth.copy()
    estimate[:100] *= 2
    illumination = ILLUMINATION.copy()
    illumination[:100] = 1e-6
    _, gauge = align(estimate, truth, illumination, REGION)
    assert gauge.scale == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("blur_px", [1, 2, 4])
def test_blur_causes_no_shift(blur_px):
    for kind in ("dead_leaves", "lines", "siemens"):
        truth = scene(kind)
        blurred = gaussian_filter(truth.real, blur_px) + 1j * gaussian_filter(truth.imag, blur_px)
        noisy = distorted(blurred, noise=0.05)
        _, gauge = align(noisy, truth, ILLUMINATION, REGION)
        assert gauge.shift_px < 0.2


def test_values_outside_the_region_do_not_matter():
    truth = scene()
    estimate = distorted(truth, (0.4, -0.3))
    for filling in (np.nan, 1e9):
        framed = np.full_like(estimate, filling)
        framed[REGION] = estimate[REGION]
        aligned, gauge = align(framed, truth, ILLUMINATION, REGION)
        assert gauge.shift_y_px == pytest.approx(0.4, abs=0.01)
        assert np.abs(aligned - truth[REGION])[8:-8, 8:-8].max() < 0.1
    _, gauge = align(estimate[REGION], truth[REGION], ILLUMINATION[REGION], (slice(None), slice(None)))
    assert gauge.shift_x_px == pytest.approx(-0.3, abs=0.01)


def test_an_estimate_that_cannot_be_registered_is_refused():
    truth, flat = scene(), np.full((SIDE, SIDE), 0.7 + 0.1j)
    rng = np.random.default_rng(0)
    noise = 1 + rng.normal(size=(SIDE, SIDE)) + 1j * rng.normal(size=(SIDE, SIDE))
    with pytest.raises(AlignmentError, match="truth is flat"):
        align(truth, flat, ILLUMINATION, REGION)
    with pytest.raises(AlignmentError, match="estimate is flat"):
        align(flat, truth, ILLUMINATION, REGION)
    with pytest.raises(AlignmentError, match="nothing in common"):
        align(noise, truth, ILLUMINATION, REGION)
    smooth = 1 + 5 * gaussian_filter(noise.real - 1, 4)
    with pytest.raises(AlignmentError, match="in common"):
        align(smooth + 0j, truth, ILLUMINATION, REGION)
    with pytest.raises(AlignmentError, match="is flat"):
        align(np.zeros_like(truth), truth, ILLUMINATION, REGION)
    with pytest.raises(AlignmentError, match="no shift within ±8 px"):
        align(distorted(truth, (11, 0)), truth, ILLUMINATION, REGION)
    assert issubclass(AlignmentError, ValueError)


def test_without_a_search_only_scale_phase_and_ramp_are_removed():
    truth, flat = scene(), np.full((SIDE, SIDE), 0.7j)
    aligned, gauge = align(flat, truth, ILLUMINATION, REGION, max_shift_px=0)
    assert gauge.shift_px == 0
    assert np.ptp(np.abs(aligned)) < 1e-9
    estimate = distorted(truth, ramp=(0.03, -0.05), factor=2j, noise=0.3)
    _, gauge = align(estimate, truth, ILLUMINATION, REGION, max_shift_px=0)
    assert gauge.ramp_y_rad_per_px == pytest.approx(0.03, rel=0.01)
    assert gauge.scale == pytest.approx(2, rel=0.02)


def test_bad_input_is_named():
    truth = scene()
    with pytest.raises(ValueError, match=r"\(199, 200\)"):
        align(truth[1:], truth, ILLUMINATION, REGION)
    with pytest.raises(ValueError, match="leaves the image"):
        align(truth, truth, ILLUMINATION, (slice(0, 201), slice(0, 10)))
    with pytest.raises(ValueError, match="estimate is not finite"):
        align(np.where(np.arange(SIDE) == 100, np.nan, truth), truth, ILLUMINATION, REGION)
    with pytest.raises(ValueError, match="weights"):
        align(truth, truth, 0 * ILLUMINATION, REGION)
    with pytest.raises(ValueError, match="max_shift_px is -1"):
        align(truth, truth, ILLUMINATION, REGION, max_shift_px=-1)


def test_shift_and_ramp_of_a_gauge_are_euclidean_norms():
    gauge = Gauge(scale=1, phase_rad=0, ramp_y_rad_per_px=0.03, ramp_x_rad_per_px=-0.04, shift_y_px=-3, shift_x_px=4)
    assert gauge.ramp_rad_per_px == pytest.approx(0.05)
    assert gauge.shift_px == pytest.approx(5)
