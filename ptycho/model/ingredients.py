"""What an unrolled network owes to its parts: the same reconstruction with only some of them in it."""

from collections.abc import Iterator

import keras
import numpy as np

from ptycho.likelihood import Counts, Likelihood
from ptycho.model.canvas import corrected
from ptycho.model.unrolled import Scene


def variants(stages: int) -> list[str]:
    """Name what `take_apart` makes of a network of so many stages."""
    return ["steps", "prior", *(f"networks-{k}" for k in range(1, stages)), "not-closed"]


def take_apart(network: keras.Model, counts: Counts, probe) -> Iterator[tuple[str, np.ndarray]]:
    """Reconstruct exposures with parts of a trained unrolled network.

    Parameters
    ----------
    network : keras.Model
        As `ptycho.model.unrolled.train_unrolled` returns it.
    counts : Counts
        Exposures.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].

    Yields
    ------
    name : str
        "steps": those of all stages and the closing ones, without prior and networks; "prior": with the prior;
        "networks-1" and so on: with the first networks, then the closing steps; "not-closed": everything but those.
    obj : (H, W) complex64
        On the canvas around the exposures' windows.
    """
    layers = {layer.name: layer for layer in network.layers}
    stages = len(network.inputs)
    likelihood = Likelihood(counts, probe)
    start = Scene(likelihood, layers["steps_1"].transmission)

    def run(networks: int, of_stages: int, *, prior: bool = True, closed: bool = True):
        scene = Scene(likelihood, start.transmission)
        for stage in range(1, of_stages + 1):
            steps = layers[f"steps_{stage}"]
            stepped = scene.step(steps.iterations, steps.strength * prior)
            if stage <= networks:
                stepped = corrected(layers[f"network_{stage}"], stepped, scene.features(stepped))
            scene.canvas = stepped
        last = layers[f"steps_{stages}"]
        return scene.step(last.iterations, last.strength * prior) if closed else scene.canvas

    for name in variants(stages):
        if name == "steps":
            yield name, run(0, stages, prior=False)
        elif name == "prior":
            yield name, run(0, stages)
        elif name == "not-closed":
            yield name, run(stages, stages, closed=False)
        else:
            count = int(name.rpartition("-")[2])
            yield name, run(count, count)
