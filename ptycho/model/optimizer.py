"""Adam as one operation per variable: Keras' numbers, and a graph that is built in half the time."""

from collections.abc import Callable

import keras
import tensorflow as tf

from ptycho.model.layers import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class FusedAdam(keras.optimizers.Adam):
    """Adam (Kingma and Ba, ICLR 2015) with one TensorFlow kernel per variable instead of Keras' dozen operations."""

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Update a variable and its two moments."""
        index = self._get_variable_index(variable)
        step = tf.cast(tf.convert_to_tensor(self.iterations) + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def cosine_rate(learning_rate: float, steps: int) -> Callable[[int], float]:
    """Return Adam's learning rate as a function of the step: it falls to a fiftieth along a cosine.

    Loshchilov and Hutter, ICLR 2017, without restarts. The caller sets the rate before every step, as early stopping
    halves it: Keras does not let the rate of a schedule be changed.

    Parameters
    ----------
    learning_rate : float
        Rate at the start.
    steps : int
        Number of steps of the whole training.
    """
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps, alpha=0.02)
    return lambda step: float(schedule(step))
