"""Refined: a U-Net on top of TV-MAP, trained on the very photons of the scan that it reconstructs, without any truth.

The photons are split anew several times into two independent sets. TV-MAPs of the first set with several weights of
the prior are the input of a U-Net; the Poisson likelihood of the second is its loss (`ptycho.model.unet`). The result
is the mean of what the network makes of all photons and of what it makes, on average, of the splits. Large scans go
tile by tile, each with a network of its own: memory is a tile.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.canvas import Canvas
from ptycho.data.object_files import Reconstruction
from ptycho.data.tiles import Tile, canvas_of, cut_tiles
from ptycho.model.checkpoints import Backup
from ptycho.model.unet import Example, Trainer, UNetOptions, build_unet, correct, target_of
from ptycho.reconstruction.features import preconditioned_gradient, stack_features
from ptycho.reconstruction.likelihood import Counts, Likelihood, split_counts
from ptycho.reconstruction.optimize import minimize, minimize_slow_phase
from ptycho.reconstruction.tv import PHASE_ITERATIONS, WARM_START_FACTOR, TVOptions, tv_weights, with_background
from ptycho.workflow.job import CpuClock

FACTORS = (4.0, 2.0, 1.0, 0.25)
"""Weights of the prior, in units of the chosen one, whose TV-MAPs a network sees."""
CHOSEN = 2
"""Index of the one that the network adds to."""
CHANNELS = 2 * len(FACTORS) + 3
VALIDATION_FRACTION = 0.08
"""Fraction of the photons that is never trained on: their deviance decides which weights are kept."""
MAX_TILE_PX = 256.0
"""Largest extent of the positions of a tile with a network of its own: all of its photons are held, split by split."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RefinedOptions(UNetOptions):
    """How the network looks and is trained."""

    n_splits: int
    """Times that the photons are split; as many reconstructions are averaged."""
    fit_fraction: float
    """Fraction of the photons that is reconstructed from; the rest is predicted."""
    tile_px: float
    """Largest extent of the positions of a training example [px]."""


@dataclass(frozen=True, kw_only=True)
class RefinedRun:
    """What differs from one refinement to the next."""

    tv_weight: float
    """λ, as `ptycho.reconstruction.tv` chose it for all photons."""
    prior: TVOptions
    options: RefinedOptions
    seed: int
    backup: Backup | None = None
    """Keeps the TV-MAPs of the splits and the state after every round; the same refinement resumes from it."""
    clock: CpuClock = field(default_factory=CpuClock)
    """CPU time; what an interrupted attempt has spent on parts that are resumed is added."""


@dataclass
class Maps:
    """TV-MAPs of some photons: what the network sees, and what it adds to."""

    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""
    start: NDArray[np.complex64]
    """(H, W), that of the chosen weight."""
    features: NDArray[np.float32]
    """(H, W, `CHANNELS`)."""

    @classmethod
    def of(cls, likelihood: Likelihood, fraction: float, transmittance: float, run: RefinedRun) -> "Maps":
        """Reconstruct.

        Parameters
        ----------
        likelihood : Likelihood
            Of these photons.
        fraction : float
            Of all photons.
        transmittance : float
            Amplitude of the flat object that it starts from.
        """
        illumination, prior = likelihood.illumination(), run.prior
        obj = np.full(likelihood.shape, transmittance, np.complex64)
        maps: list[NDArray] = []
        weights = tv_weights(prior, illumination / fraction) / run.tv_weight
        for factor in (*(weight for weight in weights if weight > FACTORS[0] * 1.01), *FACTORS):
            smoothed = with_background(likelihood, factor)
            if WARM_START_FACTOR > factor >= 1:
                obj = minimize_slow_phase(smoothed, obj, PHASE_ITERATIONS)
            iterations = prior.final_iterations if factor == FACTORS[CHOSEN] else prior.iterations
            obj, _, _ = minimize(smoothed, obj, factor * run.tv_weight * np.sqrt(fraction), iterations)
            if factor in FACTORS:
                maps.append(obj)
        fields: list[NDArray] = [
            *(obj - transmittance for obj in maps),
            preconditioned_gradient(likelihood, maps[CHOSEN]),
        ]
        return cls(likelihood.origin_px, maps[CHOSEN], stack_features(fields, illumination / fraction))

    def correct(self, network: keras.Model) -> NDArray[np.complex64]:
        """Add the network's output, (H, W) complex64."""
        return correct(network, self.start, self.features)

    def example(self, tile: Tile, counts: Counts, probe, fraction: float) -> Example:
        """Cut an example: the box around the windows of a tile's exposures, and other photons of them as target."""
        likelihood = Likelihood(counts.select(tile.exposures), probe, fraction, cache_bytes=0)
        y, x = np.subtract(likelihood.origin_px, self.origin_px)
        box = np.s_[y : y + likelihood.shape[0], x : x + likelihood.shape[1]]
        return Example(self.start[box], self.features[box], target_of(likelihood, likelihood.origin_px))


