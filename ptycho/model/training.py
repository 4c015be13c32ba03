"""Training a network on a container: PINN from the counts alone, Baseline from the truth."""

import logging
import time
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.loader import PtychoDataContainer
from ptycho.model.checkpoints import Backup, assign, values_of
from ptycho.model.early_stopping import Patience, TrainingError, ValidationDeviance, amplitudes_of, split_groups
from ptycho.model.losses import ComplexDistance, PoissonDeviance
from ptycho.model.networks import NetworkOptions, build_baseline, build_network, build_pinn
from ptycho.model.optimizer import compile_model, cosine_rate
from ptycho.physics.forward import blocks, mean_transmittance

METHODS = ("pinn", "baseline")
EVALUATIONS = 20
"""Evaluations of the validation deviance in a training, about; at least one a pass."""
MAX_EVALUATION_TIME = 0.1
"""Fraction of a training's time that they may take."""
MAX_MEAN_TRANSMITTANCE = 0.9
"""Mean transmittance of the data, as a fraction of the largest that a network can return, above which it warns."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a network is trained."""

    epochs: int
    """Passes over the view, at most."""
    batch_size: int
    """Groups."""
    learning_rate: float
    """Adam's at the start; it falls to a fiftieth along a cosine."""
    lr_patience: int
    """Evaluations of the validation deviance without improvement after which the rate is halved, and again."""
    early_stopping_patience: int
    """Evaluations without improvement after which training stops."""
    trainable_probe: bool
    """Refine the probe too (PINN)."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What differs from one training to the next."""

    validation: NDArray[np.int64]
    """(m,) exposures that are not trained on: their deviance decides which weights are kept, when the rate falls and
    when training stops, see `ptycho.model.early_stopping`."""
    spread: int
    """Largest extent of a group's positions [px]."""
    seed: int
    backup: Backup | None = None
    """Keeps the state after every pass; the same training resumes from it."""


def transmittance_of(container: PtychoDataContainer, groups=None, block_size: int = 64) -> float:
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
    return mean_transmittance(total, len(groups) * container.channels, container.probe_array)


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and validated by what."""

    network: keras.Model
    """What is saved."""
    model: keras.Model
    """What is fitted; it shares the network's weights."""
    physics: keras.Model
    """The network with the forward model behind it, see `build_pinn`: its predictions are validated."""
    loss: keras.Loss
    targets: str
    """Which targets of the container's stream the loss takes."""


