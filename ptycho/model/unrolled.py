"""Unrolled reconstruction: stages of optimization, a U-Net that sees the result of each, a few more iterations.

L-BFGS stages on Poisson likelihood and total variation with decreasing weight (`ptycho.reconstruction.schedule`), then
a U-Net, then final L-BFGS iterations. The U-Net is trained without truth, on tiles of the train split, by photons that
it does not see (`ptycho.model.unet`); the weight of the prior is chosen in the same way.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.object_files import Reconstruction, Refined
from ptycho.data.tiles import cut_tiles, fullest
from ptycho.model.checkpoints import Backup
from ptycho.model.unet import build_unet, correct
from ptycho.model.unet_training import Example, Trainer, TrainingSet, UNetOptions, target_of
from ptycho.reconstruction.counts import Counts, split_counts
from ptycho.reconstruction.devices import MEMORY_FRACTION, choose_device
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.schedule import Schedule
from ptycho.reconstruction.tv_weight import TVOptions, choose_tv_weight
from ptycho.workflow.job import CpuClock

VALIDATION_FRACTION = 0.08
"""Fraction of the photons that is never trained on: their deviance decides which weights are kept."""
VALIDATION_TILES = 12
"""Largest number of tiles in which that deviance is computed."""
MINIBATCH_GAIN = 0.01
"""Fraction by which mini-batch epochs must lower the validation deviance to be used: a smaller gain does
not predict the error."""
BLOCK_SIZE = 64
"""Exposures per block in an inference, whatever the batch size: mini-batches are drawn within blocks."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UnrolledOptions(UNetOptions):
    """Stages of the optimization, and architecture and training of the network."""

    stages: int
    """Stages before the network: the last has the chosen λ, each earlier one twice that of the next."""
    minibatch_epochs: int
    """Mini-batch epochs in place of the first stage, used if they lower the validation deviance by at least 1 %; 0:
    never."""
    iterations: int
    """L-BFGS iterations of every stage but the last."""
    phase_iterations: int
    """L-BFGS iterations in the slow phase alone, after every stage but the last."""
    final_iterations: int
    """L-BFGS iterations of the last stage."""
    post_iterations: int
    """L-BFGS iterations after the network."""
    tile_px: float
    """Largest extent of the positions of a training tile [px]."""
    tiles: int
    """Number of training tiles, each with a split of the photons of its own."""
    fit_fraction: float
    """Fraction of the photons to reconstruct from in training; the rest is predicted."""


@dataclass(frozen=True)
class UnrolledModel:
    """Trained network and the optimization around it."""

    network: keras.Model
    """Features to a correction, see `ptycho.model.unet.build_unet`."""
    schedule: Schedule
    """Parameters of the optimization."""
    device: str = "auto"
    """Where the optimization is computed, see `ptycho.reconstruction.devices.choose_device`."""
    device_memory: float = MEMORY_FRACTION
    """Fraction of a GPU's free memory that may be in use when exposures are kept there."""

    @property
    def chosen(self) -> dict[str, float]:
        """Weight of the prior."""
        return {"tv_weight": self.schedule.tv_weight}

    def refined(self, probe: NDArray[np.complexfloating]) -> Refined | None:
        """Nothing is refined: return None."""
        return None

    def reconstruct(self, counts: Counts, probe: NDArray[np.complexfloating]) -> Reconstruction:
        """Reconstruct exposures on one canvas, see `ptycho.model.inference.Model`; `chosen` has `tv_weight`.

        Raises
        ------
        ValueError
            If the network was trained on patterns of another size, or the device cannot be used.
        """
        counts = replace(counts, block_size=BLOCK_SIZE)
        device = choose_device(self.device, self.device_memory)
        clock, likelihood, schedule = CpuClock(), Likelihood(counts, probe, device=device), self.schedule
        schedule.check(probe)
        ends = schedule.before(likelihood)
        corrected = correct(self.network, device.to_host(ends[-1]), schedule.features(likelihood, ends))
        obj = schedule.after(likelihood, device.to_device(corrected))
        return Reconstruction(
            object=device.to_host(obj),
            illumination=device.to_host(likelihood.illumination()),
            origin_px=likelihood.origin_px,
            cpu_s=clock.seconds,
            chosen=self.chosen,
        )


@dataclass
class _Tile:
    """Likelihoods of three independent sets of photons in a training tile."""

    fit: Likelihood
    """Photons to reconstruct from."""
    target: Likelihood
    """Photons to predict in training."""
    validation: Likelihood
    """Photons to predict in validation."""


