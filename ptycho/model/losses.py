"""What is minimized: the Poisson likelihood of counts (PINN), the probe-weighted distance to the truth (Baseline)."""

import keras
import numpy as np
import tensorflow as tf

from ptycho.model.layers import PACKAGE

FLOOR = 1.0e-6
"""Smallest mean count [photon]."""


def poisson_deviance(counts: tf.Tensor, intensity: tf.Tensor, floor: float) -> tf.Tensor:
    """Poisson deviance of every pixel, 2 (I - y + y log(max(y, floor) / I)): the twin of `ptycho.physics.noise`'s.

    In this form float32 keeps the small differences (McCullagh and Nelder, Generalized Linear Models, 1989, §2.3).

    Parameters
    ----------
    counts : (...) float32 tensor
        y, photons counted.
    intensity : (...) float32 tensor
        I > 0, photons predicted.
    floor : float
        Smallest y that the logarithm sees [photon].
    """
    return 2 * (intensity - counts + counts * tf.math.log(tf.maximum(counts, floor) / intensity))


@keras.saving.register_keras_serializable(package=PACKAGE)
class PoissonDeviance(keras.losses.Loss):
    """Poisson deviance of amplitude² counts, mean over the last axis: their likelihood up to a constant."""

    def call(self, amplitude, intensity):
        return tf.reduce_mean(poisson_deviance(tf.square(amplitude), tf.maximum(intensity, FLOOR), FLOOR), axis=-1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class ComplexDistance(keras.losses.Loss):
    """|O - T| of complex patches, weighted by the probe's intensity: only illuminated pixels count.

    Parameters
    ----------
    weight : (N, N) nested lists of float
        Mean one.
    """

    def __init__(self, weight, name="complex_distance", **kwargs):
        super().__init__(name=name, **kwargs)
        self.weight = np.asarray(weight, np.float32)

    def call(self, target, output):
        (a, p), (b, q) = tf.split(target, 2, axis=-1), tf.split(output, 2, axis=-1)
        square = tf.square(a - b) + 4 * a * b * tf.square(tf.sin((p - q) / 2))
        return tf.reduce_mean(tf.sqrt(square + 1.0e-6) * self.weight[..., None], axis=-1)

    def get_config(self):
        return {**super().get_config(), "weight": self.weight.tolist()}
