"""Closed forms and laws of `ptycho.scoring.metrics`; MS-SSIM against a second implementation written here."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d

from ptycho.physics.noise import blockwise_deviance, poisson_deviance
from ptycho.physics.samples import simulate_object
from ptycho.scoring import metrics
from ptycho.scoring.metrics import METRICS, ms_ssim_levels, ms_ssim_weights, score

NAMES = {
    f"{kind}_{of}" for kind in ("mae", "rmse", "psnr", "ssim", "ms_ssim", "frc50") for of in ("amplitude", "phase")
}


@pytest.fixture(scope="module")
def truth():
    return simulate_object("dead_leaves", (90, 121), np.random.default_rng(1)).astype(np.complex128)


@pytest.fixture(scope="module")
def estimate(truth):
    rng = np.random.default_rng(2)
    return truth + 0.05 * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape))


def test_metrics_have_the_documented_names(truth, estimate):
    assert set(METRICS) == {*NAMES, "error"}
    assert set(score(estimate, truth)) == set(METRICS)
    assert all(isinstance(value, float) for value in score(estimate, truth).values())


def test_the_truth_scores_perfectly(truth):
    values = score(truth, truth)
    for name, value in values.items():
        perfect = 0 if name.startswith(("mae", "rmse", "error")) else np.inf if name.startswith("psnr") else 1
        assert value == pytest.approx(perfect, abs=1e-6), name


def test_an_offset_has_its_closed_form(truth):
    amplitude, phase = np.abs(truth), np.angle(truth)
    values = score((amplitude + 0.1) * np.exp(1j * (phase + 0.2)), truth)
    assert values["mae_amplitude"] == pytest.approx(0.1)
    assert values["rmse_amplitude"] == pytest.approx(0.1)
    assert values["mae_phase"] == pytest.approx(0.2)
    assert values["psnr_amplitude"] == pytest.approx(20 * np.log10(np.ptp(amplitude) / 0.1))
    assert values["psnr_phase"] == pytest.approx(20 * np.log10(np.ptp(phase) / 0.2))
    assert values["frc50_phase"] == 1


def test_error_is_the_relative_complex_norm(truth):
    assert METRICS["error"](1.25 * truth, truth) == pytest.approx(0.25)
    assert METRICS["error"](-truth, truth) == pytest.approx(2)


def test_rmse_differs_from_mae_on_a_single_wrong_pixel():
    truth = np.full((20, 20), 1 + 0j)
    estimate = truth.copy()
    estimate[3, 4] = 3
    assert METRICS["mae_amplitude"](estimate, truth) == pytest.approx(2 / 400)
    assert METRICS["rmse_amplitude"](estimate, truth) == pytest.approx(2 / 20)


@pytest.mark.parametrize("turn", [1.0, 2.8, np.pi])
def test_a_phase_common_to_truth_and_estimate_changes_nothing(truth, estimate, turn):
    expected, turned = (score(estimate * factor, truth * factor) for factor in (1, np.exp(1j * turn)))
    assert turned == pytest.approx(expected, rel=1e-5)


def test_a_phase_wrap_is_no_error():
    phase = np.linspace(-3.1, 3.1, 400).reshape(20, 20)
    truth = np.exp(1j * phase)
    image, reference = metrics.phase_images(truth * np.exp(0.3j), truth)
    np.testing.assert_allclose(image - reference, 0.3)
    np.testing.assert_allclose(reference, phase)
    assert METRICS["rmse_phase"](truth * np.exp(0.3j), truth) == pytest.approx(0.3)


def gaussian_window():
    axis = np.arange(11) - 5
    window = np.exp(-(axis**2) / (2 * 1.5**2))
    return np.outer(window, window) / window.sum() ** 2


def ssim_maps(x, y, span):
    """Luminance and contrast-structure of Wang et al. (2004), population moments, no border."""
    mean_x, mean_y, xx, yy, xy = (convolve2d(f, gaussian_window(), mode="valid") for f in (x, y, x * x, y * y, x * y))
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)


def halved(image):
    """Mean of 2 × 2; an odd side repeats its last line."""
    image = np.pad(image, [(0, n % 2) for n in image.shape], mode="edge")
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def ms_ssim_by_hand(x, y, span, weights):
    product = 1.0
    for scale, weight in enumerate(weights):
        luminance, contrast = ssim_maps(x, y, span)
        last = scale == len(weights) - 1
        product *= max(np.mean(luminance * contrast if last else contrast), 0) ** weight
        x, y = halved(x), halved(y)
    return product


def test_ssim_is_that_of_wang(truth, estimate):
    """scikit-image leaves out the border of 5 px, so that the windows are those of a valid convolution."""
    for name, images in (("amplitude", metrics.amplitude_images), ("phase", metrics.phase_images)):
        image, reference = images(estimate, truth)
        luminance, contrast = ssim_maps(reference, image, np.ptp(reference))
        assert METRICS[f"ssim_{name}"](estimate, truth) == pytest.approx(np.mean(luminance * contrast), abs=1e-9)


def test_ms_ssim_agrees_with_an_implementation_by_hand(truth, estimate):
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363])
    weights /= weights.sum()
    for name, images in (("amplitude", metrics.amplitude_images), ("phase", metrics.phase_images)):
        image, reference = images(estimate, truth)
        expected = ms_ssim_by_hand(reference, image, np.ptp(reference), weights)
        assert expected < 0.99
        assert METRICS[f"ms_ssim_{name}"](estimate, truth) == pytest.approx(expected, abs=1e-4)


def test_ms_ssim_with_all_five_scales():
    rng = np.random.default_rng(0)
    reference = gaussian_filter(rng.normal(size=(161, 170)), 3)
    image = gaussian_filter(reference, 2) + 0.05 * rng.normal(size=reference.shape)
    expected = ms_ssim_by_hand(reference, image, np.ptp(reference), metrics.MS_SSIM_WEIGHTS)
    assert ms_ssim_levels(reference.shape) == 5
    assert metrics.ms_ssim(image, reference) == pytest.approx(expected, abs=1e-4)


def test_other_programs_agree():
    """pytorch-msssim and scikit-image; sides that halve four times, as programs differ at an odd side's last line."""
    import torch
    from pytorch_msssim import ms_ssim, ssim
    from skimage.metrics import peak_signal_noise_ratio

    truth = simulate_object("dead_leaves", (176, 192), np.random.default_rng(1)).astype(np.complex128)
    rng = np.random.default_rng(2)
    estimate = truth + 0.05 * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape))
    values = score(estimate, truth)
    for name, images in (("amplitude", metrics.amplitude_images), ("phase", metrics.phase_images)):
        image, reference = images(estimate, truth)
        tensors = [torch.from_numpy(x)[None, None] for x in (image, reference)]
        span = float(np.ptp(reference))
        assert values[f"ssim_{name}"] == pytest.approx(float(ssim(*tensors, data_range=span)), abs=1e-4)
        assert values[f"ms_ssim_{name}"] == pytest.approx(float(ms_ssim(*tensors, data_range=span)), abs=1e-4)
        assert values[f"psnr_{name}"] == pytest.approx(peak_signal_noise_ratio(reference, image, data_range=span))


