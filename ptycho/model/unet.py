"""A residual U-Net over a canvas, trained without truth by the Poisson likelihood of photons that it does not see.

The photons of an example are split into two independent sets. What was reconstructed from the first goes in; the
likelihood of the second is the loss. Their noise is independent, so the network cannot learn it (Batson and Royer,
Noise2Self, ICML 2019).
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from ptycho.model.checkpoints import assign, values_of
from ptycho.model.losses import poisson_deviance
from ptycho.model.optimizer import FusedAdam, cosine_rate
from ptycho.reconstruction.likelihood import BACKGROUND, Likelihood

LEVELS = 3
MULTIPLE = 2 ** (LEVELS - 1)
"""Sides of what the U-Net sees are multiples of this."""
ROUNDS = 10
"""A training is divided into this many rounds; each ends with a validation, and its state can be saved."""
PATIENCE = 3
"""Training stops after this many rounds without a lower validation deviance."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UNetOptions:
    """How a U-Net over a canvas looks and is trained."""

    filters: int
    """Features at full resolution; two and three times as many below."""
    steps: int
    """Steps of Adam, an example each."""
    learning_rate: float
    """Adam's at the start; it falls along a cosine, and is halved after a round that does not improve."""


@dataclass
class Example:
    """What goes in, what the output is added to, and the photons that the sum has to predict."""

    start: NDArray[np.complex64]
    """(H, W) canvas."""
    features: NDArray[np.float32]
    """(H, W, K)."""
    target: dict[str, NDArray]
    """Photons that the network does not see, see `target_of`."""


def target_of(likelihood: Likelihood, origin_px: tuple[int, int]) -> dict[str, NDArray]:
    """Lay out exposures as one batch: windows' first rows and columns on a canvas, counts and probes."""
    blocks = [likelihood.block(part) for part in likelihood.counts.parts]
    return {
        "top": (likelihood.top - origin_px[0]).astype(np.int32),
        "left": (likelihood.left - origin_px[1]).astype(np.int32),
        "frames": np.concatenate([frames for frames, _ in blocks]),
        "probes": np.concatenate([probes for _, probes in blocks]),
    }


def canvas_deviance(canvas, top, left, frames, probes):
    """Poisson deviance per pixel of frames (m, n, n), zero frequency first, on a canvas (H, W): `Likelihood` as graph.

    The arguments behind the canvas are those of `target_of`.
    """
    n = tf.shape(frames)[-1]
    span = tf.range(n)
    rows, columns = top[:, None] + span, left[:, None] + span
    windows = tf.gather(tf.reshape(canvas, [-1]), rows[:, :, None] * tf.shape(canvas)[1] + columns[:, None, :])
    waves = tf.signal.fft2d(windows[:, None] * probes) / tf.cast(n, tf.complex64)
    intensity = tf.reduce_sum(tf.math.real(waves) ** 2 + tf.math.imag(waves) ** 2, axis=1) + BACKGROUND
    return tf.reduce_mean(poisson_deviance(frames, intensity, BACKGROUND))


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


def correct(network: keras.Model, start, features) -> NDArray[np.complex64]:
    """Add a network's output for (H, W, K) features to an (H, W) complex64 canvas."""
    output = network(padded(features)[None], training=False).numpy()[0, : start.shape[0], : start.shape[1]]
    return start + (output[..., 0] + 1j * output[..., 1]).astype(np.complex64)


def _augmented(network, features, turn, mirror):
    """Apply a network to a turned and mirrored canvas, and turn its output back."""
    turned = tf.cond(mirror, lambda: tf.transpose(features, (1, 0, 2)), lambda: features)
    output = tf.image.rot90(network(tf.image.rot90(turned, turn)[None])[0], -turn % 4)
    output = tf.cond(mirror, lambda: tf.transpose(output, (1, 0, 2)), lambda: output)
    return tf.complex(output[..., 0], output[..., 1])


