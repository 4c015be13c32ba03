"""Training of a U-Net over canvases: without truth by the likelihood of photons that it does not see, or with truth.

The photons of an example are split into two independent sets. What is reconstructed from the first is the input; the
likelihood of the second is the loss. Their noise is independent, so the network cannot learn it (Batson and Royer,
Noise2Self, ICML 2019).
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.model.checkpoints import Backup, State, assign, values_of
from ptycho.model.early_stopping import Patience
from ptycho.model.losses import canvas_deviance, with_shifted_probes
from ptycho.model.optimizer import FusedAdam, cosine_rate
from ptycho.model.trained_probe import TrainedProbe
from ptycho.model.unet import padded
from ptycho.reconstruction.likelihood import Likelihood

ROUNDS = 10
"""Number of rounds of a training; each ends with a validation, and its state can be saved."""
PATIENCE = 3
"""Training stops after this many rounds without a lower validation deviance."""

AUGMENTATION = [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)]
"""Specification of an augmentation: number of quarter turns, and whether features are mirrored."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UNetOptions:
    """Architecture and training of a U-Net over a canvas."""

    filters: int
    """Features at full resolution; two and three times as many at the lower ones."""
    steps: int
    """Steps of Adam, one example per step."""
    learning_rate: float
    """Adam's rate at the start; it falls along a cosine, and is halved after a round without improvement."""


@dataclass
class Example:
    """Canvas, input features, and what the corrected canvas is compared with."""

    start: NDArray[np.complex64]
    """(H, W) canvas that the output is added to."""
    features: NDArray[np.float32]
    """(H, W, K) input of the network."""
    target: dict[str, NDArray[Any]]
    """Arguments of the loss after the canvas; of `canvas_deviance`: photons that the network does not see. Where the
    probe is trained, `probe` and `ramps` in place of `probes`, see `ptycho.model.losses.with_shifted_probes`."""


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """What a network is trained on, and what it is validated with."""

    draw: Callable[[np.random.Generator], Example]
    """Returns the example of a step; all that is random in it comes from the generator."""
    count: int
    """Examples in a pass, for the history's `epoch`."""
    validation: Callable[[], list[Example]]
    """Returns the examples whose `canvas_deviance` decides which weights are kept: the same ones whenever it is called,
    but for a probe that has been trained meanwhile."""
    loss: Callable[..., tf.Tensor]
    """Takes a corrected canvas, (H, W) complex64, and an example's target; returns the loss of a step."""
    probe: TrainedProbe | None = None
    """Probe of the examples, if it is trained with the network."""

    @classmethod
    def of(cls, examples: list[Example], validation: list[Example]) -> "TrainingSet":
        """Draw from a list of examples, whose targets are photons."""
        return cls(
            draw=lambda rng: examples[rng.integers(len(examples))],
            count=len(examples),
            validation=lambda: validation,
            loss=canvas_deviance,
        )


def target_of(
    likelihood: Likelihood, origin_px: tuple[int, int], *, free_probe: bool = False
) -> dict[str, NDArray[Any]]:
    """Return all exposures as one batch: `canvas_deviance`'s arguments after the canvas.

    Parameters
    ----------
    likelihood : Likelihood
        Likelihood of the exposures.
    origin_px : (int, int)
        Row and column of the canvas's first pixel in the object plane.
    free_probe : bool
        Whether the loss is to be differentiable in the probe.

    Returns
    -------
    dict
        top, left, frames and probes; detector, if it has bad pixels or a background. With a free probe, probe and ramps
        in place of probes.
    """
    blocks = [likelihood.block(part) for part in likelihood.counts.parts]
    probes = {"probes": np.concatenate([probes for _, probes in blocks])}
    if free_probe:
        down, across = likelihood.ramps(slice(None))
        scale = likelihood.counts.detector.exposure_scale
        flux = np.float32(1) if scale is None else np.sqrt(scale, dtype=np.float32)[:, None, None, None]
        probes = {"probe": likelihood.probe, "ramps": down * across * flux}
    return {
        **({} if likelihood.detector is None else {"detector": likelihood.detector}),
        "top": (likelihood.top - origin_px[0]).astype(np.int32),
        "left": (likelihood.left - origin_px[1]).astype(np.int32),
        "frames": np.concatenate([frames for frames, _ in blocks]),
        **probes,
    }


