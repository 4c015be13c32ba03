"""Adam as one operation a variable: the same numbers as Keras', and a graph that is built in half the time."""

from collections.abc import Callable

import keras
import tensorflow as tf

from ptycho.model.layers import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam (Kingma and Ba, ICLR 2015) by TensorFlow's own kernel instead of a dozen operations a variable."""

    def update_step(self, gradient, variable, learning_rate):
        """Change a variable and its two moments."""
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
    """Return Adam's rate as a function of the step: it falls to a fiftieth along a cosine.

    Loshchilov and Hutter, ICLR 2017, without restarts. The rate is set before every step and multiplied by what early
    stopping halves it by: an optimizer that holds a schedule refuses a new rate.

    Parameters
    ----------
    learning_rate : float
        At the start.
    steps : int
        Of the whole training.
    """
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps, alpha=0.02)
    return lambda step: float(schedule(step))


def compile_model(model: keras.Model, loss: keras.Loss, learning_rate: float) -> None:
    """Make a model ready to fit. Adam's variables are made at once, or the first step would be traced twice."""
    model.compile(optimizer=FusedAdam(learning_rate), loss=loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
