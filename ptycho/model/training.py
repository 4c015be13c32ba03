"""Training a network on a container: PINN from the counts alone, Baseline from the truth."""

import math
import sys
import time
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from ptycho.loader import PtychoDataContainer
from ptycho.model.checkpoints import Backup, assign, values_of
from ptycho.model.devices import multiplies_bfloat16
from ptycho.model.losses import ComplexDistance, PoissonDeviance
from ptycho.model.networks import Network, build_baseline, build_network, build_pinn
from ptycho.model.optimizer import compile_model
from ptycho.model.stopping import HeldOut, Patience, TrainingError, amplitudes_of, split_groups
from ptycho.physics import blocks

METHODS = ("pinn", "baseline")
EVALUATIONS = 20
"""Evaluations of the held-out likelihood in a training, about; at least one a pass."""
COST = 0.1
"""Share of a training's time that they may take."""
NEAR = 0.9
"""Share of the largest transmittance that a network can say, above which the mean of the data is a warning."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained."""

    epochs: int
    """Passes over the view, at most."""
    batch_size: int
    """Groups."""
    learning_rate: float
    """Adam's step at the start; it falls to a fiftieth along a cosine."""
    halve_after: int
    """Evaluations of the held-out likelihood without a better one until the rate is halved, and again."""
    patience: int
    """Evaluations without a better one until training ends."""
    trainable_probe: bool
    """Refine the probe too (PINN)."""

    def rate(self, progress: float) -> float:
        """Adam's step along the cosine, after this share of all steps."""
        return self.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


def transmission_of(container: PtychoDataContainer, groups=None, block_size: int = 64) -> float:
    """Mean amplitude transmittance, sqrt(detected / incident photons), of some groups, read block by block.

    Raises
    ------
    TrainingError
        If frames are not finite.
    """
    groups = np.arange(len(container)) if groups is None else groups
    total = sum(
        float(np.sum(np.square(amplitudes_of(container, groups[part]), dtype=np.float64)))
        for part in blocks(len(groups), block_size)
    )
    patterns = len(groups) * container._X_np.shape[-1]
    return float(np.sqrt(total / patterns / np.sum(np.abs(container._probe_np) ** 2, dtype=np.float64)))


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and judged by what."""

    network: keras.Model
    """What is saved."""
    model: keras.Model
    """What is fitted; it shares the network's weights."""
    physics: keras.Model
    """The network with the forward model behind it, see `build_pinn`: its predictions are judged."""
    loss: keras.Loss
    targets: str
    """Which targets of the container's stream the loss takes."""


def prepare(
    method: str, container: PtychoDataContainer, network: Network, *, spread: int, trainable_probe: bool, groups=None
):
    """Build the network of a method and what it is trained through.

    Parameters
    ----------
    groups : (b,) int, optional
        Groups that are trained on: their transmittance is the normalisation. Without, all.

    Returns
    -------
    Task

    Raises
    ------
    TrainingError
        If the method is unknown, or frames are not finite.
    """
    if method not in METHODS:
        raise TrainingError(f"method '{method}'; wanted one of {METHODS}")
    _, n, _, channels = container._X_np.shape
    probe = np.asarray(container._probe_np)
    network = build_network(n, channels, probe, network, transmission=transmission_of(container, groups))
    pinn = build_pinn(network, probe, spread, trainable_probe=trainable_probe and method == "pinn")
    if method == "pinn":
        return Task(network, pinn, pinn, PoissonDeviance(), "diffraction")
    intensity = np.abs(probe) ** 2
    loss = ComplexDistance((intensity / intensity.mean()).tolist())
    return Task(network, build_baseline(network), pinn, loss, "object")


