"""The best image of one scan: a network on top of TV-MAP, trained on that scan's own photons without any truth.

The photons are dealt anew, several times, to two sets. TV-MAPs of the first set at several strengths of the prior are
what a U-Net sees; the Poisson likelihood of the second set is its loss (`ptycho.model.canvas`). What it makes of every
deal is averaged.
"""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from ptycho.likelihood import Counts, Likelihood, thinned
from ptycho.model.canvas import Example, Fitting, Trainer, build_unet, corrected, judge_of
from ptycho.tiles import Tile, cut_tiles
from ptycho.tv import TotalVariation, descend, strengths, transmission_of

FACTORS = (4.0, 2.0, 1.0, 0.25)
"""Strengths of the prior, in units of the chosen one, whose TV-MAPs a network sees; it adds to that of `CHOSEN`."""
CHOSEN = 2
CHANNELS = 2 * len(FACTORS) + 3
JUDGE_SHARE = 0.08
"""Of the photons: never trained on; they say which weights are kept."""


@dataclass(frozen=True, kw_only=True)
class Refinement(Fitting):
    """How the network looks and is trained."""

    deals: int
    """Times that the photons are dealt; as many reconstructions are averaged."""
    fit_share: float
    """Share of the photons that is reconstructed from; the rest is predicted."""
    tile_px: float
    """Largest extent of the positions of a training example [px]."""


class Deal:
    """One way to deal the photons: TV-MAPs of one part, and the other to judge them by."""

    def __init__(self, rest: Counts, probe, seed: int, strength: float, level: float, prior: TotalVariation, share):
        fitted, self.apart = thinned(rest, share, seed)
        within, self.probe, self.share = (1 - JUDGE_SHARE) * share, probe, (1 - JUDGE_SHARE) * (1 - share)
        likelihood = Likelihood(fitted, probe, within)
        self.origin_px, light = likelihood.origin_px, likelihood.light()
        scale, obj, found = strength * np.sqrt(within), np.full(likelihood.shape, level, np.complex64), []
        path = [s for s in strengths(prior) / strength if s > FACTORS[0] * 1.01]
        for factor in (*path, *FACTORS):
            obj, _, _ = descend(likelihood, obj, factor * scale, prior.iterations)
            if factor in FACTORS:
                found.append(obj)
        self.start = found[CHOSEN]
        slope = likelihood(self.start)[1] / (2 * (light + 0.05 * np.median(light[light > 1e-3 * light.max()])))
        stack = [part for field in (*(f - level for f in found), slope) for part in (field.real, field.imag)]
        stack.append(np.log10(1 + light / within) / 4)
        self.features = np.clip(np.stack(stack, axis=-1), -3, 3).astype(np.float32)

    def example(self, tile: Tile, counts: Counts, share: float) -> Example:
        """Cut an example: the exposures of a tile, and the box around their windows."""
        judge = Likelihood(counts.select(tile.exposures), self.probe, share, cache_bytes=0)
        y, x = np.subtract(judge.origin_px, self.origin_px)
        box = np.s_[y : y + judge.shape[0], x : x + judge.shape[1]]
        return Example(self.start[box], self.features[box], judge_of(judge, judge.origin_px))


def refine(counts: Counts, probe, strength: float, prior: TotalVariation, options: Refinement, *, seed: int):
    """Train on a scan's own photons and reconstruct it.

    Parameters
    ----------
    counts : Counts
        Exposures that may be used; the truth is nowhere.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    strength : float
        Of the prior, as `ptycho.tv` chose it for all photons.

    Returns
    -------
    obj : (H, W) complex64
    light : (H, W) float64
        Illumination [photons per pixel].
    origin_px : (int, int)
    history : DataFrame
        epoch, loss, stop_deviance (of the photons that judge), learning_rate.
    """
    keras.utils.set_random_seed(seed)
    level, everything = transmission_of(counts, probe), Likelihood(counts, probe, cache_bytes=0)
    rest, judges = thinned(counts, 1 - JUDGE_SHARE, seed)
    rng, deals = np.random.default_rng([seed, 0]), []
    for _ in tqdm(range(options.deals), desc="TV-MAPs of deals", unit="deal"):
        number = int(rng.integers(1 << 31))
        deals.append(Deal(rest, probe, number, strength, level, prior, options.fit_share))
    tiles = cut_tiles(counts.xcoords, counts.ycoords, options.tile_px, 0)
    examples = [deal.example(tile, deal.apart, deal.share) for deal in deals for tile in tiles]
    apart = [deals[0].example(tile, judges, JUDGE_SHARE) for tile in tiles]
    network = build_unet(CHANNELS, options.filters, "refined")
    history = Trainer(network, examples, apart, options, [seed, 1]).run("refined")
    obj = np.mean([corrected(network, deal.start, deal.features) for deal in deals], axis=0)
    return obj.astype(np.complex64), everything.light(), everything.origin_px, pd.DataFrame(history)
