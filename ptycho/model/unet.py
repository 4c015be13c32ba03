"""A residual U-Net over a canvas, trained without truth: by the likelihood of photons that it has not been shown.

The photons of an example are dealt to two sets. What was reconstructed from one goes in, the Poisson likelihood of the
other is the loss: their noise is independent, so that it cannot be learnt (Batson and Royer, Noise2Self, ICML 2019).
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

from ptycho.likelihood import BACKGROUND, Likelihood
from ptycho.model.checkpoints import assign, values_of
from ptycho.model.optimizer import FusedAdam

LEVELS = 3
MULTIPLE = 2 ** (LEVELS - 1)
"""Sides of what the U-Net sees are multiples of this."""
ROUNDS = 10
"""A training is so many rounds; after each the examples apart judge, and the state can be saved."""
PATIENCE = 3
"""It ends after so many rounds that they find no better than the best."""


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How a U-Net over a canvas looks and is trained."""

    filters: int
    """Features at full resolution; two and three times as many below."""
    steps: int
    """Steps of Adam, an example each."""
    learning_rate: float
    """Adam's at the start; it falls along a cosine, and halves after a round that the judges find no better."""


@dataclass
class Example:
    """What goes in, what the output is added to, and the photons that judge it."""

    start: np.ndarray
    """(H, W) complex64 canvas."""
    features: np.ndarray
    """(H, W, K) float32."""
    judge: dict
    """Photons that are apart, see `judge_of`."""


def judge_of(apart: Likelihood, origin_px) -> dict:
    """Lay out exposures as one batch: windows' first rows and columns on a canvas, counts and probes."""
    blocks = [apart.block(part) for part in apart.counts.parts]
    return {
        "top": (apart.top - origin_px[0]).astype(np.int32),
        "left": (apart.left - origin_px[1]).astype(np.int32),
        "frames": np.concatenate([frames for frames, _ in blocks]),
        "probes": np.concatenate([probes for _, probes in blocks]),
    }


def deviance(canvas, top, left, frames, probes):
    """Poisson deviance per pixel, as `Likelihood`'s, of frames (m, n, n), zero frequency first, on a canvas (H, W)."""
    n = tf.shape(frames)[-1]
    span = tf.range(n)
    rows, columns = top[:, None] + span, left[:, None] + span
    windows = tf.gather(tf.reshape(canvas, [-1]), rows[:, :, None] * tf.shape(canvas)[1] + columns[:, None, :])
    waves = tf.signal.fft2d(windows[:, None] * probes) / tf.cast(n, tf.complex64)
    intensity = tf.reduce_sum(tf.math.real(waves) ** 2 + tf.math.imag(waves) ** 2, axis=1) + BACKGROUND
    logarithm = tf.math.log(tf.maximum(frames, BACKGROUND) / intensity)
    return 2 * tf.reduce_mean(intensity - frames + frames * logarithm)


def build_unet(channels: int, filters: int, name: str) -> keras.Model:
    """Build a residual U-Net over a canvas of any size: (1, H, W, channels) to what is to be added, (1, H, W, 2)."""
    inputs = keras.Input((None, None, channels))

    def convolve(x, width):
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
    return keras.Model(inputs, layers.Conv2D(2, 3, padding="same", kernel_initializer=small)(x), name=name)


def padded(array):
    """Make both sides multiples of four, by repeating the last row and column."""
    sides = [(0, -size % MULTIPLE) for size in array.shape[:2]]
    return np.pad(array, sides + [(0, 0)] * (array.ndim - 2), mode="edge")


def corrected(network: keras.Model, start, features):
    """Add what a network says of the features to a canvas, (H, W) complex64."""
    said = network(padded(features)[None], training=False).numpy()[0, : start.shape[0], : start.shape[1]]
    return start + (said[..., 0] + 1j * said[..., 1]).astype(np.complex64)


def _said(network, features, turn, mirror):
    """Let a network see a turned and mirrored canvas; turn what it says back."""
    seen = tf.cond(mirror, lambda: tf.transpose(features, (1, 0, 2)), lambda: features)
    said = tf.image.rot90(network(tf.image.rot90(seen, turn)[None])[0], -turn % 4)
    said = tf.cond(mirror, lambda: tf.transpose(said, (1, 0, 2)), lambda: said)
    return tf.complex(said[..., 0], said[..., 1])


