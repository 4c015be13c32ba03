"""Training a network on a container: PINN from the counts alone, Baseline from the truth."""

import sys
import time
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from ptycho.loader import PtychoDataContainer
from ptycho.model.losses import ComplexDistance, PoissonDeviance
from ptycho.model.networks import Network, build_baseline, build_network, build_pinn
from ptycho.physics import blocks

METHODS = ("pinn", "baseline")


class TrainingError(ValueError):
    """Training cannot go on: the message says why."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained."""

    epochs: int
    """Passes over the view."""
    batch_size: int
    """Groups."""
    learning_rate: float
    """Adam's step at the start; it falls to a fiftieth along a cosine."""
    trainable_probe: bool
    """Refine the probe too (PINN)."""


def transmission_of(container: PtychoDataContainer, block_size: int = 64) -> float:
    """Mean amplitude transmittance, sqrt(detected / incident photons), read block by block."""
    patterns = len(container) * container._X_np.shape[-1]
    total = sum(
        float(np.sum(np.square(container._X_np[part], dtype=np.float64))) for part in blocks(len(container), block_size)
    )
    return float(np.sqrt(total / patterns / np.sum(np.abs(container._probe_np) ** 2, dtype=np.float64)))


def prepare(method: str, container: PtychoDataContainer, network: Network, *, spread: int, trainable_probe: bool):
    """Build the network of a method and what it is trained through.

    Returns
    -------
    network, model : keras.Model
        What is saved, and what is fitted (it shares the network's weights).
    loss : keras.Loss
    targets : str
        Which targets of the container's stream the loss takes.

    Raises
    ------
    TrainingError
        If the method is unknown.
    """
    _, n, _, channels = container._X_np.shape
    probe = np.asarray(container._probe_np)
    network = build_network(n, channels, probe, network, transmission=transmission_of(container))
    if method == "pinn":
        return (
            network,
            build_pinn(network, probe, spread, trainable_probe=trainable_probe),
            PoissonDeviance(),
            "diffraction",
        )
    if method == "baseline":
        intensity = np.abs(probe) ** 2
        return network, build_baseline(network), ComplexDistance((intensity / intensity.mean()).tolist()), "object"
    raise TrainingError(f"method '{method}'; wanted one of {METHODS}")


class _Progress(keras.callbacks.Callback):
    """Twenty rows of history and twenty lines on stderr; an end at the first loss that is not a number."""

    def __init__(self, epochs: int, steps: int, schedule):
        super().__init__()
        self.epochs, self.steps, self.schedule, self.rows = epochs, steps, schedule, []
        self.every, self.start = max(epochs * steps // 20, 1), time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.seen, self.total = epoch, 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        step = batch + 1
        done = self.epoch * self.steps + step
        if done % self.every and step < self.steps:
            return
        total = logs["loss"] * step  # Keras gives the mean since the epoch's begin
        loss, self.total, self.seen = (total - self.total) / (step - self.seen), total, step
        if not np.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in epoch {self.epoch + 1}: "
                "lower training.learning_rate, or look for NaN in the data"
            )
        rate = float(self.schedule(done))
        self.rows.append({"epoch": done / self.steps, "loss": loss, "learning_rate": rate})
        left = (time.monotonic() - self.start) * (self.epochs * self.steps - done) / done
        print(
            f"epoch {self.epoch + 1}/{self.epochs}  step {step}/{self.steps}  loss {loss:.5g}  {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def train(method: str, container: PtychoDataContainer, network: Network, training: Training, *, spread: int, seed: int):
    """Train a network; the same seed on the same machine gives the same weights.

    Parameters
    ----------
    method : {"pinn", "baseline"}
    container : PtychoDataContainer
        Groups of the train split. For the PINN its truth is not read.
    spread : int
        Largest extent of a group's positions [px].

    Returns
    -------
    network : keras.Model
        Patterns to patches, see `build_network`.
    history : DataFrame
        epoch (passes made), loss (mean since the row before), learning_rate; some twenty rows.
    """
    keras.utils.set_random_seed(seed)
    network, model, loss, targets = prepare(
        method, container, network, spread=spread, trainable_probe=training.trainable_probe
    )
    batches = container.as_tf_dataset(training.batch_size, shuffle=True, seed=seed, targets=targets)
    steps = int(batches.cardinality())
    schedule = keras.optimizers.schedules.CosineDecay(training.learning_rate, training.epochs * steps, alpha=0.02)
    model.compile(optimizer=keras.optimizers.Adam(schedule), loss=loss)
    progress = _Progress(training.epochs, steps, schedule)
    model.fit(batches, epochs=training.epochs, shuffle=False, callbacks=[progress], verbose=0)
    return network, pd.DataFrame(progress.rows)
