"""The networks: patterns of a group in, amplitude and phase of its patches out. Both methods use the same one."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from ptycho.model.layers import ComplexPatches, Detector, Scale, SharedCanvas

SIZES = (64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class Network:
    """Shape of a network."""

    filters: int
    """Features at full resolution; they double with every level."""
    amplitude_max: float
    """Largest amplitude it can say."""


def build_network(n: int, channels: int, options: Network, scale: float) -> keras.Model:
    """Build an encoder with two decoders, joined level by level.

    Parameters
    ----------
    n : int
        Side of the patterns [px]: 64, 128 or 256; every doubling adds a level.
    channels : int
        C, patterns in a group.
    scale : float
        Factor on the amplitudes, from the training data.

    Returns
    -------
    keras.Model
        (B, n, n, C) float32 amplitudes to (B, n, n, 2C) float32: amplitude, then phase [rad].

    Raises
    ------
    ValueError
        If n is none of the sizes.
    """
    if n not in SIZES:
        raise ValueError(f"patterns of {n} px; wanted one of {SIZES}")
    levels = 3 + SIZES.index(n)
    inputs = keras.Input((n, n, channels), name="diffraction")
    x = Scale(scale, name="scale")(inputs)
    skips = []
    for level in range(levels):
        width = options.filters * 2 ** min(level, 2)
        x = _block(x, width, 1 if level == 0 else 2)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = _block(x, options.filters * 4, 2)
    amplitude = _decoder(x, skips, channels, options)
    phase = _decoder(x, skips, channels, options)
    amplitude = layers.Rescaling(options.amplitude_max, name="amplitude")(layers.Activation("sigmoid")(amplitude))
    phase = layers.Rescaling(float(np.pi), name="phase")(layers.Activation("tanh")(phase))
    return keras.Model(inputs, layers.Concatenate(name="patches")([amplitude, phase]), name="network")


def _block(x, width: int, convolutions: int):
    for _ in range(convolutions):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    return x


def _decoder(x, skips, channels: int, options: Network):
    for level, skip in reversed(list(enumerate(skips))):
        width = options.filters * 2 ** min(level, 2)
        x = layers.Concatenate()([layers.UpSampling2D()(x), skip])
        x = _block(x, width, 1)
    return layers.Conv2D(channels, 3, padding="same", kernel_initializer=keras.initializers.RandomNormal(stddev=0.01))(x)


def build_pinn(network: keras.Model, probe, spread: int, *, trainable_probe: bool) -> keras.Model:
    """Put the forward model behind a network: amplitudes and positions in, mean counts out. No truth takes part.

    Parameters
    ----------
    probe : (n, n) complex
        Illumination [sqrt(photon)].
    spread : int
        Largest extent of a group's positions [px].

    Returns
    -------
    keras.Model
        {"diffraction": (B, n, n, C), "positions": (B, 1, 2, C)} to (B, n, n, C) mean counts.
    """
    n, channels = network.input_shape[1], network.input_shape[-1]
    diffraction = keras.Input((n, n, channels), name="diffraction")
    positions = keras.Input((1, 2, channels), name="positions")
    canvas = SharedCanvas(n, spread, name="canvas")
    detector = Detector(n, trainable_probe, name="detector")
    canvas.set_probe(probe)
    detector.set_probe(probe)
    patches = canvas(ComplexPatches(name="complex")(network(diffraction)), positions)
    return keras.Model({"diffraction": diffraction, "positions": positions}, detector(patches, positions), name="pinn")
