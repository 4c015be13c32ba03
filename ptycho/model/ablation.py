"""What an unrolled network owes to its parts: the same reconstruction with only some of them in it."""

from collections.abc import Iterator

import keras
import numpy as np

from ptycho.descent import descend
from ptycho.likelihood import Counts, Likelihood
from ptycho.log import CpuClock
from ptycho.model.canvas import corrected
from ptycho.model.unrolled import Steps

VARIANTS = ("steps", "prior", "no-slow-phase", "no-background", "no-sweeps", "longer", "not-closed")
"""What `take_apart` makes of a network."""
LONGER = 8
"""Steps that take about as long as the network."""


def take_apart(network: keras.Model, counts: Counts, probe) -> Iterator[tuple[str, np.ndarray, float]]:
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
        "steps": all steps in the whole object, those behind the network as well, without prior, slow phase and network;
        "prior": with prior, slow phase, a background that falls, and sweeps if they were chosen; "no-slow-phase",
        "no-background", "no-sweeps" (a round instead): the same without one of them; "longer": with `LONGER` steps in
        the network's place; "not-closed": with the network, but no steps behind it.
    obj : (H, W) complex64
        On the canvas around the exposures' windows.
    cpu_s : float
        That the whole of it takes: what parts have in common was made once, and counts for each.
    """
    likelihood, clock = Likelihood(counts, probe), CpuClock()
    steps: Steps = network.get_layer("steps")
    numbers = steps.numbers
    closing, soft = numbers["closing_iterations"], likelihood.softened(steps.background)
    total = numbers["iterations"] * (numbers["rounds"] - 1) + numbers["final_iterations"] + closing
    flat = np.full(likelihood.shape, steps.transmission, np.complex64)
    yield "steps", descend(soft, flat, 0.0, total)[0], clock.seconds
    less = {name: Steps.from_config(steps.get_config()) for name in VARIANTS if name.startswith("no-")}
    less["no-slow-phase"].numbers["phase_iterations"], less["no-background"].background = 0, 0.0
    less["no-sweeps"].numbers["sweeps"] = 0
    for name, other in less.items():
        clock = CpuClock()
        yield name, other.behind(likelihood, other.before(likelihood)[-1]), clock.seconds
    clock = CpuClock()
    ends = steps.before(likelihood)
    common = clock.seconds
    parts = {
        "prior": lambda: steps.behind(likelihood, ends[-1]),
        "longer": lambda: descend(soft, ends[-1], steps.strength, closing + LONGER)[0],
        "not-closed": lambda: corrected(network.get_layer("network"), ends[-1], steps.features(likelihood, ends)),
    }
    for name, make in parts.items():
        clock = CpuClock()
        yield name, make(), common + clock.seconds
