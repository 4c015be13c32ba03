"""Losses of a canvas as TensorFlow graphs: of photon counts (without truth), and of the true object."""

import tensorflow as tf

from ptycho.reconstruction.likelihood import BACKGROUND


def pixel_deviance(counts: tf.Tensor, intensity: tf.Tensor, floor: float) -> tf.Tensor:
    """Poisson deviance per pixel, twin of the terms of `ptycho.physics.noise.poisson_deviance`.

    Written as 2 (I - y + y log(max(y, floor) / I)), it keeps small differences in float32 (McCullagh and Nelder,
    Generalized Linear Models, 1989, §2.3).

    Parameters
    ----------
    counts : (...) float32 tensor
        y, photons counted.
    intensity : (...) float32 tensor
        I > 0, photons predicted.
    floor : float
        Smallest y in the logarithm [photon].

    Returns
    -------
    (...) float32 tensor
        Deviance of each pixel.
    """
    return 2 * (intensity - counts + counts * tf.math.log(tf.maximum(counts, floor) / intensity))


def with_shifted_probes(probe: tf.Tensor, ramps: tf.Tensor, **target: tf.Tensor) -> dict[str, tf.Tensor]:
    """Shift a probe to exposures: return arguments of a loss, a differentiable function of the probe.

    Parameters
    ----------
    probe : (modes, n, n) complex64
        Probe, sample-centered [sqrt(photon)].
    ramps : (m, 1, n, n) complex64
        What multiplies its spectrum: the ramps of `Likelihood.ramps`, times the root of each exposure's flux.
    **target
        Other arguments of the loss.
    """
    return {**target, "probes": tf.signal.ifft2d(tf.signal.fft2d(probe) * ramps)}


def canvas_deviance(
    canvas: tf.Tensor,
    top: tf.Tensor,
    left: tf.Tensor,
    frames: tf.Tensor,
    probes: tf.Tensor,
    detector: tf.Tensor | None = None,
) -> tf.Tensor:
    """Mean Poisson deviance per valid pixel of exposures of a canvas: `Likelihood` as a TensorFlow graph.

    Parameters
    ----------
    canvas : (H, W) complex64
        Object.
    top, left : (m,) int32
        First row and column of each window on the canvas.
    frames : (m, n, n) float32
        Counts, zero frequency first, 0 in bad pixels [photon].
    probes : (m, modes, n, n) complex64
        Shifted probes, with the flux of their exposures, sample-centered [sqrt(photon)].
    detector : (2, n, n) float32, optional
        1 in valid and 0 in bad pixels; background [photon]; zero frequency first. Default: every pixel is valid,
        without background.

    Returns
    -------
    () float32
        Mean deviance.
    """
    intensity = _canvas_intensity(canvas, top, left, probes, detector)
    return _valid_mean(pixel_deviance(frames, intensity, BACKGROUND), detector)


def _valid_mean(values: tf.Tensor, detector: tf.Tensor | None) -> tf.Tensor:
    """Return the mean of (m, n, n) values over valid pixels."""
    if detector is None:
        return tf.reduce_mean(values)
    valid = detector[0]
    return tf.reduce_sum(valid * values) / (tf.cast(tf.shape(values)[0], tf.float32) * tf.reduce_sum(valid))


def _canvas_intensity(
    canvas: tf.Tensor, top: tf.Tensor, left: tf.Tensor, probes: tf.Tensor, detector: tf.Tensor | None
) -> tf.Tensor:
    """Predict the counts of exposures, all modes together, plus `BACKGROUND` and the detector's, (m, n, n)."""
    n = tf.shape(probes)[-1]
    span = tf.range(n)
    rows, columns = top[:, None] + span, left[:, None] + span
    windows = tf.gather(tf.reshape(canvas, [-1]), rows[:, :, None] * tf.shape(canvas)[1] + columns[:, None, :])
    waves = tf.signal.fft2d(windows[:, None] * probes) / tf.cast(n, tf.complex64)
    intensity = tf.reduce_sum(tf.math.real(waves) ** 2 + tf.math.imag(waves) ** 2, axis=1) + BACKGROUND
    return intensity if detector is None else intensity + detector[1]


def canvas_amplitude_error(
    canvas: tf.Tensor, frames: tf.Tensor, detector: tf.Tensor | None = None, **windows: tf.Tensor
) -> tf.Tensor:
    """Mean absolute error of the predicted amplitudes [sqrt(photon)]; parameters as for `canvas_deviance`, by name."""
    intensity = _canvas_intensity(canvas, detector=detector, **windows)
    return _valid_mean(tf.abs(tf.sqrt(intensity) - tf.sqrt(frames)), detector)


def canvas_distance(canvas: tf.Tensor, truth: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Weighted mean of |O - T|²: what teaches a supervised network.

    Parameters
    ----------
    canvas, truth : (H, W) complex64
        Object, and what it should be.
    weight : (H, W) float32
        Weight of each pixel.

    Returns
    -------
    () float32
        Σ w |O - T|² / Σ w.
    """
    difference = canvas - truth
    square = tf.math.real(difference) ** 2 + tf.math.imag(difference) ** 2
    return tf.reduce_sum(weight * square) / tf.reduce_sum(weight)
