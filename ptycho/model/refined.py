"""Refined: a U-Net on top of TV-MAP, trained without truth on the photons of the scan that it reconstructs.

The photons are split several times into two independent sets. TV-MAPs of the first set with several weights of the
prior are the input of a U-Net; the Poisson likelihood of the second set is its loss (`ptycho.model.unet`). The result
is the mean of two reconstructions by the network: that from all photons, and the mean of those from the splits. Large
scans are refined tile by tile, each tile with a network of its own, so that one tile is in memory.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.canvas import Canvas
from ptycho.data.object_files import Reconstruction
from ptycho.data.tiles import Tile, canvas_of, cut_tiles
from ptycho.model.checkpoints import Backup, State
from ptycho.model.unet import build_unet, correct
from ptycho.model.unet_training import Example, Trainer, TrainingSet, UNetOptions, target_of
from ptycho.reconstruction.counts import Counts, split_counts
from ptycho.reconstruction.features import preconditioned_gradient, stack_features
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize, minimize_slow_phase
from ptycho.reconstruction.tv import PHASE_ITERATIONS
from ptycho.reconstruction.tv_weight import WARM_START_FACTOR, TVOptions, background_for, tv_weights
from ptycho.workflow.files import StrPath
from ptycho.workflow.job import CpuClock

FACTORS = (4.0, 2.0, 1.0, 0.25)
"""Weights of the prior, in units of the chosen one, of the TV-MAPs that a network sees."""
CHOSEN = 2
"""Index of the TV-MAP that the network corrects."""
CHANNELS = 2 * len(FACTORS) + 3
"""Features of a network: real and imaginary parts of the TV-MAPs and of the gradient, and the illumination."""
VALIDATION_FRACTION = 0.08
"""Fraction of the photons that is never trained on: their deviance decides which weights are kept."""
MAX_TILE_PX = 256.0
"""Largest extent of the positions of a tile [px]: all splits of its photons are in memory."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RefinedOptions(UNetOptions):
    """Architecture and training of the network, and the splits of the photons."""

    n_splits: int
    """Number of splits of the photons, and of reconstructions that are averaged."""
    fit_fraction: float
    """Fraction of the photons to reconstruct from; the rest is predicted."""
    tile_px: float
    """Largest extent of the positions of a training example [px]."""


@dataclass(frozen=True, kw_only=True)
class RefinedRun:
    """Settings of one refinement."""

    tv_weight: float
    """λ, as `ptycho.reconstruction.tv` chose it for all photons."""
    prior: TVOptions
    """Iterations of the TV-MAPs."""
    options: RefinedOptions
    """Network, training and splits."""
    seed: int
    """Seed of the splits, the weights and the order of the examples."""
    backup: Backup | None = None
    """Stores the TV-MAPs of the splits and the state after every round, from which the same refinement resumes;
    default: no backup."""
    clock: CpuClock = field(default_factory=CpuClock)
    """CPU time, including what an interrupted attempt spent on the parts that are resumed."""


