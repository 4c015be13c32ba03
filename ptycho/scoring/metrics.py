"""How far a reconstruction is from the truth, and how well it predicts patterns it has not seen.

The metrics of `METRICS` are functions of two complex arrays on the scored region from which
`ptycho.scoring.registration.align` has removed the gauge. docs/metrics.md has the formulas, data ranges, windows and
sources.
"""

from collections.abc import Callable

import numpy as np
from skimage.metrics import structural_similarity

from ptycho.backend import tensorflow
from ptycho.scoring.frc import frc, frc_crossing

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang, Simoncelli and Bovik 2003)."""

SSIM_WINDOW_PX = 11
"""Side of the Gaussian window of SSIM, σ = 1.5 px (Wang et al. 2004)."""


_FLAT = 1e-6  # data range over largest value: below, an image is constant to single precision


def amplitude_images(estimate, truth):
    """|estimate| and |truth|, float64."""
    return np.abs(_double(estimate)), np.abs(_double(truth))


def phase_images(estimate, truth):
    """Phases of both [rad], beside the truth's mean one, which is arbitrary and so decides nothing.

    The mean is that of Σ truth, weighted by amplitude. The estimate's phase is the truth's plus the wrapped difference:
    no wrap counts as error.
    """
    estimate, truth = _double(estimate), _double(truth)
    phase = np.angle(truth * np.exp(-1j * np.angle(np.sum(truth))))
    return phase + np.angle(estimate * truth.conj()), phase


def mae(image, truth) -> float:
    """Mean absolute error, in the images' unit."""
    return float(np.mean(np.abs(image - truth)))


def rmse(image, truth) -> float:
    """Root mean square error, in the images' unit."""
    return float(np.sqrt(np.mean((image - truth) ** 2)))


def psnr(image, truth) -> float:
    """20 log10(data range of the truth / rmse) [dB]: inf for equal images, NaN for a flat truth."""
    span, error = data_range(truth), rmse(image, truth)
    if not error and span:
        return float("inf")
    return float(20 * np.log10(span / error)) if span else float("nan")


def ssim(image, truth) -> float:
    """Mean structural similarity, Gaussian window of σ = 1.5 px, population covariance; NaN for a flat truth.

    Raises
    ------
    ValueError
        If a side is shorter than the window.
    """
    _check_side(truth.shape)
    if not (span := data_range(truth)):
        return float("nan")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(truth, image, data_range=span, **options))


def ms_ssim_levels(shape) -> int:
    """Scales of MS-SSIM that fit an image: the coarsest still has a side of one window (5 from 161 px on)."""
    _check_side(shape)
    halvings = np.arange(len(MS_SSIM_WEIGHTS))
    return int(np.sum((min(shape) - 1) >> halvings >= SSIM_WINDOW_PX - 1))


def ms_ssim_weights(shape) -> tuple[float, ...]:
    """Exponents of the scales that fit, divided by their sum."""
    weights = np.array(MS_SSIM_WEIGHTS[: ms_ssim_levels(shape)])
    return tuple((weights / weights.sum()).tolist())


def ms_ssim(image, truth) -> float:
    """Multi-scale structural similarity, negative contrast terms clamped to 0; NaN for a flat truth.

    TensorFlow's, in single precision. Raises ValueError if a side is shorter than the window.
    """
    weights = ms_ssim_weights(truth.shape)
    if not (span := data_range(truth)):
        return float("nan")
    tf = tensorflow()

    images = (tf.constant(x[None, :, :, None], tf.float32) for x in (image, truth))
    return float(tf.image.ssim_multiscale(*images, max_val=span, power_factors=weights, filter_size=SSIM_WINDOW_PX)[0])


def frc50(image, truth) -> float:
    """First crossing of FRC = 0.5, as a fraction of Nyquist; 1.0 if it never falls below, NaN for a flat truth."""
    return frc_crossing(*frc(image, truth)) if data_range(truth) else float("nan")


def error(estimate, truth) -> float:
    """Relative complex error ‖estimate - truth‖ / ‖truth‖."""
    return float(np.linalg.norm(_double(estimate) - truth) / np.linalg.norm(_double(truth)))


def data_range(truth) -> float:
    """Largest minus smallest value of the truth; 0 if that is rounding."""
    span = float(truth.max() - truth.min())
    return span if span > _FLAT * np.abs(truth).max() else 0.0


def _of(images: Callable, metric: Callable) -> Callable:
    def measure(estimate, truth) -> float:
        return metric(*images(estimate, truth))

    measure.__doc__ = metric.__doc__
    return measure


METRICS: dict[str, Callable] = {
    f"{metric.__name__}_{name}": _of(images, metric)
    for name, images in (("amplitude", amplitude_images), ("phase", phase_images))
    for metric in (mae, rmse, psnr, ssim, ms_ssim, frc50)
} | {"error": error}
"""Name -> function of (estimate, truth), complex (h, w) arrays without gauge."""


def score(estimate, truth) -> dict[str, float]:
    """Compute every metric.

    Parameters
    ----------
    estimate, truth : (h, w) complex
        What `ptycho.scoring.registration.align` returns, and the truth on the same region; sides of at least 11 px.

    Returns
    -------
    dict
        A value for each key of `METRICS`; NaN where the truth is flat and the metric has no meaning.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or a side is shorter than the window of SSIM.
    """
    if np.ndim(truth) != 2 or np.shape(estimate) != np.shape(truth):
        raise ValueError(f"estimate {np.shape(estimate)} and truth {np.shape(truth)}; wanted the same (h, w)")
    if not (np.isfinite(estimate).all() and np.isfinite(truth).all()):
        raise ValueError("estimate and truth must be finite to be scored")
    return {name: metric(estimate, truth) for name, metric in METRICS.items()}


def _double(image):
    return np.asarray(image, np.complex128)


def _check_side(shape) -> None:
    if min(shape) < SSIM_WINDOW_PX:
        raise ValueError(
            f"an image of {shape[0]} × {shape[1]} px is smaller than the window of SSIM, {SSIM_WINDOW_PX} px"
        )
