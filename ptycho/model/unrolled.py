"""An unrolled reconstruction: a few steps on the whole scan's likelihood, then a network trained without truth.

The network sees what the steps have found, their last gradient and the illumination, and says what is to be added. It
is trained on the train split by thinning photons: steps on one part of them go in, the Poisson likelihood of the others
is the loss (Batson and Royer, Noise2Self, ICML 2019: independent noise cannot be learnt). It is applied to the test
split unchanged.
"""

import sys
import time
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

from ptycho.likelihood import Counts, Likelihood, thinned
from ptycho.physics import illumination
from ptycho.tv import Variables, descend

CHANNELS = 5
"""Features: what the steps have found (real, imaginary), gradient (real, imaginary), illumination."""
MULTIPLE = 4
"""Sides of a canvas are multiples of this: two levels below the full resolution."""


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """How the network looks and is trained."""

    filters: int
    """Features at full resolution; two and three times as many below."""
    iterations: int
    """L-BFGS steps on the likelihood before the network."""
    tile_px: int
    """Largest extent of the positions of a training tile [px]."""
    tiles: int
    """Training tiles, each thinned anew."""
    steps: int
    """Steps of Adam, a tile each."""
    learning_rate: float
    """Adam's, falling along a cosine."""
    fit_share: float
    """Share of the photons that goes in while training; the rest is predicted."""


def transmission_of(counts: Counts, probe) -> float:
    """Mean amplitude transmittance, sqrt(detected / incident photons)."""
    photons = sum(float(np.sum(counts.frames(np.arange(part.start, part.stop)))) for part in counts.parts)
    return float(np.sqrt(photons / (len(counts) * np.sum(np.abs(probe) ** 2, dtype=np.float64))))


def features(likelihood: Likelihood, level: float, iterations: int):
    """Make the steps on a likelihood, from a flat object.

    Returns
    -------
    start : (H, W) complex64
        What they found.
    channels : (H, W, 5) float32
        What the network sees of it.
    """
    counts = likelihood.counts
    light = illumination(likelihood.probe, counts.xcoords, counts.ycoords, likelihood.shape, likelihood.origin_px)
    flat = np.full(likelihood.shape, level, np.complex64)
    start, _, _ = descend(likelihood, Variables(light, level), flat, 0.0, iterations)
    slope = likelihood(start)[1] / (2 * (light + 0.05 * np.median(light[light > 1e-3 * light.max()])))
    change = start - level
    stack = [change.real, change.imag, slope.real, slope.imag, np.log10(1 + light) / 4]
    return start, np.clip(np.stack(stack, axis=-1), -3, 3).astype(np.float32)


def build_unrolled(filters: int) -> keras.Model:
    """Build a residual U-Net over a canvas of any size: (1, H, W, 5) to what is to be added, (1, H, W, 2)."""
    inputs = keras.Input((None, None, CHANNELS), name="features")

    def convolve(x, width):
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="leaky_relu", kernel_initializer="he_normal")(x)
        return x

    top = convolve(inputs, filters)
    middle = convolve(layers.AveragePooling2D(2)(top), 2 * filters)
    x = convolve(layers.AveragePooling2D(2)(middle), 3 * filters)
    x = convolve(layers.Concatenate()([layers.UpSampling2D()(x), middle]), 2 * filters)
    x = convolve(layers.Concatenate()([layers.UpSampling2D()(x), top]), filters)
    small = keras.initializers.RandomNormal(stddev=1.0e-3)
    return keras.Model(inputs, layers.Conv2D(2, 3, padding="same", kernel_initializer=small)(x), name="unrolled")


def _select(counts: Counts, chosen) -> Counts:
    return Counts(
        lambda exposures: counts.frames(chosen[exposures]), counts.xcoords[chosen], counts.ycoords[chosen], 64
    )


def _tile(counts: Counts, probe, level: float, options: Unrolled, rng) -> dict:
    """One training example: features of some photons of some neighbouring exposures, and the other photons."""
    seed = rng.integers(len(counts))
    half = options.tile_px / 2
    near = (np.abs(counts.xcoords - counts.xcoords[seed]) <= half) & (
        np.abs(counts.ycoords - counts.ycoords[seed]) <= half
    )
    fitted, apart = thinned(_select(counts, np.flatnonzero(near)), options.fit_share, int(rng.integers(1 << 31)))
    likelihood = Likelihood(fitted, probe, options.fit_share)
    start, channels = features(likelihood, level, options.iterations)
    judge = Likelihood(apart, probe, 1 - options.fit_share)
    blocks = [judge.block(part) for part in apart.parts]
    return {
        "start": _padded(start),
        "channels": _padded(channels),
        "top": (judge.top - judge.origin_px[0]).astype(np.int32),
        "left": (judge.left - judge.origin_px[1]).astype(np.int32),
        "frames": np.concatenate([frames for frames, _ in blocks]),
        "probes": np.concatenate([probes for _, probes in blocks]),
    }