@dataclass
class Maps:
    """TV-MAPs of a set of photons, as features of a network and as the object that it corrects."""

    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""
    start: NDArray[np.complex64]
    """(H, W) TV-MAP with the chosen weight."""
    features: NDArray[np.float32]
    """(H, W, `CHANNELS`) input of the network."""

    @classmethod
    def of(cls, likelihood: Likelihood, fraction: float, transmittance: float, run: RefinedRun) -> "Maps":
        """Reconstruct with decreasing weights of the prior, down to the least of `FACTORS`.

        Parameters
        ----------
        likelihood : Likelihood
            Likelihood of the photons.
        fraction : float
            Fraction that they are of all photons.
        transmittance : float
            Amplitude of the flat object at which the reconstruction starts.
        run : RefinedRun
            Weight of the prior and iterations.
        """
        illumination, prior = likelihood.illumination(), run.prior
        obj = np.full(likelihood.shape, transmittance, np.complex64)
        maps: list[NDArray[np.complex64]] = []
        weights = tv_weights(prior, illumination / fraction) / run.tv_weight
        for factor in (*(weight for weight in weights if weight > FACTORS[0] * 1.01), *FACTORS):
            smoothed = background_for(likelihood, factor)
            if WARM_START_FACTOR > factor >= 1:
                obj = minimize_slow_phase(smoothed, obj, PHASE_ITERATIONS)
            iterations = prior.final_iterations if factor == FACTORS[CHOSEN] else prior.iterations
            obj, _, _ = minimize(smoothed, obj, factor * run.tv_weight * np.sqrt(fraction), iterations)
            if factor in FACTORS:
                maps.append(obj)
        fields: list[NDArray[np.complexfloating]] = [
            *(obj - transmittance for obj in maps),
            preconditioned_gradient(likelihood, maps[CHOSEN]),
        ]
        return cls(likelihood.origin_px, maps[CHOSEN], stack_features(fields, illumination / fraction))

    def correct(self, network: keras.Model) -> NDArray[np.complex64]:
        """Return the object after correction by a network, (H, W)."""
        return correct(network, self.start, self.features)

    def example(self, tile: Tile, counts: Counts, probe: NDArray[np.complexfloating], fraction: float) -> Example:
        """Cut an example for training or validation: the box around the windows of a tile's exposures.

        Parameters
        ----------
        tile : Tile
            Exposures of the example.
        counts : Counts
            Photons to predict, of all exposures.
        probe : (modes, N, N) complex
            Known illumination [sqrt(photon)].
        fraction : float
            Fraction that the photons to predict are of all photons.
        """
        likelihood = Likelihood(counts.select(tile.exposures), probe, fraction, cache_bytes=0)
        y, x = np.subtract(likelihood.origin_px, self.origin_px)
        box = np.s_[y : y + likelihood.shape[0], x : x + likelihood.shape[1]]
        return Example(self.start[box], self.features[box], target_of(likelihood, likelihood.origin_px))


class _Attempt:
    """Backups of the parts of a refinement, each with its CPU time."""

    def __init__(self, backup: Backup | None, clock: CpuClock):
        self.backup, self.clock, self.start_s = backup, clock, clock.seconds

    def load(self, part: str) -> State | None:
        """Begin a part; return the state that an earlier attempt left, None if there is none."""
        self.start_s = self.clock.seconds
        if self.backup is None:
            return None
        state = self.backup.part(part).load()
        if state:
            self.clock.add(state[0]["cpu_s"])
            _logger.info("resumes with %s", self.backup.part(part).path)
        return state

    def save(self, part: str, facts: dict[str, Any], **arrays: list[Any]) -> None:
        """Store the state of a part."""
        if self.backup:
            self.backup.part(part).save({**facts, "cpu_s": self.clock.seconds - self.start_s}, **arrays)

    def maps(self, part: str, make: Callable[[], Maps]) -> Maps:
        """Return maps from the backup, or make and store them."""
        if state := self.load(part):
            return Maps(tuple(state[0]["origin_px"]), *state[1]["maps"])
        maps = make()
        self.save(part, {"origin_px": maps.origin_px}, maps=[maps.start, maps.features])
        return maps

    def train(self, trainer: Trainer) -> pd.DataFrame:
        """Train for the remaining rounds; return the history."""
        if state := self.load("training"):
            trainer.restore(*state)

        def save() -> None:
            facts, arrays = trainer.state()
            self.save("training", facts, **arrays)

        return trainer.run("refined", save)