class _Attempt:
    """What is kept of a refinement, part by part, and the CPU time that each part has taken."""

    def __init__(self, backup: Backup | None, clock: CpuClock):
        self.backup, self.clock, self.start_s = backup, clock, clock.seconds

    def load(self, part: str) -> tuple[dict, dict[str, list]] | None:
        """Begin a part: take up what an attempt before has left of it, None if nothing."""
        self.start_s = self.clock.seconds
        if self.backup is None:
            return None
        state = self.backup.part(part).load()
        if state:
            self.clock.add(state[0]["cpu_s"])
            _logger.info("resumes with %s", self.backup.part(part).path)
        return state

    def save(self, part: str, facts: dict, **arrays: list) -> None:
        """Keep what is there of a part."""
        if self.backup:
            self.backup.part(part).save({**facts, "cpu_s": self.clock.seconds - self.start_s}, **arrays)

    def maps(self, part: str, make: Callable[[], Maps]) -> Maps:
        """Take up maps, or make and keep them."""
        if state := self.load(part):
            return Maps(tuple(state[0]["origin_px"]), *state[1]["maps"])
        maps = make()
        self.save(part, {"origin_px": maps.origin_px}, maps=[maps.start, maps.features])
        return maps

    def train(self, trainer: Trainer) -> pd.DataFrame:
        """Train, or what is left of it."""
        if state := self.load("training"):
            trainer.restore(*state)

        def save() -> None:
            facts, arrays = trainer.state()
            self.save("training", facts, **arrays)

        return trainer.run("refined", save)


def refine_tile(counts: Counts, probe, run: RefinedRun) -> dict[str, Reconstruction]:
    """Train on the photons of exposures and reconstruct them on one canvas; interrupted or not, to the same bits.

    Parameters
    ----------
    counts : Counts
        Fit and validation exposures of a tile; no truth is read.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].

    Returns
    -------
    dict
        "refined", and the two that it is the mean of: "whole", from all photons, and "splits". History: epoch, loss,
        validation_deviance, learning_rate.
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
    history = attempt.train(Trainer(network, examples, validation, options, [run.seed, 1]))
    whole = Maps.of(likelihood, 1.0, transmittance, run).correct(network)
    mean = np.mean([maps.correct(network) for maps in splits], axis=0)
    illumination, origin = likelihood.illumination(), likelihood.origin_px
    return {
        name: Reconstruction(object=obj, illumination=illumination, origin_px=origin, history=history)
        for name, obj in {"refined": (whole + mean) / 2, "whole": whole, "splits": mean}.items()
    }


def refine(counts: Counts, probe, run: RefinedRun, *, folder: Path | None = None) -> dict[str, Reconstruction]:
    """Refine a scan of any size: `refine_tile` for every tile of `MAX_TILE_PX` at most, all on one canvas.

    Parameters
    ----------
    counts, probe, run
        As `refine_tile` takes them.
    folder : Path, optional
        Where the canvases live in files; without, they are in memory.

    Returns
    -------
    dict
        As `refine_tile`. The history is that of the tiles one after the other, with a column `tile` if there are
        several; `cpu_s` is what `run.clock` says.
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
            canvases[name].include(canvas_of(tile, part.object, part.illumination, part.origin_px), synchronized=True)
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