class _Progress(keras.callbacks.Callback):
    """Sets the rate, evaluates, keeps the best weights, ends what gets no better or is not a number."""

    def __init__(self, training: Training, steps: int, heldout: HeldOut):
        super().__init__()
        self.training, self.steps, self.heldout = training, steps, heldout
        self.patience = Patience(training.halve_after, training.patience)
        self.rows, self.best, self.over = [], [], False
        wanted = max(
            training.epochs * steps / EVALUATIONS, len(heldout) / (3 * COST * training.batch_size)
        )  # a step is worth three predictions
        evaluations = max(int(steps / wanted), 1)
        self.marks = {steps * (i + 1) // evaluations for i in range(evaluations)}
        self.start, self.trained = time.monotonic(), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.seen, self.total = epoch, 0, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        done = (self.epoch * self.steps + batch) / (self.training.epochs * self.steps)
        self.model.optimizer.learning_rate = self.training.rate(done) * 0.5**self.patience.halvings

    def on_train_batch_end(self, batch, logs=None):
        step, self.trained = batch + 1, self.trained + 1
        self._check("loss", logs["loss"], step)
        if step in self.marks:
            total = logs["loss"] * step  # Keras gives the mean since the epoch's begin
            loss, self.total, self.seen = (total - self.total) / (step - self.seen), total, step
            self._evaluate(step, loss)

    def _check(self, name: str, value: float, step: int) -> None:
        if not np.isfinite(value):
            rate = float(self.model.optimizer.learning_rate)
            raise TrainingError(
                f"the {name} became {value} in epoch {self.epoch + 1} of {self.training.epochs}, step {step} of "
                f"{self.steps}, at a learning rate of {rate:.3g}: lower training.learning_rate, or look for NaN in the "
                "data"
            )

    def _evaluate(self, step: int, loss: float) -> None:
        rate, deviance = float(self.model.optimizer.learning_rate), self.heldout()
        self._check("stop exposures' deviance", deviance, step)
        if self.patience.better(deviance):
            self.best = values_of(self.model.weights)
        done, steps = self.epoch * self.steps + step, self.training.epochs * self.steps
        self.rows.append({"epoch": done / self.steps, "loss": loss, "stop_deviance": deviance, "learning_rate": rate})
        left = (time.monotonic() - self.start) / self.trained * (steps - done)
        print(
            f"epoch {self.epoch + 1}/{self.training.epochs}  step {step}/{self.steps}  loss {loss:.5g}  "
            f"stop deviance {deviance:.5g}  {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
        if self.patience.over:
            self.over = self.model.stop_training = True

    def save(self, backup: Backup, model: keras.Model) -> None:
        """Keep the state after a pass."""
        facts = {"epoch": self.epoch + 1, "rows": self.rows, "patience": self.patience.state()}
        optimizer = values_of(model.optimizer.variables)
        backup.save(facts, weights=values_of(model.weights), optimizer=optimizer, best=self.best)

    def restore(self, backup: Backup, model: keras.Model) -> int:
        """Take a saved state up; return the pass to go on with."""
        state = backup.load()
        if state is None:
            return 0
        facts, arrays = state
        assign(model.weights, arrays["weights"])
        assign(model.optimizer.variables, arrays["optimizer"])
        self.best, self.rows, self.patience = arrays["best"], facts["rows"], Patience(**facts["patience"])
        print(f"goes on after epoch {facts['epoch']} of {self.training.epochs}: {backup.path}", file=sys.stderr)
        return facts["epoch"]


def _doubts(network: keras.Model, options: Network) -> list[str]:
    """Say what in the options does not suit the data or the machine."""
    found, transmission = [], network.get_layer("backpropagation").transmission
    if transmission > NEAR * options.amplitude_max:
        found.append(
            f"the mean transmittance is {transmission:.3g}, and network.amplitude_max allows {options.amplitude_max:g} "
            "at most: brighter parts of the object will be cut"
        )
    if options.bfloat16 and not multiplies_bfloat16(tf.config):
        found.append("network.bfloat16: this machine has no such products, so that they are slower than float32")
    return found


def train(
    method: str,
    container: PtychoDataContainer,
    network: Network,
    training: Training,
    *,
    stop,
    spread: int,
    seed: int,
    backup: Backup | None = None,
):
    """Train a network; the same seed on the same machine gives the same weights, interrupted or not.

    Parameters
    ----------
    method : {"pinn", "baseline"}
    container : PtychoDataContainer
        Groups of the train split. For the PINN its truth is not read.
    stop : (m,) int
        Exposures that are not trained on: their likelihood decides which weights are kept, when the rate falls, and
        when it is enough, see `ptycho.model.stopping`.
    spread : int
        Largest extent of a group's positions [px].
    backup : Backup, optional
        Where the state goes after every pass, and where one of the same training is taken up.

    Returns
    -------
    network : keras.Model
        Patterns to patches, see `build_network`; the weights of the best held-out likelihood.
    history : DataFrame
        epoch (passes made), loss (mean since the row before), stop_deviance (held out), learning_rate; a row an
        evaluation.

    Raises
    ------
    TrainingError
        If data, loss or held-out likelihood are not finite, or no group is there to train on or to judge by.
    """
    keras.utils.set_random_seed(seed)
    groups, judges = split_groups(container.nn_indices, stop)
    task = prepare(method, container, network, spread=spread, trainable_probe=training.trainable_probe, groups=groups)
    for doubt in _doubts(task.network, network):
        print(f"WARNING: {doubt}", file=sys.stderr, flush=True)
    model = task.model
    compile_model(model, task.loss, training.learning_rate)
    heldout = HeldOut(container, judges, stop, task.physics, batch_size=training.batch_size, seed=seed)
    progress = _Progress(training, -(-len(groups) // training.batch_size), heldout)
    first = progress.restore(backup, model) if backup else 0
    stream = {"shuffle": True, "seed": seed, "targets": task.targets, "groups": groups}
    for epoch in range(first, training.epochs):
        batches = container.as_tf_dataset(training.batch_size, first_pass=epoch, **stream)
        model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, callbacks=[progress], verbose=0)
        if progress.over:
            print(f"no better for {training.patience} evaluations: enough", file=sys.stderr)
            break
        if backup:
            progress.save(backup, model)
    assign(model.weights, progress.best)
    return task.network, pd.DataFrame(progress.rows)