def refine_tile(counts: Counts, probe: NDArray[np.complexfloating], run: RefinedRun) -> dict[str, Reconstruction]:
    """Train on the photons of exposures and reconstruct them on one canvas; interrupted or not, to the same bits.

    Parameters
    ----------
    counts : Counts
        Fit and validation exposures of a tile; no truth is read.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    run : RefinedRun
        Settings of the refinement.

    Returns
    -------
    dict of Reconstruction
        "whole", from all photons; "splits", the mean of those from the splits; "refined", the mean of both. History:
        epoch, loss, validation_deviance, learning_rate.
    """
    keras.utils.set_random_seed(run.seed)
    options, transmittance, likelihood = run.options, counts.mean_transmittance(probe), Likelihood(counts, probe)
    fit_fraction = (1 - VALIDATION_FRACTION) * options.fit_fraction
    rest_fraction = (1 - VALIDATION_FRACTION) * (1 - options.fit_fraction)
    rest, validation_counts = split_counts(counts, 1 - VALIDATION_FRACTION, run.seed)
    tiles = cut_tiles(counts.xcoords, counts.ycoords, options.tile_px, 0)
    rng, attempt = np.random.default_rng([run.seed, 0]), _Attempt(run.backup, run.clock)
    splits: list[Maps] = []
    examples: list[Example] = []
    for number in tqdm(range(options.n_splits), desc="TV-MAPs of splits", unit="split"):
        fit, target = split_counts(rest, options.fit_fraction, int(rng.integers(1 << 31)))
        part = Likelihood(fit, probe, fit_fraction)
        make = lambda part=part: Maps.of(part, fit_fraction, transmittance, run)  # noqa: E731
        splits.append(attempt.maps(f"split_{number}", make))
        examples += [splits[-1].example(tile, target, probe, rest_fraction) for tile in tiles]
    validation = [splits[0].example(tile, validation_counts, probe, VALIDATION_FRACTION) for tile in tiles]
    network = build_unet(CHANNELS, options.filters, "refined")
    history = attempt.train(Trainer(network, TrainingSet.of(examples, validation), options, [run.seed, 1]))
    whole = Maps.of(likelihood, 1.0, transmittance, run).correct(network)
    mean = np.mean([maps.correct(network) for maps in splits], axis=0)
    illumination, origin = likelihood.illumination(), likelihood.origin_px
    return {
        name: Reconstruction(object=obj, illumination=illumination, origin_px=origin, history=history)
        for name, obj in {"refined": (whole + mean) / 2, "whole": whole, "splits": mean}.items()
    }


def refine(
    counts: Counts, probe: NDArray[np.complexfloating], run: RefinedRun, *, folder: StrPath | None = None
) -> dict[str, Reconstruction]:
    """Refine a scan of any size: `refine_tile` for every tile of at most `MAX_TILE_PX`, all on one canvas.

    Parameters
    ----------
    counts, probe, run
        Exposures, illumination and settings, see `refine_tile`.
    folder : path, optional
        Folder for canvases in files; default: in memory.

    Returns
    -------
    dict of Reconstruction
        "refined", "whole" and "splits", see `refine_tile`. The histories of the tiles follow one another, with a column
        `tile` if there are several; `cpu_s` is the time of `run.clock`.
    """
    positions, n = (counts.xcoords, counts.ycoords), probe.shape[-1]
    tiles = cut_tiles(*positions, min(run.prior.tile_px, MAX_TILE_PX), n)
    canvases: dict[str, Canvas] = {}
    histories: list[pd.DataFrame] = []
    epoch = 0.0
    for number, tile in enumerate(tiles):
        backup = run.backup.part(f"tile_{number}") if run.backup else None
        parts = refine_tile(counts.select(tile.exposures), probe, replace(run, backup=backup))
        for name, part in parts.items():
            if name not in canvases:
                canvases[name] = Canvas.around(*positions, n, folder)
            canvases[name].include(canvas_of(tile, part.object, part.illumination, part.origin_px))
        history = parts["refined"].history
        assert history is not None
        label = {"tile": f"{number + 1}/{len(tiles)}"} if len(tiles) > 1 else {}
        histories.append(history.assign(epoch=history["epoch"] + epoch, **label))
        epoch = histories[-1]["epoch"].iloc[-1]
    history = pd.concat(histories, ignore_index=True)
    return {
        name: Reconstruction(
            object=canvas.mean(),
            illumination=canvas.weight,
            origin_px=canvas.origin_px,
            history=history,
            cpu_s=run.clock.seconds,
            chosen={"tv_weight": run.tv_weight},
        )
        for name, canvas in canvases.items()
    }