def test_negative_contrast_counts_as_zero():
    reference = np.random.default_rng(0).normal(size=(64, 64))
    assert np.mean(ssim_maps(reference, -reference, np.ptp(reference))[1]) < 0
    assert metrics.ms_ssim(-reference, reference) == 0


@pytest.mark.parametrize(
    ("side", "levels"), [(11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (81, 4), (160, 4), (161, 5), (999, 5)]
)
def test_there_are_as_many_scales_as_fit(side, levels):
    assert ms_ssim_levels((side, 1000)) == ms_ssim_levels((1000, side)) == levels
    assert sum(ms_ssim_weights((side, 1000))) == pytest.approx(1)
    smallest = side
    for _ in range(levels - 1):
        smallest = (smallest + 1) // 2
    assert smallest >= 11


def test_ssim_and_ms_ssim_fall_with_noise(truth):
    rng = np.random.default_rng(0)
    grain = rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)
    rows = [score(truth + level * grain, truth) for level in (0.02, 0.06, 0.2)]
    for better, worse in pairwise(rows):
        for name in METRICS:
            sign = -1 if name.startswith(("mae", "rmse", "error")) else 1
            assert sign * worse[name] < sign * better[name] or name.startswith("frc50"), name
    assert rows[-1]["frc50_amplitude"] < rows[0]["frc50_amplitude"]


def test_a_flat_truth_has_no_range_to_score_against():
    truth = np.exp(1j * np.random.default_rng(0).normal(size=(32, 32)))
    values = score(truth * 1.1, truth)
    assert all(np.isnan(values[f"{kind}_amplitude"]) for kind in ("psnr", "ssim", "ms_ssim", "frc50"))
    assert values["mae_amplitude"] == pytest.approx(0.1)
    assert np.isfinite(values["ssim_phase"])


def test_deviance_has_its_closed_form():
    assert poisson_deviance([3.0], [3.0]) == 0
    assert poisson_deviance([0.0], [2.0]) == pytest.approx(4)
    assert poisson_deviance([4.0], [1.0]) == pytest.approx(2 * (1 - 4 + 4 * np.log(4)))
    assert poisson_deviance([4.0, 0.0], [1.0, 2.0]) == pytest.approx((2 * (1 - 4 + 4 * np.log(4)) + 4) / 2)


def test_deviance_is_finite_in_the_dark():
    assert poisson_deviance([0.0], [0.0]) == 0
    assert poisson_deviance([1.0], [0.0]) == pytest.approx(2 * (-1 + np.log(1e6)))


def test_deviance_is_about_one_and_lowest_at_the_true_mean():
    rng = np.random.default_rng(0)
    mean = np.full(40_000, 200.0)
    counts = rng.poisson(mean)
    best = poisson_deviance(counts, mean)
    assert best == pytest.approx(1, abs=0.03)
    assert poisson_deviance(counts, 1.03 * mean) > best + 0.1
    assert poisson_deviance(counts, 0.97 * mean) > best + 0.1
    dim = np.full(40_000, 0.01)
    assert poisson_deviance(rng.poisson(dim), dim) < 0.2


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_the_deviance_is_independent_of_the_block_size(size):
    rng = np.random.default_rng(0)
    mean = rng.exponential(5, size=(20, 8, 8))
    counts = rng.poisson(mean)
    blocks = ((counts[i : i + size], mean[i : i + size]) for i in range(0, 20, size))
    assert blockwise_deviance(blocks) == pytest.approx(poisson_deviance(counts, mean), rel=1e-12)


def test_bad_input_is_named(truth):
    with pytest.raises(ValueError, match=r"\(90, 121\)"):
        score(truth[1:], truth)
    with pytest.raises(ValueError, match="finite"):
        score(np.where(np.abs(truth) > 0.9, np.nan, truth), truth)
    with pytest.raises(ValueError, match="smaller than the window"):
        score(truth[:10], truth[:10])
    with pytest.raises(ValueError, match=r"\(2,\) predicted means"):
        poisson_deviance([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no deviance"):
        blockwise_deviance([])