def _padded(array):
    """Make both sides multiples of four, by repeating the last row and column."""
    sides = [(0, -size % MULTIPLE) for size in array.shape[:2]]
    return np.pad(array, sides + [(0, 0)] * (array.ndim - 2), mode="edge")


@tf.function(reduce_retracing=True)
def _deviance(canvas, top, left, frames, probes):
    """Poisson deviance per pixel of frames (m, n, n), zero frequency first, on a complex canvas (H, W)."""
    n = tf.shape(frames)[-1]
    span = tf.range(n)
    rows, columns = top[:, None] + span, left[:, None] + span
    windows = tf.gather(tf.reshape(canvas, [-1]), rows[:, :, None] * tf.shape(canvas)[1] + columns[:, None, :])
    waves = tf.signal.fft2d(windows[:, None] * probes) / tf.cast(n, tf.complex64)
    intensity = tf.maximum(tf.reduce_sum(tf.math.real(waves) ** 2 + tf.math.imag(waves) ** 2, axis=1), 1.0e-6)
    logarithm = tf.math.log(tf.maximum(frames, 1.0e-6) / intensity)
    return 2 * tf.reduce_mean(intensity - frames + frames * logarithm)


def train_unrolled(counts: Counts, probe, options: Unrolled, *, seed: int):
    """Train on exposures without their truth; the same seed on the same machine gives the same weights.

    Returns
    -------
    network : keras.Model
        See `build_unrolled`.
    history : DataFrame
        epoch (passes over the tiles), loss, learning_rate.
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    level = transmission_of(counts, probe)
    network = build_unrolled(options.filters)
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.steps, alpha=0.02)
    optimizer = keras.optimizers.Adam(schedule, clipnorm=1.0)
    optimizer.build(network.trainable_variables)
    tiles = [_tile(counts, probe, level, options, rng) for _ in range(options.tiles)]

    @tf.function(reduce_retracing=True)
    def step(channels, start, turn, mirror, top, left, frames, probes):
        with tf.GradientTape() as tape:
            seen = tf.image.rot90(tf.cond(mirror, lambda: tf.transpose(channels, (1, 0, 2)), lambda: channels), turn)
            said = tf.image.rot90(network(seen[None], training=True)[0], -turn % 4)
            said = tf.cond(mirror, lambda: tf.transpose(said, (1, 0, 2)), lambda: said)
            loss = _deviance(start + tf.complex(said[..., 0], said[..., 1]), top, left, frames, probes)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, network.trainable_variables), network.trainable_variables, strict=True)
        )
        return loss

    rows, losses, begun, every = [], [], time.monotonic(), max(options.steps // 20, 1)
    for number in range(1, options.steps + 1):
        tile = tiles[rng.integers(len(tiles))]
        losses.append(
            float(
                step(
                    turn=int(rng.integers(4)) * tf.ones([], tf.int32), mirror=tf.constant(bool(rng.integers(2))), **tile
                )
            )
        )
        if number % every == 0:
            if not np.isfinite(losses[-1]):
                raise ValueError(
                    f"the loss became {losses[-1]} at step {number}: lower unrolled.learning_rate, or NaN in the data"
                )
            rows.append(
                {
                    "epoch": number / len(tiles),
                    "loss": np.mean(losses[-every:]),
                    "learning_rate": float(schedule(number)),
                }
            )
            left = (time.monotonic() - begun) * (options.steps - number) / number
            print(
                f"step {number}/{options.steps}  loss {rows[-1]['loss']:.5g}  {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    return network, pd.DataFrame(rows)


def apply_unrolled(network: keras.Model, counts: Counts, probe, iterations: int):
    """Reconstruct exposures with a trained network.

    Returns
    -------
    obj : (H, W) complex64
    light : (H, W) float64
        Illumination [photons per pixel].
    origin_px : (int, int)
    """
    likelihood = Likelihood(counts, probe)
    start, channels = features(likelihood, transmission_of(counts, probe), iterations)
    said = network(_padded(channels)[None], training=False).numpy()[0, : start.shape[0], : start.shape[1]]
    light = illumination(likelihood.probe, counts.xcoords, counts.ycoords, likelihood.shape, likelihood.origin_px)
    return start + (said[..., 0] + 1j * said[..., 1]).astype(np.complex64), light, likelihood.origin_px
