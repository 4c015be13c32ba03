"""An unrolled reconstruction: steps on the whole scan's likelihood and a network, in turns, trained without truth.

Every stage makes a few steps of L-BFGS on the Poisson likelihood and a total-variation prior (`ptycho.tv`), and a U-Net
that sees what they have found, their last gradient, where they began and the illumination adds what they lack; behind
the last one the steps are made once more. Stage after stage is trained on tiles of the train split by thinning its
photons (`ptycho.model.canvas`), which the prior's strength is chosen by, too. The test split sees it unchanged.
"""

import sys
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from ptycho.likelihood import Counts, Likelihood, thinned
from ptycho.model.canvas import Example, Fitting, Trainer, build_unet, corrected, judge_of
from ptycho.model.checkpoints import Backup, assign, values_of
from ptycho.model.layers import PACKAGE
from ptycho.stitch import Canvas
from ptycho.tiles import Tile, add_tile
from ptycho.tv import TotalVariation, choose_strength, descend, transmission_of

CHANNELS = 7
"""What the steps have found, their gradient, where they began (real and imaginary parts), and the illumination."""
RELAXED = 0.25
"""Strength of the prior in all but the last stage, in units of the chosen one: weaker, it lets the steps go further."""
JUDGE_SHARE = 0.08
"""Of the photons: never trained on; they say which weights are kept."""
JUDGES = 6
"""Tiles in which they are looked at."""


@dataclass(frozen=True, kw_only=True)
class Unrolled(Fitting):
    """How the networks look and are trained; filters and steps are of every stage."""

    stages: int
    """Times that steps and network follow each other."""
    iterations: int
    """L-BFGS steps before a network."""
    tile_px: float
    """Largest extent of the positions of a training tile [px]."""
    tiles: int
    """Training tiles, each thinned anew."""
    fit_share: float
    """Share of the photons that goes in while training; the rest is predicted."""


@keras.saving.register_keras_serializable(package=PACKAGE)
class Steps(keras.layers.Layer):
    """Stands for the steps that come before a network, and carries their numbers in the saved model.

    Parameters
    ----------
    iterations : int
        Of L-BFGS.
    strength : float
        Of the total-variation prior.
    transmission : float
        Mean amplitude transmittance of the training data: the flat object that the first steps start from.
    """

    def __init__(self, iterations: int, strength: float, transmission: float, **kwargs):
        super().__init__(**kwargs)
        self.iterations, self.strength, self.transmission = iterations, strength, transmission

    def call(self, features):
        return features

    def get_config(self):
        options = {"iterations": self.iterations, "strength": self.strength, "transmission": self.transmission}
        return {**super().get_config(), **options}


class Scene:
    """Exposures that are reconstructed together, and the canvas as it is by now.

    Parameters
    ----------
    likelihood : Likelihood
        Of the photons that are reconstructed from.
    transmission : float
        Of the flat object that it starts from.
    """

    def __init__(self, likelihood: Likelihood, transmission: float):
        self.likelihood, self.transmission, self.light = likelihood, transmission, likelihood.light()
        self.canvas = np.full(likelihood.shape, transmission, np.complex64)

    def step(self, iterations: int, strength: float):
        """Make L-BFGS steps from the canvas, which stays as it is; return (H, W) complex64."""
        return descend(self.likelihood, self.canvas, strength, iterations)[0]

    def features(self, stepped):
        """Return what a network sees, (H, W, 7) float32: transmittances, and the gradient in their units."""
        dim = 0.05 * np.median(self.light[self.light > 1e-3 * self.light.max()])
        slope = self.likelihood(stepped)[1] / (2 * (self.light + dim))
        parts = stepped - self.transmission, slope, self.canvas - self.transmission
        stack = [part for field in parts for part in (field.real, field.imag)] + [np.log10(1 + self.light) / 4]
        return np.clip(np.stack(stack, axis=-1), -3, 3).astype(np.float32)


@dataclass
class _Tile:
    """A training tile: what goes in, the photons that the loss predicts, those that judge."""

    scene: Scene
    predicted: Likelihood
    judge: Likelihood


def _cut_tiles(counts: Counts, probe, transmission: float, options: Unrolled, seed: int) -> list[_Tile]:
    rng, tiles = np.random.default_rng([seed, 0]), []
    rest, judges = thinned(counts, 1 - JUDGE_SHARE, seed)
    half, share = options.tile_px / 2, (1 - JUDGE_SHARE) * options.fit_share
    for _ in range(options.tiles):
        centre = rng.integers(len(counts))
        near = [np.abs(axis - axis[centre]) <= half for axis in (counts.xcoords, counts.ycoords)]
        chosen = np.flatnonzero(near[0] & near[1])
        fitted, predicted = thinned(rest.select(chosen), options.fit_share, int(rng.integers(1 << 31)))
        scene = Scene(Likelihood(fitted, probe, share), transmission)
        predicted = Likelihood(predicted, probe, 1 - JUDGE_SHARE - share, cache_bytes=0)
        judge = Likelihood(judges.select(chosen), probe, JUDGE_SHARE, cache_bytes=0)
        tiles.append(_Tile(scene, predicted, judge))
    return tiles