def prepare(
    method: str,
    container: PtychoDataContainer,
    network: NetworkOptions,
    *,
    spread: int,
    trainable_probe: bool,
    groups=None,
) -> Task:
    """Build the network of a method and what it is trained through.

    Parameters
    ----------
    groups : (b,) int, optional
        Groups that are trained on: their transmittance is the normalization. Without, all.

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
    probe, shape = container.probe_array, (container.n_pixels, container.channels)
    built = build_network(*shape, probe, network, transmittance=transmittance_of(container, groups))
    pinn = build_pinn(built, probe, spread, trainable_probe=trainable_probe and method == "pinn")
    if method == "pinn":
        return Task(built, pinn, pinn, PoissonDeviance(), "diffraction")
    intensity = np.abs(probe) ** 2
    loss = ComplexDistance((intensity / intensity.mean()).tolist())
    return Task(built, build_baseline(built), pinn, loss, "object")


class _Progress(keras.callbacks.Callback):
    """Sets the rate, validates, keeps the best weights; stops a training that does not improve or is not finite."""

    def __init__(self, training: TrainingOptions, steps: int, deviance: ValidationDeviance):
        super().__init__()
        self.training, self.steps, self.deviance = training, steps, deviance
        self.rate = cosine_rate(training.learning_rate, training.epochs * steps)
        self.patience = Patience(training.lr_patience, training.early_stopping_patience)
        self.rows: list[dict] = []
        self.best: list[NDArray] = []
        self.over = False
        wanted = max(
            training.epochs * steps / EVALUATIONS, len(deviance) / (3 * MAX_EVALUATION_TIME * training.batch_size)
        )  # a step is worth three predictions
        evaluations = max(int(steps / wanted), 1)
        self.marks = {steps * (i + 1) // evaluations for i in range(evaluations)}
        self.start, self.trained = time.monotonic(), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.seen, self.total = epoch, 0, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        rate = self.rate(self.epoch * self.steps + batch)
        self.model.optimizer.learning_rate = rate * 0.5**self.patience.halvings

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
        rate, value = float(self.model.optimizer.learning_rate), self.deviance()
        self._check("validation deviance", value, step)
        if self.patience.better(value):
            self.best = values_of(self.model.weights)
        done, steps = self.epoch * self.steps + step, self.training.epochs * self.steps
        numbers = {"loss": loss, "validation_deviance": value, "learning_rate": rate}
        self.rows.append({"epoch": done / self.steps, **numbers})
        remaining = (time.monotonic() - self.start) / self.trained * (steps - done)
        where = f"epoch {self.epoch + 1}/{self.training.epochs}  step {step}/{self.steps}"
        _logger.info("%s  loss %.5g  validation deviance %.5g  %.0f s left", where, loss, value, remaining)
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
        _logger.info("resumes after epoch %d of %d: %s", facts["epoch"], self.training.epochs, backup.path)
        return facts["epoch"]


def _warn_if_too_bright(network: keras.Model, options: NetworkOptions) -> None:
    """Warn where the data are brighter than what the network can return."""
    transmittance = network.get_layer("inverse_diffraction").transmittance
    if transmittance > MAX_MEAN_TRANSMITTANCE * options.amplitude_max:
        _logger.warning(
            "The mean transmittance is %.3g, and network.amplitude_max allows %g at most: brighter parts of the object "
            "will be clipped.",
            transmittance,
            options.amplitude_max,
        )


def train(
    method: str,
    container: PtychoDataContainer,
    network: NetworkOptions,
    training: TrainingOptions,
    run: TrainingRun,
) -> tuple[keras.Model, pd.DataFrame]:
    """Train a network; the same seed on the same machine gives the same weights, interrupted or not.

    Parameters
    ----------
    method : {"pinn", "baseline"}
    container : PtychoDataContainer
        Groups of the train split. For the PINN its truth is not read.

    Returns
    -------
    network : keras.Model
        Patterns to patches, see `build_network`; the weights with the lowest validation deviance.
    history : DataFrame
        epoch (passes made), loss (mean since the row before), validation_deviance, learning_rate; a row an evaluation.

    Raises
    ------
    TrainingError
        If data, loss or validation deviance are not finite, or there is no group to train or to validate on.
    """
    keras.utils.set_random_seed(run.seed)
    groups, validation_groups = split_groups(container.nn_indices, run.validation)
    task = prepare(
        method, container, network, spread=run.spread, trainable_probe=training.trainable_probe, groups=groups
    )
    _warn_if_too_bright(task.network, network)
    model, size = task.model, training.batch_size
    compile_model(model, task.loss, training.learning_rate)
    deviance = ValidationDeviance(
        container, validation_groups, run.validation, task.physics, batch_size=size, seed=run.seed
    )
    progress = _Progress(training, -(-len(groups) // size), deviance)
    first = progress.restore(run.backup, model) if run.backup else 0
    for epoch in range(first, training.epochs):
        batches = container.as_tf_dataset(
            size, shuffle=True, seed=run.seed, targets=task.targets, groups=groups, first_pass=epoch
        )
        model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, callbacks=[progress], verbose=0)
        if progress.over:
            _logger.info("early stopping, no improvement in %d evaluations", training.early_stopping_patience)
            break
        if run.backup:
            progress.save(run.backup, model)
    assign(model.weights, progress.best)
    return task.network, pd.DataFrame(progress.rows)
