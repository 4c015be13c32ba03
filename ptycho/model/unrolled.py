"""An unrolled reconstruction: steps on the whole scan's likelihood and a network behind them, trained without truth.

L-BFGS steps on the Poisson likelihood and a total-variation prior (`ptycho.tv`) that weakens from round to round; a
U-Net that sees where every round has ended, the last gradient and the illumination, and adds what they lack; a few more
steps. The network is trained on tiles of the train split by thinning its photons (`ptycho.model.canvas`), which the
prior's strength is chosen by, too. The test split sees it unchanged.
"""

import sys
from dataclasses import dataclass

import keras
import numpy as np
from tqdm import tqdm

from ptycho.likelihood import Counts, Likelihood, thinned
from ptycho.model.canvas import Example, Fitting, Trainer, build_unet, corrected, judge_of
from ptycho.model.checkpoints import Backup
from ptycho.model.layers import PACKAGE
from ptycho.stitch import Canvas
from ptycho.tiles import Tile, add_tile, cut_tiles, fullest
from ptycho.tv import TotalVariation, choose_strength, descend, transmission_of

JUDGE_SHARE = 0.08
"""Of the photons: never trained on; they say which weights are kept."""
JUDGES = 12
"""Tiles in which they are looked at."""
MAGNIFIED = 3.0
"""Differences between rounds are small beside the object: a network sees them so many times as large."""


@dataclass(frozen=True, kw_only=True)
class Unrolled(Fitting):
    """How the steps go, and how the network behind them looks and is trained."""

    rounds: int
    """Of steps: the prior is as strong as chosen in the last, twice as strong in the one before, and so on."""
    iterations: int
    """L-BFGS steps of every round but the last."""
    final_iterations: int
    """L-BFGS steps of the last round."""
    closing_iterations: int
    """L-BFGS steps behind the network."""
    tile_px: float
    """Largest extent of the positions of a training tile [px]."""
    tiles: int
    """Training tiles, each thinned anew."""
    fit_share: float
    """Share of the photons that goes in while training; the rest is predicted."""


@keras.saving.register_keras_serializable(package=PACKAGE)
class Steps(keras.layers.Layer):
    """The steps around a network: makes them, and carries their numbers in the saved model.

    Parameters
    ----------
    rounds, iterations, final_iterations, closing_iterations : int
        See `Unrolled`.
    strength : float
        Of the total-variation prior in the last round and behind the network.
    transmission : float
        Mean amplitude transmittance of the training data: the flat object that the first steps start from.
    """

    def __init__(self, *, rounds, iterations, final_iterations, closing_iterations, strength, transmission, **kwargs):
        super().__init__(**kwargs)
        self.rounds, self.iterations, self.final_iterations = rounds, iterations, final_iterations
        self.closing_iterations, self.strength, self.transmission = closing_iterations, strength, transmission

    def call(self, features):
        return features

    def get_config(self):
        names = ("rounds", "iterations", "final_iterations", "closing_iterations", "strength", "transmission")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def before(self, likelihood: Likelihood, scale: float = 1.0) -> list[np.ndarray]:
        """Make the rounds before the network; return where each has ended, (H, W) complex64.

        Parameters
        ----------
        likelihood : Likelihood
            Of the photons that are reconstructed from.
        scale : float
            Factor on the strength of the prior, for a part of the photons.
        """
        obj, ends = np.full(likelihood.shape, self.transmission, np.complex64), []
        for left in reversed(range(self.rounds)):
            iterations = self.iterations if left else self.final_iterations
            obj, *_ = descend(likelihood, obj, 2.0**left * self.strength * scale, iterations)
            ends.append(obj)
        return ends

    def behind(self, likelihood: Likelihood, obj):
        """Make the steps behind the network, which start from what it has made of them; (H, W) complex64."""
        return descend(likelihood, obj, self.strength, self.closing_iterations)[0]

    def features(self, likelihood: Likelihood, ends: list[np.ndarray]):
        """Return what the network sees, (H, W, channels) float32: transmittances, and the gradient in their units."""
        light, last = likelihood.light(), ends[-1]
        dim = 0.05 * np.median(light[light > 1e-3 * light.max()])
        slope = likelihood(last)[1] / (2 * (light + dim))
        fields = last - self.transmission, slope, *(MAGNIFIED * (end - last) for end in ends[:-1])
        stack = [part for field in fields for part in (field.real, field.imag)] + [np.log10(1 + light) / 4]
        return np.clip(np.stack(stack, axis=-1), -3, 3).astype(np.float32)


def channels_of(rounds: int) -> int:
    """Channels of the features: ends of the rounds and the gradient (real and imaginary parts), the illumination."""
    return 2 * (rounds + 1) + 1


@dataclass
class _Tile:
    """A training tile: what goes in, the photons that the loss predicts, those that judge."""

    fitted: Likelihood
    predicted: Likelihood
    judge: Likelihood


