"""An unrolled reconstruction: steps on the whole scan's likelihood and a network behind them, trained without truth.

L-BFGS steps on the Poisson likelihood, softened by a background that falls from round to round, and a total-variation
prior (`ptycho.tv`) that weakens with it, with a few in the slow phase alone behind each; sweeps through the patterns in
place of the first of these rounds, where photons set apart say that they get clearly further; a U-Net that sees where
every round has ended, the last gradient and the illumination, and adds what they lack; a few more steps. The network is
trained on tiles of the train split by thinning its photons (`ptycho.model.canvas`), which the prior's strength is
chosen by, too. The test split sees it unchanged.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from tqdm import tqdm

from ptycho.descent import descend, descend_phase, sweep
from ptycho.likelihood import Counts, Likelihood, thinned
from ptycho.model.canvas import Example, Fitting, Trainer, build_unet, corrected, judge_of
from ptycho.model.checkpoints import Backup
from ptycho.model.layers import PACKAGE
from ptycho.stitch import Canvas
from ptycho.tiles import Tile, canvas_of, cut_tiles, fullest
from ptycho.tv import SOFT, TotalVariation, choose_strength, transmission_of

JUDGE_SHARE = 0.08
"""Of the photons: never trained on; they say which weights are kept."""
JUDGES = 12
"""Tiles in which they are looked at."""
PHOTONS_ALIKE = 0.01
"""Share by which a probe's photons may differ from the training's without a warning."""
SWEEPS_GAIN = 0.01
"""Share of the deviance of photons set apart that sweeps have to gain: by less they are now better, now worse."""
MAGNIFIED = 3.0
"""Differences between rounds are small beside the object: a network sees them so many times as large."""


@dataclass(frozen=True, kw_only=True)
class Unrolled(Fitting):
    """How the steps go, and how the network behind them looks and is trained."""

    rounds: int
    """Of steps: the prior is as strong as chosen in the last, twice as strong in the one before, and so on."""
    sweeps: int
    """Through the patterns in place of the first round, where they get further; 0 does without."""
    iterations: int
    """L-BFGS steps of every round but the last."""
    phase_iterations: int
    """L-BFGS steps in the slow phase alone, behind every round but the last."""
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
    rounds, sweeps, iterations, phase_iterations, final_iterations, closing_iterations : int
        See `Unrolled`; sweeps is what was chosen.
    n_pixels : int
    photons : float
        Of the patterns and the probe that it was trained with.
    strength : float
        Of the total-variation prior in the last round and behind the network.
    transmission : float
        Mean amplitude transmittance of the training data: the flat object that the first steps start from.
    """

    background = SOFT
    """Of the likelihood behind the network, times its noise; ten times in the last round, √10 more in each before."""
    NUMBERS = ("rounds", "sweeps", "iterations", "phase_iterations", "final_iterations", "closing_iterations")

    def __init__(self, *, strength, transmission, n_pixels, photons, **kwargs):
        self.numbers = {name: kwargs.pop(name) for name in self.NUMBERS}
        super().__init__(**kwargs)
        self.strength, self.transmission, self.n_pixels, self.photons = strength, transmission, n_pixels, photons

    def call(self, features):
        return features

    def get_config(self):
        names = ("strength", "transmission", "n_pixels", "photons")
        return {**super().get_config(), **self.numbers, **{name: getattr(self, name) for name in names}}

    def check(self, probe) -> None:
        """Refuse patterns of another size; warn of a probe with other photons, for which the prior was not chosen.

        Raises
        ------
        ValueError
            If the probe is not of the training's N.
        """
        if probe.shape[-1] != self.n_pixels:
            sizes = f"patterns of {self.n_pixels} px, but these have {probe.shape[-1]} px"
            raise ValueError(f"the unrolled network was trained on {sizes}")
        photons = float(np.sum(np.abs(probe) ** 2, dtype=np.float64))
        if not abs(photons / self.photons - 1) <= PHOTONS_ALIKE:
            said = f"a probe of {photons:.4g} photons; the strength of the prior was chosen for {self.photons:.4g}"
            print(f"WARNING: {said}", file=sys.stderr)

    def before(self, likelihood: Likelihood, scale: float = 1.0) -> list[np.ndarray]:
        """Make sweeps and rounds before the network; return where each has ended, (H, W) complex64.

        Parameters
        ----------
        likelihood : Likelihood
            Of the photons that are reconstructed from.
        scale : float
            Factor on the strength of the prior, for a part of the photons.
        """
        obj, ends = np.full(likelihood.shape, self.transmission, np.complex64), []
        rounds = self.numbers["rounds"]
        if self.numbers["sweeps"]:
            obj, rounds = sweep(likelihood, obj, self.numbers["sweeps"]), rounds - 1
            ends.append(obj)
        for left in reversed(range(rounds)):
            iterations = self.numbers["iterations" if left else "final_iterations"]
            soft = likelihood.softened(10 ** (1 + left / 2) * self.background)
            obj, *_ = descend(soft, obj, 2.0**left * self.strength * scale, iterations)
            if left and self.numbers["phase_iterations"]:
                obj = descend_phase(soft, obj, self.numbers["phase_iterations"])
            ends.append(obj)
        return ends

    def behind(self, likelihood: Likelihood, obj):
        """Make the steps behind the network, which start from what it has made of them; (H, W) complex64."""
        soft, iterations = likelihood.softened(self.background), self.numbers["closing_iterations"]
        return descend(soft, obj, self.strength, iterations)[0]

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