class Trainer:
    """Trains a U-Net on examples; the best weights by the examples apart are kept.

    Parameters
    ----------
    network : keras.Model
        See `build_unet`.
    examples, apart : list of Example
        Trained on, and judged by.
    seed : list of int
        Of the order of the examples; round by round, so that an interrupted training goes on with the same.
    """

    def __init__(self, network: keras.Model, examples, apart, options: Fitting, seed: list[int]):
        self.network, self.options, self.seed = network, options, seed
        self.examples, self.apart = ([_tensors(example) for example in part] for part in (examples, apart))
        self.optimizer = FusedAdam(options.learning_rate, clipnorm=1.0)
        self.optimizer.build(network.trainable_variables)
        self.rows, self.halved, self.best, self.weights = [], 0, np.inf, []
        shapes = tf.nest.map_structure(_any_size, self.examples[0])  # one graph for canvases of all sizes
        self._loss = tf.function(self._make_loss, input_signature=[*shapes, *TURNED])
        self._step = tf.function(self._make_step, input_signature=[*shapes, *TURNED])

    def _make_loss(self, start, features, judge, turn, mirror):
        return deviance(start + _said(self.network, features, turn, mirror), **judge)

    def _make_step(self, start, features, judge, turn, mirror):
        with tf.GradientTape() as tape:
            loss = self._make_loss(start, features, judge, turn, mirror)
        weights = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    def judged(self) -> float:
        """Mean deviance of the examples apart."""
        upright = tf.constant(0), tf.constant(False)
        return float(np.mean([self._loss(*example, *upright) for example in self.apart]))

    @property
    def stalled(self) -> bool:
        """Whether the best round is `PATIENCE` rounds ago."""
        judged = [row["stop_deviance"] for row in self.rows]
        return bool(judged) and len(judged) - 1 - int(np.argmin(judged)) >= PATIENCE

    def run(self, label: str, save: Callable[[], None] = lambda: None) -> pd.DataFrame:
        """Train what is left of it; give the best weights to the network.

        Returns
        -------
        DataFrame
            epoch (passes over the examples), loss, stop_deviance (of the examples apart), learning_rate.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        steps, begun, first = max(self.options.steps // ROUNDS, 1), time.monotonic(), len(self.rows)
        for number in range(first, ROUNDS):
            if self.stalled:
                print(f"{label}: ends, no better in {PATIENCE} rounds", file=sys.stderr, flush=True)
                break
            rng, losses = np.random.default_rng([*self.seed, number]), []
            for step in range(steps):
                share = (number + step / steps) / ROUNDS
                rate = self.options.learning_rate * (0.02 + 0.98 * (1 + np.cos(np.pi * share)) / 2) / 2**self.halved
                self.optimizer.learning_rate = rate
                example = self.examples[rng.integers(len(self.examples))]
                turn, mirror = tf.constant(int(rng.integers(4))), tf.constant(bool(rng.integers(2)))
                losses.append(self._step(*example, turn, mirror))
            loss, apart = float(np.mean(losses)), self.judged()
            if not np.isfinite([loss, apart]).all():
                raise ValueError(
                    f"{label}: the loss became {loss} in round {number + 1} of {ROUNDS}, and {apart} on the examples "
                    "apart: lower the learning rate, or look for NaN in the data"
                )
            if apart < self.best:
                self.best, self.weights = apart, values_of(self.network.weights)
            else:
                self.halved += 1
            epoch = (number + 1) * steps / len(self.examples)
            self.rows.append({"epoch": epoch, "loss": loss, "stop_deviance": apart, "learning_rate": rate})
            save()
            left = (time.monotonic() - begun) / (number + 1 - first) * (ROUNDS - number - 1)
            print(
                f"{label}: round {number + 1}/{ROUNDS}  loss {loss:.5g}  apart {apart:.5g}  {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
        assign(self.network.weights, self.weights)
        return pd.DataFrame(self.rows)

    def state(self) -> tuple[dict, dict[str, list]]:
        """Return what a backup keeps: facts and arrays."""
        facts = {"rows": self.rows, "halved": self.halved, "best": self.best}
        weights, optimizer = values_of(self.network.weights), values_of(self.optimizer.variables)
        return facts, {"weights": weights, "optimizer": optimizer, "best": self.weights}

    def restore(self, facts: dict, arrays: dict[str, list]) -> None:
        """Go on from a state."""
        self.rows, self.halved, self.best, self.weights = facts["rows"], facts["halved"], facts["best"], arrays["best"]
        assign(self.network.weights, arrays["weights"])
        assign(self.optimizer.variables, arrays["optimizer"])


TURNED = [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)]
"""Quarter turns and mirroring of what a network sees."""


def _any_size(tensor) -> tf.TensorSpec:
    """Leave the first two axes open: rows and columns of a canvas, the number of exposures."""
    open_axes = min(tensor.shape.rank, 2)
    return tf.TensorSpec([None] * open_axes + tensor.shape[open_axes:], tensor.dtype)


def _tensors(example: Example):
    judge = {name: tf.constant(array) for name, array in example.judge.items()}
    return tf.constant(padded(example.start)), tf.constant(padded(example.features)), judge
