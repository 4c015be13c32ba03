"""The best image of one scan: a network on top of TV-MAP, trained on that scan's own photons without any truth.

The photons are dealt anew, several times, to two sets. TV-MAPs of the first set at several strengths of the prior are
what a U-Net sees; the Poisson likelihood of the second set is its loss (`ptycho.model.canvas`). The result is the mean
of what it makes of all photons and of what it makes, on average, of the deals. Large scans go tile by tile, each with a
network of its own: memory is a tile.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from ptycho.descent import descend, descend_phase
from ptycho.likelihood import Counts, Likelihood, thinned
from ptycho.log import CpuClock
from ptycho.model.canvas import Example, Fitting, Trainer, build_unet, corrected, judge_of
from ptycho.model.checkpoints import Backup
from ptycho.stitch import Canvas
from ptycho.tiles import Tile, canvas_of, cut_tiles
from ptycho.tv import PHASE_ITERATIONS, WARM, TotalVariation, softened, strengths, transmission_of

FACTORS = (4.0, 2.0, 1.0, 0.25)
"""Strengths of the prior, in units of the chosen one, whose TV-MAPs a network sees; it adds to that of `CHOSEN`."""
CHOSEN = 2
CHANNELS = 2 * len(FACTORS) + 3
JUDGE_SHARE = 0.08
"""Of the photons: never trained on; they say which weights are kept."""


LARGEST_PX = 256.0
"""Largest extent of the positions of a tile with a network of its own: all of its photons are held, deal by deal."""


@dataclass(frozen=True, kw_only=True)
class Refinement(Fitting):
    """How the network looks and is trained."""

    deals: int
    """Times that the photons are dealt; as many reconstructions are averaged."""
    fit_share: float
    """Share of the photons that is reconstructed from; the rest is predicted."""
    tile_px: float
    """Largest extent of the positions of a training example [px]."""


@dataclass
class Maps:
    """TV-MAPs of some photons: what the network sees, and what it adds to."""

    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""
    start: np.ndarray
    """(H, W) complex64, that of the chosen strength."""
    features: np.ndarray
    """(H, W, `CHANNELS`) float32."""

    @classmethod
    def of(cls, likelihood: Likelihood, share: float, strength: float, level: float, prior: TotalVariation) -> "Maps":
        """Reconstruct.

        Parameters
        ----------
        likelihood : Likelihood
            Of these photons.
        share : float
            Of all photons.
        strength : float
            Of the prior, for all photons.
        level : float
            Transmittance of the flat object that it starts from.
        """
        light = likelihood.light()
        obj, found = np.full(likelihood.shape, level, np.complex64), []
        path = [s for s in strengths(prior, light / share) / strength if s > FACTORS[0] * 1.01]
        for factor in (*path, *FACTORS):
            soft = softened(likelihood, factor)
            if WARM > factor >= 1:
                obj = descend_phase(soft, obj, PHASE_ITERATIONS)
            iterations = prior.final_iterations if factor == FACTORS[CHOSEN] else prior.iterations
            obj, _, _ = descend(soft, obj, factor * strength * np.sqrt(share), iterations)
            if factor in FACTORS:
                found.append(obj)
        start = found[CHOSEN]
        slope = likelihood(start)[1] / (2 * (light + 0.05 * np.median(light[light > 1e-3 * light.max()])))
        stack = [part for field in (*(f - level for f in found), slope) for part in (field.real, field.imag)]
        stack.append(np.log10(1 + light / share) / 4)
        features = np.clip(np.stack(stack, axis=-1), -3, 3).astype(np.float32)
        return cls(tuple(map(int, likelihood.origin_px)), start, features)

    def refined(self, network: keras.Model):
        """Add what a network says, (H, W) complex64."""
        return corrected(network, self.start, self.features)

    def example(self, tile: Tile, counts: Counts, probe, share: float) -> Example:
        """Cut an example: the box around the windows of a tile's exposures, judged by other photons of them."""
        judge = Likelihood(counts.select(tile.exposures), probe, share, cache_bytes=0)
        y, x = np.subtract(judge.origin_px, self.origin_px)
        box = np.s_[y : y + judge.shape[0], x : x + judge.shape[1]]
        return Example(self.start[box], self.features[box], judge_of(judge, judge.origin_px))


class _Attempt:
    """What is kept of a refinement, part by part, and the CPU time that each part has taken."""

    def __init__(self, backup: Backup | None, clock: CpuClock):
        self.backup, self.clock, self.begun = backup, clock, clock.seconds

    def load(self, part: str) -> tuple[dict, dict[str, list]] | None:
        """Begin a part: take up what an attempt before has left of it, None if nothing."""
        self.begun = self.clock.seconds
        state = self.backup.part(part).load() if self.backup else None
        if state:
            self.clock.add(state[0]["cpu_s"])
            print(f"goes on with {self.backup.part(part).path}", file=sys.stderr)
        return state

    def save(self, part: str, facts: dict, **arrays: list) -> None:
        """Keep what is there of a part."""
        if self.backup:
            self.backup.part(part).save({**facts, "cpu_s": self.clock.seconds - self.begun}, **arrays)

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

        def save():
            facts, arrays = trainer.state()
            self.save("training", facts, **arrays)

        return trainer.run("refined", save)