def _cut_tiles(counts: Counts, probe, options: Unrolled, seed: int) -> Iterator[_Tile]:
    rng = np.random.default_rng([seed, 0])
    rest, judges = thinned(counts, 1 - JUDGE_SHARE, seed)
    half, share = options.tile_px / 2, (1 - JUDGE_SHARE) * options.fit_share
    for _ in range(options.tiles):
        centre = rng.integers(len(counts))
        near = [np.abs(axis - axis[centre]) <= half for axis in (counts.xcoords, counts.ycoords)]
        chosen = np.flatnonzero(near[0] & near[1])
        fitted, predicted = thinned(rest.select(chosen), options.fit_share, int(rng.integers(1 << 31)))
        predicted = Likelihood(predicted, probe, 1 - JUDGE_SHARE - share, cache_bytes=0)
        judge = Likelihood(judges.select(chosen), probe, JUDGE_SHARE, cache_bytes=0)
        yield _Tile(Likelihood(fitted, probe, share), predicted, judge)


def _examples(counts: Counts, probe, options: Unrolled, steps: Steps, seed: int) -> tuple[list[Example], list[Example]]:
    """Make the steps in one tile after the other: examples to train on, and those that judge."""
    examples, judges, share = [], [], (1 - JUDGE_SHARE) * options.fit_share
    tiles = tqdm(_cut_tiles(counts, probe, options, seed), "steps", options.tiles, unit="tile", mininterval=5)
    for number, tile in enumerate(tiles):
        ends = steps.before(tile.fitted, np.sqrt(share))
        features, origin = steps.features(tile.fitted, ends), tile.fitted.origin_px
        examples.append(Example(ends[-1], features, judge_of(tile.predicted, origin)))
        if number < JUDGES:
            judges.append(Example(ends[-1], features, judge_of(tile.judge, origin)))
    return examples, judges


def _choose_sweeps(counts: Counts, probe, without: Steps, sweeps: int, share: float, seed: int) -> Steps:
    """Return steps with sweeps if they predict photons set apart clearly better than those without, else the latter.

    Parameters
    ----------
    counts : Counts
        Of one tile.
    share : float
        Of the photons that is reconstructed from.
    """
    fitted, apart = thinned(counts, share, seed)
    fitted, apart = Likelihood(fitted, probe, share), Likelihood(apart, probe, 1 - share)
    choice = without, Steps.from_config({**without.get_config(), "sweeps": sweeps})
    found = [2 * apart(steps.before(fitted, np.sqrt(share))[-1])[0] / (len(counts) * apart.n**2) for steps in choice]
    print(f"deviance apart with {sweeps} sweeps {found[1]:.5g}, with one more round instead {found[0]:.5g}")
    return choice[found[1] < (1 - SWEEPS_GAIN) * found[0]]


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
    numbers = {name: getattr(options, name) for name in Steps.NUMBERS} | {"sweeps": 0}
    facts = {"n_pixels": probe.shape[-1], "photons": float(np.sum(np.abs(probe) ** 2, dtype=np.float64))}
    steps = Steps(**numbers, **facts, strength=float(strength), transmission=transmission, name="steps")
    if options.sweeps and options.rounds > 1:
        steps = _choose_sweeps(part, probe, steps, options.sweeps, prior.fit_share, seed)
    unet = build_unet(channels_of(options.rounds), options.filters, "network")
    trainer = Trainer(unet, *_examples(counts, probe, options, steps, seed), options, [seed, 0])
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

    Raises
    ------
    ValueError
        If the network was trained on patterns of another size.
    """
    steps, unet, likelihood = network.get_layer("steps"), network.get_layer("network"), Likelihood(counts, probe)
    steps.check(probe)
    ends = steps.before(likelihood)
    obj = steps.behind(likelihood, corrected(unet, ends[-1], steps.features(likelihood, ends)))
    return obj, likelihood.light(), likelihood.origin_px


def reconstruct_tiles(network: keras.Model, counts: Counts, probe, tiles: list[Tile]) -> Iterator[Canvas]:
    """Reconstruct some tiles, one canvas each, to be synchronised when they are merged.

    Parameters
    ----------
    tiles : list of Tile
        Of `counts`, see `ptycho.tiles.cut_tiles`; may be empty.
    """
    for tile in tqdm(tiles, desc="unrolled", unit="tile"):
        yield canvas_of(tile, *apply_unrolled(network, counts.select(tile.exposures), probe))