class Trainer:
    """Trains a U-Net on examples; the weights with the lowest validation deviance are kept.

    Parameters
    ----------
    network : keras.Model
        See `build_unet`.
    examples, validation : list of Example
        Trained on, and validated on.
    seed : list of int
        Of the order of the examples; round by round, so that an interrupted training goes on with the same.
    """

    def __init__(
        self,
        network: keras.Model,
        examples: list[Example],
        validation: list[Example],
        options: UNetOptions,
        seed: list[int],
    ):
        self.network, self.options, self.seed = network, options, seed
        self.examples, self.validation = ([_tensors(example) for example in part] for part in (examples, validation))
        self.optimizer = FusedAdam(options.learning_rate, clipnorm=1.0)
        self.optimizer.build(network.trainable_variables)
        self.rows: list[dict] = []
        self.weights: list[NDArray] = []
        self.halvings, self.best = 0, np.inf
        shapes = tf.nest.map_structure(_any_size, self.examples[0])  # one graph for canvases of all sizes
        self._loss = tf.function(self._make_loss, input_signature=[*shapes, *AUGMENTATION])
        self._step = tf.function(self._make_step, input_signature=[*shapes, *AUGMENTATION])

    def _make_loss(self, start, features, target, turn, mirror):
        return canvas_deviance(start + _augmented(self.network, features, turn, mirror), **target)

    def _make_step(self, start, features, target, turn, mirror):
        with tf.GradientTape() as tape:
            loss = self._make_loss(start, features, target, turn, mirror)
        weights = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    def validate(self) -> float:
        """Mean deviance of the validation examples."""
        upright = tf.constant(0), tf.constant(False)
        return float(np.mean([self._loss(*example, *upright) for example in self.validation]))

    @property
    def stalled(self) -> bool:
        """Whether the best round is `PATIENCE` rounds ago."""
        deviances = [row["validation_deviance"] for row in self.rows]
        return bool(deviances) and len(deviances) - 1 - int(np.argmin(deviances)) >= PATIENCE

    def run(self, label: str, save: Callable[[], None] = lambda: None) -> pd.DataFrame:
        """Train what is left of it; give the best weights to the network.

        Parameters
        ----------
        label : str
            In the log.
        save : callable
            Called after every round.

        Returns
        -------
        DataFrame
            epoch (passes over the examples), loss, validation_deviance, learning_rate.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        start, first = time.monotonic(), len(self.rows)
        for number in range(first, ROUNDS):
            if self.stalled:
                _logger.info("%s: early stopping, no improvement in %d rounds", label, PATIENCE)
                break
            row = self._round(label, number)
            save()
            remaining = (time.monotonic() - start) / (number + 1 - first) * (ROUNDS - number - 1)
            numbers = f"loss {row['loss']:.5g}  validation {row['validation_deviance']:.5g}  {remaining:.0f} s left"
            _logger.info("%s: round %d/%d  %s", label, number + 1, ROUNDS, numbers)
        assign(self.network.weights, self.weights)
        return pd.DataFrame(self.rows)

    def _round(self, label: str, number: int) -> dict:
        """Train for one round, validate, and take note; return the row of the history."""
        steps = max(self.options.steps // ROUNDS, 1)
        cosine = cosine_rate(self.options.learning_rate, ROUNDS * steps)
        rng, losses = np.random.default_rng([*self.seed, number]), []
        for step in range(steps):
            rate = cosine(number * steps + step) / 2**self.halvings
            self.optimizer.learning_rate = rate
            example = self.examples[rng.integers(len(self.examples))]
            turn, mirror = tf.constant(int(rng.integers(4))), tf.constant(bool(rng.integers(2)))
            losses.append(self._step(*example, turn, mirror))
        loss, deviance = float(np.mean(losses)), self.validate()
        if not np.isfinite([loss, deviance]).all():
            raise ValueError(
                f"{label}: the loss became {loss} in round {number + 1} of {ROUNDS}, the validation deviance "
                f"{deviance}: lower the learning rate, or look for NaN in the data"
            )
        if deviance < self.best:
            self.best, self.weights = deviance, values_of(self.network.weights)
        else:
            self.halvings += 1
        epoch = (number + 1) * steps / len(self.examples)
        self.rows.append({"epoch": epoch, "loss": loss, "validation_deviance": deviance, "learning_rate": rate})
        return self.rows[-1]

    def state(self) -> tuple[dict, dict[str, list]]:
        """Return what a backup keeps: facts and arrays."""
        facts = {"rows": self.rows, "halvings": self.halvings, "best": self.best}
        weights, optimizer = values_of(self.network.weights), values_of(self.optimizer.variables)
        return facts, {"weights": weights, "optimizer": optimizer, "best": self.weights}

    def restore(self, facts: dict, arrays: dict[str, list]) -> None:
        """Go on from a state."""
        self.rows, self.halvings, self.best = facts["rows"], facts["halvings"], facts["best"]
        self.weights = arrays["best"]
        assign(self.network.weights, arrays["weights"])
        assign(self.optimizer.variables, arrays["optimizer"])


AUGMENTATION = [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)]
"""Quarter turns and mirroring of what a network sees."""


def _any_size(tensor) -> tf.TensorSpec:
    """Leave the first two axes open: rows and columns of a canvas, the number of exposures."""
    open_axes = min(tensor.shape.rank, 2)
    return tf.TensorSpec([None] * open_axes + tensor.shape[open_axes:], tensor.dtype)


def _tensors(example: Example) -> tuple:
    target = {name: tf.constant(array) for name, array in example.target.items()}
    return tf.constant(padded(example.start)), tf.constant(padded(example.features)), target
