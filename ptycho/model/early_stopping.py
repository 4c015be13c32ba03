"""Early stopping: validation by the likelihood of photons that the network neither learns from nor sees, without truth.

Groups with a validation exposure are not trained on; some of them are used for validation. The network predicts the
pattern that it sees, so a network that only copies the noise would look good. The photons of a validation group are
therefore split into two independent sets: one is the input, and the Poisson deviance of the other is computed (Batson
and Royer, Noise2Self, ICML 2019).
"""

from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from ptycho.loader import PtychoDataContainer
from ptycho.physics.forward import blocks
from ptycho.physics.noise import poisson_deviance

FIT_FRACTION = 0.8
"""Fraction of a validation group's photons that is the network's input."""
MAX_GROUPS = 64
"""Largest number of validation groups: enough for a comparison, cheap to compute."""


class TrainingError(ValueError):
    """A network cannot be trained; the message says why."""


def amplitudes_of(container: PtychoDataContainer, groups: NDArray[np.int64]) -> NDArray[np.float32]:
    """Read the frames of some groups, (b, N, N, C).

    Parameters
    ----------
    container : PtychoDataContainer
        Groups of a scan.
    groups : (b,) int64
        Indices of the groups to read.

    Raises
    ------
    TrainingError
        If frames are not finite; the message names the exposures.
    """
    frames = container.frames[groups]
    broken = ~np.isfinite(frames).all(axis=(1, 2))
    if broken.any():
        exposures = np.unique(container.nn_indices[groups][broken])
        raise TrainingError(
            f"diffraction is not finite in {len(exposures)} exposures of groups {groups[0]} to {groups[-1]}: "
            f"{', '.join(map(str, exposures[:8]))}{', …' * (len(exposures) > 8)}"
        )
    return frames


def split_groups(nn_indices: ArrayLike, validation: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split groups into those without and those with a validation exposure.

    Parameters
    ----------
    nn_indices : (B, C) int
        Exposures of each group.
    validation : (m,) int
        Validation exposures.

    Returns
    -------
    fit : (b,) int64
        Groups without a validation exposure, to train on.
    validation_groups : (k,) int64
        Groups to validate on: one for every validation exposure that is in a group, at most `MAX_GROUPS`, spread over
        the scan.

    Raises
    ------
    TrainingError
        If either is empty.
    """
    nn_indices, validation = np.asarray(nn_indices), np.asarray(validation)
    is_validation = np.isin(nn_indices, validation)
    rows, columns = np.nonzero(is_validation)
    fit, touched = np.flatnonzero(~is_validation.any(axis=1)), np.unique(rows)
    if not len(fit) or not len(touched):
        raise TrainingError(
            f"{len(touched)} of {len(nn_indices)} groups hold one of the {len(validation)} validation exposures; "
            "wanted some that do, for early stopping, and some that do not, to train on: more grouping.n_groups, or "
            "another grouping.holdout_fraction"
        )
    first = np.unique(nn_indices[rows, columns], return_index=True)[1]
    groups = np.unique(rows[first])
    return fit, groups[np.unique(np.linspace(0, len(groups) - 1, MAX_GROUPS).round().astype(int))]


class ValidationDeviance:
    """Poisson deviance per pixel of validation exposures, for photons that are not in the network's input.

    Parameters
    ----------
    container : PtychoDataContainer
        Groups of a scan; the truth is not read.
    groups : (k,) int64
        Validation groups; their frames are read once and kept.
    validation : (m,) int64
        Validation exposures; the others of a group do not count.
    model : keras.Model
        Network with the forward model, see `ptycho.model.networks.build_pinn`.
    batch_size : int
        Groups that are predicted at once.
    seed : int
        Seed of the split of the photons.
    """

    def __init__(
        self,
        container: PtychoDataContainer,
        groups: NDArray[np.int64],
        validation: NDArray[np.int64],
        model: keras.Model,
        *,
        batch_size: int,
        seed: int,
    ):
        counts = np.rint(np.square(amplitudes_of(container, groups), dtype=np.float64)).astype(np.int64)
        seen = np.random.default_rng(seed).binomial(counts, FIT_FRACTION)
        positions = np.asarray(container.offsets[groups], np.float32)
        self.inputs = {"diffraction": np.sqrt(seen / FIT_FRACTION).astype(np.float32), "positions": positions}
        self.chosen = np.isin(container.nn_indices[groups], validation)
        self.counts = _frames(counts - seen)[self.chosen]
        self.batch_size, self.predict = min(batch_size, len(groups)), tf.function(model, reduce_retracing=True)

    def __len__(self) -> int:
        return len(self.chosen)

    def __call__(self) -> float:
        """Return the deviance for the model's present weights."""
        predicted = []
        for block in blocks(len(self.chosen), self.batch_size):
            index = np.arange(block.start, block.start + self.batch_size) % len(self.chosen)  # full batches: one graph
            mean = self.predict({name: tf.constant(array[index]) for name, array in self.inputs.items()})
            predicted.append(_frames(mean.numpy())[: block.stop - block.start])
        return poisson_deviance(self.counts, (1 - FIT_FRACTION) * np.concatenate(predicted)[self.chosen].astype(float))


def _frames(grouped: NDArray[Any]) -> NDArray[Any]:
    """Bring the channels of (B, N, N, C) groups forward: (B, C, N, N)."""
    return np.moveaxis(grouped, -1, 1)


@dataclass
class Patience:
    """Lowest validation deviance so far, halvings of the learning rate, and when to stop."""

    lr_patience: int
    """Evaluations without improvement after which the learning rate is halved, repeatedly."""
    early_stopping_patience: int
    """Evaluations without improvement after which training stops."""
    best: float = float("inf")
    """Lowest deviance so far."""
    since: int = 0
    """Evaluations since the lowest one."""
    halvings: int = 0
    """Number of times that the learning rate was halved."""

    def better(self, deviance: float) -> bool:
        """Take the next deviance; return whether it is the lowest so far."""
        if deviance < self.best:
            self.best, self.since = deviance, 0
            return True
        self.since += 1
        self.halvings += self.since % self.lr_patience == 0
        return False

    @property
    def over(self) -> bool:
        """Whether training should stop."""
        return self.since >= self.early_stopping_patience

    def state(self) -> dict[str, Any]:
        """Return the fields as JSON-serializable values."""
        return asdict(self)
