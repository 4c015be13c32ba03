"""Training of PINN and Baseline on a container: the PINN from the counts alone, the Baseline from the truth.

In every step a group is drawn at random and its photons are split anew into two independent sets. The network sees an
estimate from the first. The PINN's loss is the likelihood of the second, over all incoherent modes of the probe: their
noise is independent, so the network cannot learn it (Batson and Royer, Noise2Self, ICML 2019). The Baseline's loss is
the distance to the truth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.data.grouping import central_exposures
from ptycho.loader import PtychoDataContainer
from ptycho.model.checkpoints import Backup
from ptycho.model.early_stopping import TrainingError, split_groups
from ptycho.model.group_examples import GroupExamples, transmittance_of
from ptycho.model.losses import canvas_amplitude_error, canvas_deviance, canvas_distance
from ptycho.model.networks import METHODS, CanvasModel, Estimator, NetworkOptions, build_network
from ptycho.model.trained_probe import TrainedProbe
from ptycho.model.unet_training import Example, Trainer, TrainingSet, UNetOptions
from ptycho.reconstruction.counts import Counts

LOSSES: dict[str, Callable[..., tf.Tensor]] = {"poisson": canvas_deviance, "mae": canvas_amplitude_error}
"""Losses of the PINN."""
TARGETS = {"unseen": "photons", "all": "all_photons"}
"""Photons of a group that the PINN predicts -> method of `GroupExamples` that makes examples of them."""
PROBES = ("fixed", "trained")
"""Whether the PINN takes the probe for known, or moves it with its weights."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Parameters of the training of a network."""

    steps: int
    """Steps of Adam, one group per step."""
    learning_rate: float
    """Adam's rate at the start; it falls along a cosine, and is halved after a round without improvement."""
    fit_fraction: float
    """Fraction of the photons that the network sees in training; the rest is predicted."""
    loss: str
    """Loss of the PINN, one of `LOSSES`."""
    target: str = "unseen"
    """Photons that the PINN predicts, one of `TARGETS`."""
    probe: str = "fixed"
    """Probe of the PINN, one of `PROBES`."""
    exposures: int | None = None
    """Exposures to train on, validation included, see `groups_within`; None: all."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Settings of one training."""

    validation: NDArray[np.int64]
    """(m,) exposures that are not trained on: the deviance of their photons, other than those that the network sees,
    decides which weights are kept, when the rate is halved and when training stops."""
    seed: int
    """Seed of the weights, of the draw of groups and of the splits of their photons."""
    backup: Backup | None = None
    """Stores the state after every round, from which the same training resumes; default: no backup."""


def groups_within(container: PtychoDataContainer, exposures: int | None) -> NDArray[np.int64]:
    """Return the groups all of whose exposures are among some around the middle of the scan, (b,) int64.

    Parameters
    ----------
    container : PtychoDataContainer
        Groups of the train split.
    exposures : int or None
        Number of exposures, of those that are in any group, see `ptycho.data.grouping.central_exposures`; None: all.
    """
    if exposures is None:
        return np.arange(len(container))
    indices = np.asarray(container.nn_indices)
    known = indices >= 0
    positions = np.asarray(container.global_offsets + container.local_offsets)[:, 0].swapaxes(1, 2)
    members, first = np.unique(indices[known], return_index=True)
    central = members[central_exposures(positions[known][first], exposures)]
    return np.flatnonzero((np.isin(indices, central) | ~known).all(axis=1))


def _training_set(
    method: str,
    examples: GroupExamples,
    groups: NDArray[np.int64],
    validation: Callable[[], list[Example]],
    options: TrainingOptions,
) -> TrainingSet:
    make, loss = getattr(examples, TARGETS[options.target]), LOSSES[options.loss]
    if method == "baseline":
        make, loss = examples.truth, canvas_distance

    def draw(rng: np.random.Generator) -> Example:
        return make(int(groups[rng.integers(len(groups))]), rng)

    return TrainingSet(draw=draw, count=len(groups), validation=validation, loss=loss, probe=examples.probe)


def _validation(
    examples: GroupExamples, groups: NDArray[np.int64], validation: NDArray[np.int64], seed: int
) -> list[Example]:
    """Make one example of each validation group, in which its validation exposures are predicted.

    The photons are split in the same way in every call.
    """
    rng, members = np.random.default_rng([seed, 1]), examples.container.members
    return [
        examples.photons(group, rng, np.flatnonzero(np.isin(members(group), validation))) for group in groups.tolist()
    ]


def _check(method: str, container: PtychoDataContainer, training: TrainingOptions) -> None:
    """Refuse what cannot be trained, see `train`."""
    known = {"loss": tuple(LOSSES), "target": tuple(TARGETS), "probe": PROBES}
    if method not in METHODS:
        raise TrainingError(f"method '{method}'; wanted one of {METHODS}")
    for name, values in known.items():
        if (value := getattr(training, name)) not in values:
            raise TrainingError(f"{name} '{value}'; wanted one of {values}")
    if (training.probe, training.loss) == ("trained", "mae"):
        raise TrainingError("probe 'trained' with loss 'mae'; wanted loss 'poisson', the one that moves a probe")
    if method == "baseline" and container.YY_full is None:
        raise TrainingError("the Baseline learns from the truth, but this container has none (YY_full is None)")


def train(
    method: str,
    container: PtychoDataContainer,
    network: NetworkOptions,
    training: TrainingOptions,
    run: TrainingRun,
) -> tuple[CanvasModel, pd.DataFrame]:
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
    model : CanvasModel
        Network with the weights of the lowest validation deviance, the estimate that it sees, and the probe that
        belongs to them, if that was trained.
    history : DataFrame
        epoch (passes over the groups), loss, validation_deviance, learning_rate; one row per round.

    Raises
    ------
    TrainingError
        If the method, its loss, target or probe is unknown, a probe is to be trained with another loss than the
        likelihood, there is no group to train or to validate on, or the Baseline finds no truth.
    ValueError
        If counts or the loss are not finite.
    """
    _check(method, container, training)
    keras.utils.set_random_seed(run.seed)
    within = groups_within(container, training.exposures)
    groups, validation_groups = (within[part] for part in split_groups(container.nn_indices[within], run.validation))
    estimator = Estimator(
        physics_iterations=network.physics_iterations,
        transmittance=transmittance_of(container, groups),
        n_pixels=container.n_pixels,
    )
    probe = None
    if method == "pinn" and training.probe == "trained":
        probe = TrainedProbe(
            container.probe_array,
            fraction=1 - training.fit_fraction if training.target == "unseen" else 1.0,
            transmittance=estimator.transmittance,
            n_valid=Counts.of_group(container, 0).detector.n_valid(container.n_pixels),
        )
    examples = GroupExamples(container=container, estimator=estimator, fit_fraction=training.fit_fraction, probe=probe)
    validation = partial(_validation, examples, validation_groups, run.validation, run.seed)
    built = build_network(estimator, network.filters)
    options = UNetOptions(filters=network.filters, steps=training.steps, learning_rate=training.learning_rate)
    training_set = _training_set(method, examples, groups, validation, training)
    trainer = Trainer(built, training_set, options, [run.seed, 0])
    history = trainer.resume(method, run.backup)
    return CanvasModel(built, estimator, None if probe is None else probe.value), history