def _augmented(network: keras.Model, features: tf.Tensor, turn: tf.Tensor, mirror: tf.Tensor) -> tf.Tensor:
    """Apply a network to rotated and mirrored features, and undo both in its output, (H, W) complex64."""
    turned = tf.cond(mirror, lambda: tf.transpose(features, (1, 0, 2)), lambda: features)
    output = tf.image.rot90(network(tf.image.rot90(turned, turn)[None])[0], -turn % 4)
    output = tf.cond(mirror, lambda: tf.transpose(output, (1, 0, 2)), lambda: output)
    return tf.complex(output[..., 0], output[..., 1])


class Trainer:
    """Training of a U-Net on examples, and of their probe; those with the lowest validation deviance are kept.

    Parameters
    ----------
    network : keras.Model
        Network, see `ptycho.model.unet.build_unet`.
    training_set : TrainingSet
        What it is trained on, and validated with.
    options : UNetOptions
        Steps and learning rate.
    seed : list of int
        Seed of the examples. Every round has a generator of its own, so that a resumed training continues with the
        examples of an uninterrupted one.
    """

    def __init__(self, network: keras.Model, training_set: TrainingSet, options: UNetOptions, seed: list[int]):
        self.network, self.examples, self.options, self.seed = network, training_set, options, seed
        self.probe = training_set.probe
        self.validation = [_tensors(example) for example in training_set.validation()]
        self.optimizer = FusedAdam(options.learning_rate, clipnorm=1.0)
        self.optimizer.build(network.trainable_variables)
        self.rows: list[dict[str, Any]] = []
        self.weights: list[NDArray[Any]] = []
        self.best_probe: list[NDArray[Any]] = []
        self.patience = Patience(early_stopping_patience=PATIENCE)
        # one graph for canvases of all sizes
        example = tf.nest.map_structure(_any_size, _tensors(training_set.draw(np.random.default_rng(seed))))
        validation = tf.nest.map_structure(_any_size, self.validation[0])
        self._step = tf.function(self._make_step, input_signature=[*example, *AUGMENTATION])
        self._deviance = tf.function(self._make_deviance, input_signature=validation)

    def _make_deviance(self, start: tf.Tensor, features: tf.Tensor, target: dict[str, tf.Tensor]) -> tf.Tensor:
        upright = tf.constant(0), tf.constant(False)
        return canvas_deviance(start + _augmented(self.network, features, *upright), **self._with_probes(target))

    def _with_probes(self, target: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return target if self.probe is None else with_shifted_probes(**target)

    def _make_step(
        self,
        start: tf.Tensor,
        features: tf.Tensor,
        target: dict[str, tf.Tensor],
        turn: tf.Tensor,
        mirror: tf.Tensor,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Move the weights; return the loss, and its gradient in the probe if that is trained."""
        weights, probe = self.network.trainable_variables, [] if self.probe is None else [target["probe"]]
        with tf.GradientTape() as tape:
            tape.watch(probe)
            canvas = start + _augmented(self.network, features, turn, mirror)
            loss = self.examples.loss(canvas, **self._with_probes(target))
        gradients = tape.gradient(loss, [*weights, *probe])
        self.optimizer.apply_gradients(zip(gradients[: len(weights)], weights, strict=True))
        return loss, gradients[len(weights) :]

    def validate(self) -> float:
        """Return the mean deviance of the validation examples, with the probe of this moment."""
        if self.probe is not None:
            self.validation = [_tensors(example) for example in self.examples.validation()]
        return float(np.mean([self._deviance(*example) for example in self.validation]))

    def run(self, label: str, save: Callable[[], None] = lambda: None) -> pd.DataFrame:
        """Train for the remaining rounds; give the network the best weights.

        Parameters
        ----------
        label : str
            Name in the log.
        save : callable
            Function without arguments that is called after every round.

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
            if self.patience.over:
                _logger.info("%s: early stopping, no improvement in %d rounds", label, PATIENCE)
                break
            row = self._round(label, number)
            save()
            remaining = (time.monotonic() - start) / (number + 1 - first) * (ROUNDS - number - 1)
            numbers = f"loss {row['loss']:.5g}  validation {row['validation_deviance']:.5g}  {remaining:.0f} s left"
            _logger.info("%s: round %d/%d  %s", label, number + 1, ROUNDS, numbers)
        assign(self.network.weights, self.weights)
        if self.probe is not None:
            self.probe.restore(self.best_probe)
        return pd.DataFrame(self.rows)

    def resume(self, label: str, backup: Backup | None) -> pd.DataFrame:
        """Continue from a backup if there is one, and save the state there after every round; see `run`."""
        if backup is None:
            return self.run(label)
        if state := backup.load():
            self.restore(*state)
            _logger.info("resumes after round %d: %s", len(self.rows), backup.path)

        def save() -> None:
            facts, arrays = self.state()
            backup.save(facts, **arrays)

        return self.run(label, save)

    def _round(self, label: str, number: int) -> dict[str, Any]:
        """Train for one round and validate; return the row that is appended to the history."""
        steps = max(self.options.steps // ROUNDS, 1)
        cosine = cosine_rate(self.options.learning_rate, ROUNDS * steps)
        rng, losses = np.random.default_rng([*self.seed, number]), []
        for step in range(steps):
            rate = cosine(number * steps + step) / 2**self.patience.halvings
            self.optimizer.learning_rate = rate
            example = _tensors(self.examples.draw(rng))
            turn, mirror = tf.constant(int(rng.integers(4))), tf.constant(bool(rng.integers(2)))
            step_loss, gradients = self._step(*example, turn, mirror)
            losses.append(step_loss)
            if self.probe is not None:
                self.probe.step(np.asarray(gradients[0]), rate / self.options.learning_rate)
        loss, deviance = float(np.mean(losses)), self.validate()
        if not np.isfinite([loss, deviance]).all():
            raise ValueError(
                f"{label}: the loss became {loss} in round {number + 1} of {ROUNDS}, the validation deviance "
                f"{deviance}: lower the learning rate, or look for NaN in the data"
            )
        if self.patience.better(deviance):
            self.weights = values_of(self.network.weights)
            self.best_probe = [] if self.probe is None else self.probe.state()
        epoch = (number + 1) * steps / self.examples.count
        self.rows.append({"epoch": epoch, "loss": loss, "validation_deviance": deviance, "learning_rate": rate})
        return self.rows[-1]

    def state(self) -> State:
        """Return facts and arrays for a backup."""
        facts = {"rows": self.rows, "patience": self.patience.state()}
        weights, optimizer = values_of(self.network.weights), values_of(self.optimizer.variables)
        probe = [] if self.probe is None else self.probe.state()
        best = {"best": self.weights, "best_probe": self.best_probe}
        return facts, {"weights": weights, "optimizer": optimizer, "probe": probe, **best}

    def restore(self, facts: dict[str, Any], arrays: dict[str, list[Any]]) -> None:
        """Continue from a state."""
        self.rows, self.patience = facts["rows"], Patience(**facts["patience"])
        self.weights, self.best_probe = arrays["best"], arrays["best_probe"]
        if self.probe is not None:
            self.probe.restore(arrays["probe"])
        assign(self.network.weights, arrays["weights"])
        assign(self.optimizer.variables, arrays["optimizer"])


def _any_size(tensor: tf.Tensor) -> tf.TensorSpec:
    """Leave the first two axes open: rows and columns of a canvas, the number of exposures."""
    open_axes = min(tensor.shape.rank, 2)
    return tf.TensorSpec([None] * open_axes + tensor.shape[open_axes:], tensor.dtype)


def _tensors(example: Example) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
    target = {name: tf.constant(array) for name, array in example.target.items()}
    return tf.constant(padded(example.start)), tf.constant(padded(example.features)), target
