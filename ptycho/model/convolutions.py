"""Convolution of the decoders: that of an upsampled image and a fine one, with fewer multiplications."""

import keras
import tensorflow as tf

from ptycho.model.layers import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class UpConvolution(keras.layers.Layer):
    """3 × 3 convolution of an upsampled coarse image concatenated with a fine one.

    The result is that of `UpSampling2D`, `Concatenate` and a `Conv2D` with the same kernel. Upsampling repeats every
    pixel, so that three taps along an axis see only two values: the upsampled part is one transposed convolution with
    four taps per axis and stride two, 16 instead of 36 products for each coarse pixel and pair of features.

    Parameters
    ----------
    filters : int
        Number of output features.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, shapes):
        coarse, fine = (shape[-1] for shape in shapes)
        shape = (3, 3, coarse + fine, self.filters)
        self.kernel = self.add_weight(shape=shape, initializer="he_normal", name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, inputs):
        """Take (B, h, w, c) and (B, 2h, 2w, d) float32, return (B, 2h, 2w, filters) after a leaky ReLU."""
        coarse, fine = inputs
        kernel = tf.convert_to_tensor(self.kernel)
        split = coarse.shape[-1]
        shape = tf.concat([tf.shape(fine)[:-1], [self.filters]], 0)
        total = tf.nn.conv2d_transpose(coarse, _doubled(kernel[:, :, :split]), shape, 2, "SAME")
        total += tf.nn.conv2d(fine, kernel[:, :, split:], 1, "SAME")
        return tf.nn.leaky_relu(tf.nn.bias_add(total, tf.convert_to_tensor(self.bias)), 0.2)

    def compute_output_shape(self, shapes):
        return (*shapes[1][:-1], self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def _doubled(kernel):
    """Return the (4, 4, f, c) kernel of the transposed convolution for a (3, 3, c, f) kernel over doubled pixels."""
    kernel = tf.transpose(tf.reverse(kernel, (0, 1)), (0, 1, 3, 2))
    rows = tf.pad(kernel, [[0, 1], [0, 0], [0, 0], [0, 0]]) + tf.pad(kernel, [[1, 0], [0, 0], [0, 0], [0, 0]])
    return tf.pad(rows, [[0, 0], [0, 1], [0, 0], [0, 0]]) + tf.pad(rows, [[0, 0], [1, 0], [0, 0], [0, 0]])


def count_flops(network: keras.Model, *, folded: bool = False) -> int:
    """Floating-point operations of a network's convolutions for one pattern: 2 k² Cin Cout H W each.

    Parameters
    ----------
    network : keras.Model
        Network with known input shape.
    folded : bool
        Count the products of an `UpConvolution`; default: those of the convolution that it replaces.
    """
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D | UpConvolution):
            height, width = layer.output.shape[1:3]
            taps, features = 9, layer.kernel.shape[2]
            if isinstance(layer, UpConvolution) and folded:
                coarse = layer.input[0].shape[-1]
                taps, features = 1, 4 * coarse + 9 * (features - coarse)  # four taps reach a fine pixel
            total += 2 * taps * features * layer.filters * height * width
    return total
