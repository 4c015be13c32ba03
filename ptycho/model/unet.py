"""A residual U-Net over a canvas of any size: what it sees, and what is added to the canvas."""

from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

LEVELS = 3
"""Resolutions of the U-Net, each half of the one before."""
MULTIPLE = 2 ** (LEVELS - 1)
"""The sides of the U-Net's input are multiples of this [px]."""


def unet_output(inputs: keras.KerasTensor, filters: int, channels: int) -> keras.KerasTensor:
    """Apply a U-Net to features.

    Parameters
    ----------
    inputs : (B, H, W, K) tensor
        Features; H and W are multiples of `MULTIPLE`.
    filters : int
        Features at full resolution; two and three times as many at the lower ones.
    channels : int
        Channels of the output.

    Returns
    -------
    (B, H, W, channels) tensor
        Output; almost zero before a training.
    """

    def convolve(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="leaky_relu", kernel_initializer="he_normal")(x)
        return x

    widths = [filters * (level + 1) for level in range(LEVELS)]
    x, levels = inputs, []
    for width in widths[:-1]:
        levels.append(convolve(x, width))
        x = layers.AveragePooling2D(2)(levels[-1])
    x = convolve(x, widths[-1])
    for level, width in zip(reversed(levels), reversed(widths[:-1]), strict=True):
        x = convolve(layers.Concatenate()([layers.UpSampling2D()(x), level]), width)
    small = keras.initializers.RandomNormal(stddev=1.0e-3)
    return layers.Conv2D(channels, 3, padding="same", kernel_initializer=small)(x)


def build_unet(channels: int, filters: int, name: str) -> keras.Model:
    """Build a residual U-Net over a canvas of any size.

    Parameters
    ----------
    channels : int
        Number of input features.
    filters : int
        Features at full resolution, see `unet_output`.
    name : str
        Name of the model.

    Returns
    -------
    keras.Model
        (1, H, W, channels) features to a correction, (1, H, W, 2): real and imaginary part.
    """
    inputs = keras.Input((None, None, channels))
    return keras.Model(inputs, unet_output(inputs, filters, 2), name=name)


def padded(array: NDArray[Any]) -> NDArray[Any]:
    """Extend both sides to multiples of `MULTIPLE` by repeating the last row and column."""
    sides = [(0, -size % MULTIPLE) for size in array.shape[:2]]
    return np.pad(array, sides + [(0, 0)] * (array.ndim - 2), mode="edge")


def correct(network: keras.Model, start: NDArray[np.complex64], features: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Add a network's output to a canvas.

    Parameters
    ----------
    network : keras.Model
        Network, see `build_unet`.
    start : (H, W) complex64
        Canvas.
    features : (H, W, K) float32
        Input of the network.

    Returns
    -------
    (H, W) complex64
        Corrected canvas.
    """
    output = network(padded(features)[None], training=False).numpy()[0, : start.shape[0], : start.shape[1]]
    return start + (output[..., 0] + 1j * output[..., 1]).astype(np.complex64)