def _examples(tiles: list[_Tile], strength: float, options: Unrolled) -> tuple[list[Example], list[Example]]:
    """Make a stage's steps in every tile: examples to train on, and those that judge."""
    examples, judges = [], []
    scale = np.sqrt((1 - JUDGE_SHARE) * options.fit_share)
    for number, tile in enumerate(tqdm(tiles, desc="steps", unit="tile", mininterval=5)):
        stepped = tile.scene.step(options.iterations, strength * scale)
        features, origin = tile.scene.features(stepped), tile.scene.likelihood.origin_px
        examples.append(Example(stepped, features, judge_of(tile.predicted, origin)))
        if number < JUDGES:
            judges.append(Example(stepped, features, judge_of(tile.judge, origin)))
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
        How the strength of the prior is chosen.
    backup : Backup, optional
        Where the state goes after every round, and where one of the same training is taken up.

    Returns
    -------
    network : keras.Model
        Stages side by side, features to what is to be added; `apply_unrolled` takes it.
    history : DataFrame
        epoch (passes over the tiles, of all stages), loss, stop_deviance (of the photons that judge), learning_rate,
        stage.
    """
    keras.utils.set_random_seed(seed)
    transmission = transmission_of(counts, probe)
    tiles = _cut_tiles(counts, probe, transmission, options, seed)
    chosen, _ = choose_strength(counts, probe, transmission, prior, seed=seed, rows=[])
    strengths = [RELAXED * chosen] * (options.stages - 1) + [chosen]
    training = _Training(options, seed, backup)
    for stage, (network, strength) in enumerate(zip(training.networks, strengths, strict=True)):
        examples, judges = _examples(tiles, strength, options)
        training.fit(stage, examples, judges)
        for tile, example in zip(tiles, examples, strict=True):
            tile.scene.canvas = corrected(network, example.start, example.features)
    network = _assemble(training.networks, strengths, options.iterations, transmission)
    return network, pd.concat(training.tables, ignore_index=True)


class _Training:
    """The stages' networks, what is known of them by now, and where that is kept."""

    def __init__(self, options: Unrolled, seed: int, backup: Backup | None):
        self.options, self.seed, self.backup = options, seed, backup
        self.networks = [build_unet(CHANNELS, options.filters, f"network_{k + 1}") for k in range(options.stages)]
        self.tables, self.pending = [], None
        if backup and (state := backup.load()):
            facts, arrays = state
            size = len(self.networks[0].weights)
            for k, network in enumerate(self.networks[: facts["stage"]]):
                assign(network.weights, arrays["finished"][k * size : (k + 1) * size])
            self.tables = [pd.DataFrame(table) for table in facts["tables"]]
            self.pending = facts["trainer"], arrays
            print(f"goes on in stage {facts['stage'] + 1} of {options.stages}: {backup.path}", file=sys.stderr)

    def fit(self, stage: int, examples: list[Example], judges: list[Example]) -> None:
        """Train a stage's network, or what is left of it."""
        if stage < len(self.tables):
            return
        trainer = Trainer(self.networks[stage], examples, judges, self.options, [self.seed, stage])
        if self.pending:
            trainer.restore(*self.pending)
            self.pending = None
        label = f"stage {stage + 1}/{self.options.stages}"
        table = trainer.run(label, lambda: self._save(stage, trainer))
        before = self.tables[-1]["epoch"].max() if self.tables else 0.0
        self.tables.append(table.assign(stage=stage + 1, epoch=before + table["epoch"]))

    def _save(self, stage: int, trainer: Trainer) -> None:
        if self.backup is None:
            return
        facts, arrays = trainer.state()
        finished = [array for network in self.networks[:stage] for array in values_of(network.weights)]
        tables = [table.to_dict("list") for table in self.tables]
        known = {"stage": stage, "tables": tables, "trainer": facts}
        self.backup.save(known, finished=finished, **arrays)


def _assemble(networks: list, strengths: list[float], iterations: int, transmission: float) -> keras.Model:
    inputs = [keras.Input((None, None, CHANNELS), name=f"features_{k + 1}") for k in range(len(networks))]
    outputs = [
        network(Steps(iterations, strength, transmission, name=f"steps_{k + 1}")(features))
        for k, (network, strength, features) in enumerate(zip(networks, strengths, inputs, strict=True))
    ]
    return keras.Model(inputs, outputs, name="unrolled")


def apply_unrolled(network: keras.Model, counts: Counts, probe):
    """Reconstruct exposures with a trained network, all on one canvas.

    Returns
    -------
    obj : (H, W) complex64
    light : (H, W) float64
        Illumination [photons per pixel].
    origin_px : (int, int)
    """
    layers = {layer.name: layer for layer in network.layers}
    scene = Scene(Likelihood(counts, probe), layers["steps_1"].transmission)
    for stage in range(1, len(network.inputs) + 1):
        steps = layers[f"steps_{stage}"]
        stepped = scene.step(steps.iterations, steps.strength)
        scene.canvas = corrected(layers[f"network_{stage}"], stepped, scene.features(stepped))
    return scene.step(steps.iterations, steps.strength), scene.light, scene.likelihood.origin_px


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