def refine(
    counts: Counts,
    probe,
    strength: float,
    prior: TotalVariation,
    options: Refinement,
    *,
    seed: int,
    backup: Backup | None = None,
    clock: CpuClock | None = None,
):
    """Train on the photons of exposures and reconstruct them on one canvas; interrupted or not, to the same bits.

    Parameters
    ----------
    counts : Counts
        Exposures that may be used, those of a tile; the truth is nowhere.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    strength : float
        Of the prior, as `ptycho.tv` chose it for all photons.
    backup : Backup, optional
        Where TV-MAPs of deals go, and the state after every round, and where those of the same are taken up.
    clock : CpuClock, optional
        Is told what was spent on what is taken up.

    Returns
    -------
    objects : dict
        (H, W) complex64: "refined", and the two that it is the mean of, "whole" and "deals".
    light : (H, W) float64
        Illumination [photons per pixel].
    origin_px : (int, int)
    history : DataFrame
        epoch, loss, stop_deviance (of the photons that judge), learning_rate.
    """
    keras.utils.set_random_seed(seed)
    level, everything = transmission_of(counts, probe), Likelihood(counts, probe)
    fit_share, rest_share = (1 - JUDGE_SHARE) * options.fit_share, (1 - JUDGE_SHARE) * (1 - options.fit_share)
    rest, judges = thinned(counts, 1 - JUDGE_SHARE, seed)
    tiles = cut_tiles(counts.xcoords, counts.ycoords, options.tile_px, 0)
    rng, deals, examples, attempt = np.random.default_rng([seed, 0]), [], [], _Attempt(backup, clock or CpuClock())
    for number in tqdm(range(options.deals), desc="TV-MAPs of deals", unit="deal"):
        fitted, predicted = thinned(rest, options.fit_share, int(rng.integers(1 << 31)))
        thin = Likelihood(fitted, probe, fit_share), fit_share, strength, level, prior
        deals.append(attempt.maps(f"deal_{number}", lambda thin=thin: Maps.of(*thin)))
        examples += [deals[-1].example(tile, predicted, probe, rest_share) for tile in tiles]
    apart = [deals[0].example(tile, judges, probe, JUDGE_SHARE) for tile in tiles]
    network = build_unet(CHANNELS, options.filters, "refined")
    history = attempt.train(Trainer(network, examples, apart, options, [seed, 1]))
    whole = Maps.of(everything, 1.0, strength, level, prior).refined(network)
    dealt = np.mean([deal.refined(network) for deal in deals], axis=0)
    objects = {"refined": (whole + dealt) / 2, "whole": whole, "deals": dealt}
    return objects, everything.light(), everything.origin_px, history


def refine_tiles(
    counts: Counts,
    probe,
    strength: float,
    prior: TotalVariation,
    options: Refinement,
    *,
    seed: int,
    folder=None,
    backup: Backup | None = None,
    clock: CpuClock | None = None,
):
    """Refine a scan of any size: `refine` for every tile of `LARGEST_PX` at most, all on canvases around the scan.

    Parameters
    ----------
    folder : Path, optional
        Where the canvases live in files; without, they are in memory.

    Returns
    -------
    canvases : dict
        Of the objects that `refine` names.
    history : DataFrame
        Of the tiles one behind the other, with a column `tile` if there are several.
    """
    places, n, clock = (counts.xcoords, counts.ycoords), probe.shape[-1], clock or CpuClock()
    tiles, canvases, histories, epoch = cut_tiles(*places, min(prior.tile_px, LARGEST_PX), n), {}, [], 0.0
    for number, tile in enumerate(tiles):
        kept = {"backup": backup.part(f"tile_{number}") if backup else None, "clock": clock}
        part = counts.select(tile.exposures)
        objects, light, origin_px, history = refine(part, probe, strength, prior, options, seed=seed, **kept)
        for name, obj in objects.items():
            if name not in canvases:
                canvases[name] = Canvas.around(*places, n, folder)
            canvases[name].include(canvas_of(tile, obj, light, origin_px), synchronised=True)
        label = {"tile": f"{number + 1}/{len(tiles)}"} if len(tiles) > 1 else {}
        histories.append(history.assign(epoch=history["epoch"] + epoch, **label))
        epoch = histories[-1]["epoch"].iloc[-1]
    return canvases, pd.concat(histories, ignore_index=True)