def _cut_tiles(counts: Counts, probe, options: Unrolled, seed: int) -> list[_Tile]:
    rng, tiles = np.random.default_rng([seed, 0]), []
    rest, judges = thinned(counts, 1 - JUDGE_SHARE, seed)
    half, share = options.tile_px / 2, (1 - JUDGE_SHARE) * options.fit_share
    for _ in range(options.tiles):
        centre = rng.integers(len(counts))
        near = [np.abs(axis - axis[centre]) <= half for axis in (counts.xcoords, counts.ycoords)]
        chosen = np.flatnonzero(near[0] & near[1])
        fitted, predicted = thinned(rest.select(chosen), options.fit_share, int(rng.integers(1 << 31)))
        predicted = Likelihood(predicted, probe, 1 - JUDGE_SHARE - share, cache_bytes=0)
        judge = Likelihood(judges.select(chosen), probe, JUDGE_SHARE, cache_bytes=0)
        tiles.append(_Tile(Likelihood(fitted, probe, share), predicted, judge))
    return tiles


def _examples(tiles: list[_Tile], steps: Steps, share: float) -> tuple[list[Example], list[Example]]:
    """Make the steps in every tile: examples to train on, and those that judge."""
    examples, judges = [], []
    for number, tile in enumerate(tqdm(tiles, desc="steps", unit="tile", mininterval=5)):
        ends = steps.before(tile.fitted, np.sqrt(share))
        features, origin = steps.features(tile.fitted, ends), tile.fitted.origin_px
        examples.append(Example(ends[-1], features, judge_of(tile.predicted, origin)))
        if number < JUDGES:
            judges.append(Example(ends[-1], features, judge_of(tile.judge, origin)))
    return examples, judges


def train_unrolled(
    counts: Counts, probe, options: Unrolled, prior: TotalVariation, *, seed: int, backup: Backup | None = None
):
    """Train on exposures without their truth; the same seed on the same machine gives the same weights.

    Parameters
    ----------
    counts : Counts
        Exposures of the train split.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    prior : TotalVariation
        How the strength of the prior is chosen: in the tile with the most exposures, as TV-MAP does.
    backup : Backup, optional
        Where the state goes after every round of training, and where one of the same training is taken up.

    Returns
    -------
    network : keras.Model
        Features to what is to be added; `apply_unrolled` takes it.
    history : DataFrame
        epoch (passes over the tiles), loss, stop_deviance (of the photons that judge), learning_rate.
    """
    keras.utils.set_random_seed(seed)
    transmission = transmission_of(counts, probe)
    parts = cut_tiles(counts.xcoords, counts.ycoords, prior.tile_px, probe.shape[-1])
    part = counts.select(parts[fullest(parts)].exposures)
    strength, _ = choose_strength(part, probe, transmission, prior, seed=seed, rows=[])
    names = ("rounds", "iterations", "final_iterations", "closing_iterations")
    numbers = {name: getattr(options, name) for name in names}
    steps = Steps(**numbers, strength=float(strength), transmission=transmission, name="steps")
    tiles = _cut_tiles(counts, probe, options, seed)
    examples, judges = _examples(tiles, steps, (1 - JUDGE_SHARE) * options.fit_share)
    unet = build_unet(channels_of(options.rounds), options.filters, "network")
    trainer = Trainer(unet, examples, judges, options, [seed, 0])
    if backup and (state := backup.load()):
        trainer.restore(*state)
        print(f"goes on after round {len(trainer.rows)}: {backup.path}", file=sys.stderr)

    def save():
        if backup:
            facts, arrays = trainer.state()
            backup.save(facts, **arrays)

    history = trainer.run("unrolled", save)
    features = keras.Input(unet.inputs[0].shape[1:], name="features")
    return keras.Model(features, unet(steps(features)), name="unrolled"), history


def apply_unrolled(network: keras.Model, counts: Counts, probe):
    """Reconstruct exposures with a trained network, all on one canvas.

    Returns
    -------
    obj : (H, W) complex64
    light : (H, W) float64
        Illumination [photons per pixel].
    origin_px : (int, int)
    """
    steps, unet, likelihood = network.get_layer("steps"), network.get_layer("network"), Likelihood(counts, probe)
    ends = steps.before(likelihood)
    obj = steps.behind(likelihood, corrected(unet, ends[-1], steps.features(likelihood, ends)))
    return obj, likelihood.light(), likelihood.origin_px


def reconstruct_tiles(network: keras.Model, counts: Counts, probe, tiles: list[Tile], *, folder=None) -> Canvas:
    """Add the reconstructions of some tiles, weighted by their illumination, to a canvas around them.

    Parameters
    ----------
    tiles : list of Tile
        Of `counts`, see `ptycho.tiles.cut_tiles`; may be empty.
    folder : Path, optional
        Where the canvas lives in files; without, it is in memory.
    """
    if not tiles:
        return Canvas.empty((0, 0), (0, 0))
    chosen = np.unique(np.concatenate([tile.exposures for tile in tiles]))
    canvas = Canvas.around(counts.xcoords[chosen], counts.ycoords[chosen], probe.shape[-1], folder)
    for tile in tqdm(tiles, desc="unrolled", unit="tile"):
        add_tile(canvas, tile, *apply_unrolled(network, counts.select(tile.exposures), probe))
    return canvas
