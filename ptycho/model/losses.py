"""Losses: Poisson likelihood of counts (PINN), probe-weighted distance to the truth (Baseline)."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from ptycho.model.layers import PACKAGE

FLOOR = 1.0e-6
"""Smallest mean count in the loss [photon]."""


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


@keras.saving.register_keras_serializable(package=PACKAGE)
class PoissonDeviance(keras.losses.Loss):
    """Mean over the last axis of the Poisson deviance of amplitude² counts: their likelihood up to a constant."""

    def call(self, amplitude: tf.Tensor, intensity: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(pixel_deviance(tf.square(amplitude), tf.maximum(intensity, FLOOR), FLOOR), axis=-1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class ComplexDistance(keras.losses.Loss):
    """|O - T| of complex patches, weighted by the probe's intensity: only illuminated pixels count.

    Parameters
    ----------
    weight : (N, N) nested lists of float
        Intensity of the probe, divided by its mean.
    """

    def __init__(self, weight: ArrayLike, name: str = "complex_distance", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.weight = np.asarray(weight, np.float32)

    def call(self, target: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        (a, p), (b, q) = tf.split(target, 2, axis=-1), tf.split(output, 2, axis=-1)
        square = tf.square(a - b) + 4 * a * b * tf.square(tf.sin((p - q) / 2))
        return tf.reduce_mean(tf.sqrt(square + 1.0e-6) * self.weight[..., None], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight.tolist()}
