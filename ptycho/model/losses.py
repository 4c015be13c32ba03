"""What is minimised: the Poisson likelihood of counts (PINN), the probe-weighted distance to the truth (Baseline)."""

import keras
import numpy as np
import tensorflow as tf

from ptycho.model.layers import PACKAGE

FLOOR = 1.0e-6
"""Smallest mean count [photon]."""


@keras.saving.register_keras_serializable(package=PACKAGE)
class PoissonDeviance(keras.losses.Loss):
    """2 (I - y + y log(y / I)) per pixel, y = amplitude² counts: the Poisson likelihood up to a constant.

    In this form float32 keeps the small differences (McCullagh & Nelder, Generalized Linear Models, 1989, §2.3).
    """

    def call(self, amplitude, intensity):
        counts = tf.square(amplitude)
        intensity = tf.maximum(intensity, FLOOR)
        return 2 * tf.reduce_mean(
            intensity - counts + counts * tf.math.log(tf.maximum(counts, FLOOR) / intensity), axis=-1
        )


@keras.saving.register_keras_serializable(package=PACKAGE)
class ComplexDistance(keras.losses.Loss):
    """|O - T| of complex patches, weighted by the probe's intensity: only what was lit is asked for.

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
