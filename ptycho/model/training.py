"""Training of a network on a container: PINN from the counts alone, Baseline from the truth."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.loader import PtychoDataContainer
from ptycho.model.checkpoints import Backup, assign, values_of
from ptycho.model.early_stopping import Patience, TrainingError, ValidationDeviance, split_groups
from ptycho.model.networks import NetworkOptions
from ptycho.model.optimizer import compile_model, cosine_rate
from ptycho.model.task import prepare

EVALUATIONS = 20
"""Approximate number of evaluations of the validation deviance in a training; at least one per pass."""
MAX_EVALUATION_TIME = 0.1
"""Largest fraction of a training's time for these evaluations."""
MAX_MEAN_TRANSMITTANCE = 0.9
"""Mean transmittance of the data above which a warning is logged, as a fraction of `amplitude_max`."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Parameters of the training of a network."""

    epochs: int
    """Largest number of passes over the view."""
    batch_size: int
    """Groups per batch."""
    learning_rate: float
    """Adam's rate at the start; it falls to a fiftieth along a cosine."""
    lr_patience: int
    """Evaluations of the validation deviance without improvement after which the rate is halved, repeatedly."""
    early_stopping_patience: int
    """Evaluations without improvement after which training stops."""
    trainable_probe: bool
    """Refine the probe, too (PINN)."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Settings of one training."""

    validation: NDArray[np.int64]
    """(m,) exposures that are not trained on: their deviance decides which weights are kept, when the rate falls and
    when training stops, see `ptycho.model.early_stopping`."""
    max_spread_px: int
    """Largest extent of a group's positions along an axis [px]."""
    seed: int
    """Seed of the weights, the order of the groups, and the split of the validation photons."""
    backup: Backup | None = None
    """Stores the state after every pass, from which the same training resumes; default: no backup."""


class _Progress(keras.callbacks.Callback):
    """Set the rate, validate, keep the best weights; stop a training that does not improve or is not finite."""

    def __init__(self, training: TrainingOptions, steps: int, deviance: ValidationDeviance):
        super().__init__()
        self.training, self.steps, self.deviance = training, steps, deviance
        self.rate = cosine_rate(training.learning_rate, training.epochs * steps)
        self.patience = Patience(training.lr_patience, training.early_stopping_patience)
        self.rows: list[dict[str, Any]] = []
        self.best: list[NDArray[Any]] = []
        self.over = False
        wanted = max(
            training.epochs * steps / EVALUATIONS, len(deviance) / (3 * MAX_EVALUATION_TIME * training.batch_size)
        )  # a step costs as much as three predictions
        evaluations = max(int(steps / wanted), 1)
        self.marks = {steps * (i + 1) // evaluations for i in range(evaluations)}
        self.start, self.trained = time.monotonic(), 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch, self.seen, self.total = epoch, 0, 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        rate = self.rate(self.epoch * self.steps + batch)
        self.model.optimizer.learning_rate = rate * 0.5**self.patience.halvings

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step, self.trained = batch + 1, self.trained + 1
        self._check("loss", logs["loss"], step)
        if step in self.marks:
            total = logs["loss"] * step  # Keras reports the mean since the start of the epoch
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
        """Store the state after a pass."""
        facts = {"epoch": self.epoch + 1, "rows": self.rows, "patience": self.patience.state()}
        optimizer = values_of(model.optimizer.variables)
        backup.save(facts, weights=values_of(model.weights), optimizer=optimizer, best=self.best)

    def restore(self, backup: Backup, model: keras.Model) -> int:
        """Continue from a saved state; return the number of the next pass."""
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
    """Log a warning if the data are brighter than the network's largest amplitude."""
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
        Method that the network belongs to.
    container : PtychoDataContainer
        Groups of the train split. For the PINN the truth is not read.
    network : NetworkOptions
        Architecture of the network.
    training : TrainingOptions
        Parameters of the training.
    run : TrainingRun
        Validation exposures, seed and backup.

    Returns
    -------
    network : keras.Model
        Patterns to patches, see `build_network`, with the weights of the lowest validation deviance.
    history : DataFrame
        epoch (passes made), loss (mean since the row before), validation_deviance, learning_rate; one row per
        evaluation.

    Raises
    ------
    TrainingError
        If data, loss or validation deviance are not finite, or there is no group to train or to validate on.
    """
    keras.utils.set_random_seed(run.seed)
    groups, validation_groups = split_groups(container.nn_indices, run.validation)
    task = prepare(
        method,
        container,
        network,
        max_spread_px=run.max_spread_px,
        trainable_probe=training.trainable_probe,
        groups=groups,
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
