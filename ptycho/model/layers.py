"""The Keras layer of PINN and Baseline: a choice among estimates, pixel by pixel."""

import keras
import tensorflow as tf

PACKAGE = "ptycho"
"""Name under which saved models refer to these classes."""

FIRST_LOGIT = 3.0
"""Added to the logit of the first estimate: before a training, the network almost returns it."""


@keras.saving.register_keras_serializable(package=PACKAGE)
class Blend(keras.layers.Layer):
    """Blend estimates pixel by pixel, and add a correction.

    Parameters
    ----------
    estimates : int
        E, number of estimates: the first 2 E channels of the features, real and imaginary part of each.
    """

    def __init__(self, estimates: int, **kwargs):
        super().__init__(**kwargs)
        self.estimates = estimates

    def call(self, features: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Take (1, H, W, K) features and (1, H, W, 2 + E + 1) outputs, return (1, H, W, 2): real and imaginary part.

        The outputs are a correction and a logit for each estimate and for zero, whose softmax weights them.
        """
        start = tf.constant([FIRST_LOGIT] + [0.0] * self.estimates)
        weights = tf.nn.softmax(output[..., 2:] + start, axis=-1)
        shape = tf.concat([tf.shape(features)[:3], [self.estimates, 2]], axis=0)
        estimates = tf.reshape(features[..., : 2 * self.estimates], shape)
        return output[..., :2] + tf.reduce_sum(weights[..., : self.estimates, None] * estimates, axis=-2)

    def get_config(self):
        return {**super().get_config(), "estimates": self.estimates}
