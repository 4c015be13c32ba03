"""Distance of a reconstruction from the truth: pixel errors, structural similarity, resolution.

The metrics in `METRICS` take two complex arrays on the scored region, from which `ptycho.scoring.registration.align`
has removed the gauge. In a measured study a reference reconstruction stands in for the truth. Formulas, data ranges,
windows and sources are in docs/reference/metrics.md.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.metrics import structural_similarity

from ptycho.backend import tensorflow
from ptycho.scoring.frc import frc, frc_crossing

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang, Simoncelli and Bovik 2003)."""

SSIM_WINDOW_PX = 11
"""Side of SSIM's Gaussian window, σ = 1.5 px (Wang et al. 2004)."""

_FLAT = 1e-6  # data range / largest value; an image below is constant to single precision


def amplitude_images(estimate: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """|estimate| and |truth| of two (h, w) complex arrays, both (h, w) float64."""
    return np.abs(_double(estimate)), np.abs(_double(truth))


def phase_images(estimate: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Phases of two (h, w) complex arrays relative to the truth's mean phase, both (h, w) float64 [rad].

    The mean phase, arg Σ truth, is arbitrary and must not affect a metric. The estimate's phase is the truth's plus
    the wrapped difference, so that a phase wrap does not count as an error.
    """
    estimate, truth = _double(estimate), _double(truth)
    phase = np.angle(truth * np.exp(-1j * np.angle(np.sum(truth))))
    return phase + np.angle(estimate * truth.conj()), phase


PARTS = {"amplitude": amplitude_images, "phase": phase_images}
"""Part of a complex object -> function of (estimate, truth) that returns the two images of that part."""


def mae(image: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Mean absolute error of two (h, w) images, in their unit."""
    return float(np.mean(np.abs(image - truth)))


def rmse(image: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Root-mean-square error of two (h, w) images, in their unit."""
    return float(np.sqrt(np.mean((image - truth) ** 2)))


def psnr(image: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Peak signal-to-noise ratio, 20 log10(data range of the truth / rmse) [dB].

    Infinite for equal images, NaN for a flat truth.
    """
    span, deviation = data_range(truth), rmse(image, truth)
    if not deviation and span:
        return float("inf")
    return float(20 * np.log10(span / deviation)) if span else float("nan")


def ssim(image: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Mean structural similarity of two (h, w) images: Gaussian window, population covariance; NaN for a flat truth.

    Raises
    ------
    ValueError
        If a side is shorter than the window.

    Notes
    -----
    Wang et al., IEEE Trans. Image Process. 13, 600 (2004), as implemented by scikit-image.
    """
    _check_side(truth.shape)
    if not (span := data_range(truth)):
        return float("nan")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(truth, image, data_range=span, **options))


def ms_ssim_levels(shape: tuple[int, ...]) -> int:
    """Number of MS-SSIM scales that fit an image of (rows, columns); five from 161 px on.

    Every side of the coarsest scale is at least one window long.

    Raises
    ------
    ValueError
        If a side is shorter than the window.
    """
    _check_side(shape)
    halvings = np.arange(len(MS_SSIM_WEIGHTS))
    return int(np.sum((min(shape) - 1) >> halvings >= SSIM_WINDOW_PX - 1))


def ms_ssim_weights(shape: tuple[int, ...]) -> tuple[float, ...]:
    """Exponents of the scales that fit an image of (rows, columns), normalized to a sum of 1.

    Raises
    ------
    ValueError
        If a side is shorter than the window.
    """
    weights = np.array(MS_SSIM_WEIGHTS[: ms_ssim_levels(shape)])
    return tuple((weights / weights.sum()).tolist())


def ms_ssim(image: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Multi-scale structural similarity of two (h, w) images, in single precision; NaN for a flat truth.

    Negative contrast terms are clamped to 0.

    Raises
    ------
    ValueError
        If a side is shorter than the window.

    Notes
    -----
    Wang, Simoncelli and Bovik, Asilomar Conf. Signals, Systems and Computers, 1398 (2003), as implemented by
    TensorFlow.
    """
    weights = ms_ssim_weights(truth.shape)
    if not (span := data_range(truth)):
        return float("nan")
    tf = tensorflow()

    images = (tf.constant(x[None, :, :, None], tf.float32) for x in (image, truth))
    return float(tf.image.ssim_multiscale(*images, max_val=span, power_factors=weights, filter_size=SSIM_WINDOW_PX)[0])


def frc50(image: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Frequency at which the FRC of two (h, w) images first falls below `TRUTH_THRESHOLD`, as a fraction of Nyquist.

    1.0 if it never does, NaN for a flat truth.
    """
    return frc_crossing(*frc(image, truth)) if data_range(truth) else float("nan")


def error(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Relative complex error ‖estimate - truth‖ / ‖truth‖ of two (h, w) complex arrays."""
    return float(np.linalg.norm(_double(estimate) - _double(truth)) / np.linalg.norm(_double(truth)))


def data_range(truth: NDArray[np.floating]) -> float:
    """Largest minus smallest value of an (h, w) image; 0 if the difference is rounding error."""
    span = float(truth.max() - truth.min())
    return span if span > _FLAT * np.abs(truth).max() else 0.0


ObjectMetric = Callable[[ArrayLike, ArrayLike], float]
"""Function of (estimate, truth), both (h, w) complex without gauge."""


def _of_part(images: Callable, metric: Callable) -> ObjectMetric:
    """Metric of complex objects from a metric of real images."""

    def measure(estimate: ArrayLike, truth: ArrayLike) -> float:
        return metric(*images(estimate, truth))

    measure.__doc__ = metric.__doc__
    return measure


METRICS: dict[str, ObjectMetric] = {
    f"{metric.__name__}_{part}": _of_part(images, metric)
    for part, images in PARTS.items()
    for metric in (mae, rmse, psnr, ssim, ms_ssim, frc50)
} | {"error": error}
"""Name -> function of (estimate, truth), both (h, w) complex without gauge."""


def score(estimate: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Compute every metric.

    Parameters
    ----------
    estimate, truth : (h, w) complex
        What `ptycho.scoring.registration.align` returns, and the truth on the same region; sides of at least 11 px.

    Returns
    -------
    dict
        One value per key of `METRICS`; NaN where the truth is flat and the metric is undefined.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or a side is shorter than SSIM's window.
    """
    if np.ndim(truth) != 2 or np.shape(estimate) != np.shape(truth):
        raise ValueError(f"estimate {np.shape(estimate)} and truth {np.shape(truth)}; wanted the same (h, w)")
    if not (np.isfinite(estimate).all() and np.isfinite(truth).all()):
        raise ValueError("estimate and truth must be finite to be scored")
    return {name: metric(estimate, truth) for name, metric in METRICS.items()}


def _double(image: ArrayLike) -> NDArray[np.complex128]:
    return np.asarray(image, np.complex128)


def _check_side(shape: tuple[int, ...]) -> None:
    if min(shape) < SSIM_WINDOW_PX:
        raise ValueError(
            f"an image of {shape[0]} × {shape[1]} px is smaller than the window of SSIM, {SSIM_WINDOW_PX} px"
        )
