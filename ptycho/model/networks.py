"""Network of PINN and Baseline, from the patterns of a group to amplitude and phase, and the models that train it."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from ptycho.model.convolutions import UpConvolution
from ptycho.model.layers import ComplexPatches, Detector, GroupCanvas, InverseDiffraction, Regroup

SIZES = (64, 128, 256)
"""Sides of the patterns [px] for which a network can be built."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Architecture of a network."""

    filters: int
    """Features at full resolution; twice as many at the next level, four times as many at the others."""
    amplitude_max: float
    """Largest amplitude of the output."""


def build_network(
    n: int, channels: int, probe: NDArray[np.complexfloating], options: NetworkOptions, *, transmittance: float
) -> keras.Model:
    """Build a network that applies the same weights to every pattern of a group.

    `InverseDiffraction` brings a pattern to the sample plane. An encoder with two decoders, joined level by level,
    turns that first estimate into amplitude and phase.

    Parameters
    ----------
    n : int
        Side of the patterns [px], one of `SIZES`; every doubling adds a level.
    channels : int
        C, patterns in a group.
    probe : (n, n) complex
        Illumination [sqrt(photon)].
    options : NetworkOptions
        Features and largest amplitude.
    transmittance : float
        Mean amplitude transmittance of the training data: the normalization, which is saved with the model.

    Returns
    -------
    keras.Model
        (B, n, n, C) float32 amplitudes to (B, n, n, 2C) float32: C amplitudes, then C phases [rad].

    Raises
    ------
    ValueError
        If n is not one of `SIZES`.
    """
    if n not in SIZES:
        raise ValueError(f"patterns of {n} px; wanted one of {SIZES}")
    widths = [options.filters * 2 ** min(level, 2) for level in range(3 + SIZES.index(n))]
    inputs = keras.Input((n, n, channels), name="diffraction")
    first_estimate = InverseDiffraction(n, transmittance, name="inverse_diffraction")
    x = first_estimate(inputs)
    first_estimate.set_probe(probe)
    levels = []
    for level, width in enumerate(widths):
        x = _convolve(x, width, 1 if level == 0 else 2)
        levels.append(x)
        x = layers.MaxPooling2D()(x)
    x = _convolve(x, widths[-1], 2)
    amplitude = layers.Activation("sigmoid")(_decode(x, levels, widths))
    phase = layers.Activation("tanh")(_decode(x, levels, widths))
    amplitude = layers.Rescaling(options.amplitude_max, name="amplitude")(Regroup(n, channels)(amplitude))
    phase = layers.Rescaling(float(np.pi), name="phase")(Regroup(n, channels)(phase))
    return keras.Model(inputs, layers.Concatenate(name="patches")([amplitude, phase]), name="network")


def _convolve(x: keras.KerasTensor, width: int, times: int) -> keras.KerasTensor:
    options = {"padding": "same", "activation": "leaky_relu", "kernel_initializer": "he_normal"}
    for _ in range(times):
        x = layers.Conv2D(width, 3, **options)(x)
    return x


def _decode(x: keras.KerasTensor, levels: list[keras.KerasTensor], widths: list[int]) -> keras.KerasTensor:
    for level, width in zip(reversed(levels), reversed(widths), strict=True):
        x = UpConvolution(width)([x, level])
    small = keras.initializers.RandomNormal(stddev=0.01)
    return layers.Conv2D(1, 3, padding="same", kernel_initializer=small)(x)


def build_pinn(
    network: keras.Model, probe: NDArray[np.complexfloating], max_spread_px: int, *, trainable_probe: bool
) -> keras.Model:
    """Append the forward model to a network: amplitudes and positions in, mean counts out; no truth is used.

    Parameters
    ----------
    network : keras.Model
        Patterns to patches, see `build_network`.
    probe : (n, n) complex
        Illumination [sqrt(photon)].
    max_spread_px : int
        Largest extent of a group's positions along an axis [px].
    trainable_probe : bool
        Refine the probe while training.

    Returns
    -------
    keras.Model
        {"diffraction": (B, n, n, C), "positions": (B, 1, 2, C)} to (B, n, n, C) mean counts.
    """
    n, channels = network.input_shape[1], network.input_shape[-1]
    inputs = container_inputs(n, channels)
    canvas = GroupCanvas(n, max_spread_px, name="canvas")
    detector = Detector(n, trainable_probe, name="detector")
    patches = canvas(ComplexPatches(name="complex")(network(inputs["diffraction"])), inputs["positions"])
    model = keras.Model(inputs, detector(patches, inputs["positions"]), name="pinn")
    canvas.set_probe(probe)
    detector.set_probe(probe)
    return model


def build_baseline(network: keras.Model) -> keras.Model:
    """Give a network the inputs of a container's stream, of which it uses the patterns alone."""
    inputs = container_inputs(network.input_shape[1], network.input_shape[-1])
    return keras.Model(inputs, network(inputs["diffraction"]), name="baseline")


def container_inputs(n: int, channels: int) -> dict[str, keras.KerasTensor]:
    """Return inputs as `PtychoDataContainer.as_tf_dataset` streams them."""
    return {
        "diffraction": keras.Input((n, n, channels), name="diffraction"),
        "positions": keras.Input((1, 2, channels), name="positions"),
    }