def _cut_tiles(
    counts: Counts, probe: NDArray[np.complexfloating], options: UnrolledOptions, seed: int
) -> Iterator[_Tile]:
    rng = np.random.default_rng([seed, 0])
    rest, validation = split_counts(counts, 1 - VALIDATION_FRACTION, seed)
    half, fraction = options.tile_px / 2, (1 - VALIDATION_FRACTION) * options.fit_fraction
    for _ in range(options.tiles):
        center = rng.integers(len(counts))
        near = [np.abs(axis - axis[center]) <= half for axis in (counts.xcoords, counts.ycoords)]
        chosen = np.flatnonzero(near[0] & near[1])
        fit, target = split_counts(rest.select(chosen), options.fit_fraction, int(rng.integers(1 << 31)))
        yield _Tile(
            Likelihood(fit, probe, fraction),
            Likelihood(target, probe, 1 - VALIDATION_FRACTION - fraction, cache_bytes=0),
            Likelihood(validation.select(chosen), probe, VALIDATION_FRACTION, cache_bytes=0),
        )


def _examples(
    counts: Counts, probe: NDArray[np.complexfloating], options: UnrolledOptions, schedule: Schedule, seed: int
) -> tuple[list[Example], list[Example]]:
    """Run the stages in every training tile; return the examples to train on, and those to validate on."""
    examples, validation, fraction = [], [], (1 - VALIDATION_FRACTION) * options.fit_fraction
    tiles = tqdm(_cut_tiles(counts, probe, options, seed), "stages", options.tiles, unit="tile", mininterval=5)
    for number, tile in enumerate(tiles):
        ends = schedule.before(tile.fit, np.sqrt(fraction))
        features, origin = schedule.features(tile.fit, ends), tile.fit.origin_px
        examples.append(Example(ends[-1], features, target_of(tile.target, origin)))
        if number < VALIDATION_TILES:
            validation.append(Example(ends[-1], features, target_of(tile.validation, origin)))
    return examples, validation


def _choose_minibatch_epochs(
    counts: Counts,
    probe: NDArray[np.complexfloating],
    schedule: Schedule,
    count: int,
    fraction: float,
    seed: int,
) -> Schedule:
    """Return the schedule with mini-batch epochs if they clearly lower the validation deviance, else unchanged.

    Parameters
    ----------
    counts : Counts
        Exposures of one tile.
    count : int
        Number of mini-batch epochs.
    fraction : float
        Fraction of the photons to reconstruct from.
    """
    parts = zip(split_counts(counts, fraction, seed), (fraction, 1 - fraction), strict=True)
    fit, validation = (Likelihood(part, probe, of_all) for part, of_all in parts)
    choices = schedule, replace(schedule, minibatch_epochs=count)
    without, with_epochs = (
        2 * validation(choice.before(fit, np.sqrt(fraction))[-1])[0] / validation.n_values for choice in choices
    )
    _logger.info("validation deviance with %d mini-batch epochs %.5g, without %.5g", count, with_epochs, without)
    return choices[with_epochs < (1 - MINIBATCH_GAIN) * without]


def train_unrolled(
    counts: Counts,
    probe: NDArray[np.complexfloating],
    options: UnrolledOptions,
    prior: TVOptions,
    *,
    seed: int,
    backup: Backup | None = None,
) -> tuple[UnrolledModel, pd.DataFrame]:
    """Train on exposures without truth; the same seed on the same machine gives the same weights.

    Parameters
    ----------
    counts : Counts
        Exposures of the train split.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    options : UnrolledOptions
        Stages, architecture and training.
    prior : TVOptions
        Choice of the prior's weight: in the tile with the most exposures, as for TV-MAP.
    seed : int
        Seed of tiles, splits, weights and the order of the examples.
    backup : Backup, optional
        Stores the state after every round, from which the same training resumes; default: no backup.

    Returns
    -------
    model : UnrolledModel
        Network with the weights of the lowest validation deviance, and its schedule.
    history : DataFrame
        epoch (passes over the tiles), loss, validation_deviance, learning_rate.
    """
    keras.utils.set_random_seed(seed)
    transmittance = counts.mean_transmittance(probe)
    parts = cut_tiles(counts.xcoords, counts.ycoords, prior.tile_px, probe.shape[-1])
    part = counts.select(parts[fullest(parts)].exposures)
    tv_weight, _ = choose_tv_weight(part, probe, transmittance, prior, seed=seed, rows=[])
    schedule = Schedule(
        **_numbers_of(options) | {"minibatch_epochs": 0},
        tv_weight=float(tv_weight),
        transmittance=transmittance,
        n_pixels=probe.shape[-1],
        photons=float(np.sum(np.abs(probe) ** 2, dtype=np.float64)),
    )
    if options.minibatch_epochs and options.stages > 1:
        schedule = _choose_minibatch_epochs(part, probe, schedule, options.minibatch_epochs, prior.fit_fraction, seed)
    network = build_unet(schedule.n_features, options.filters, "network")
    training_set = TrainingSet.of(*_examples(counts, probe, options, schedule, seed))
    trainer = Trainer(network, training_set, options, [seed, 0])
    return UnrolledModel(network, schedule), trainer.resume("unrolled", backup)


def _numbers_of(options: UnrolledOptions) -> dict[str, int]:
    """Return the options that are fields of a schedule, too."""
    shared = {field.name for field in fields(Schedule)} & {field.name for field in fields(options)}
    return {name: getattr(options, name) for name in shared}
