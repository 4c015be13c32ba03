"""What an unrolled network owes to its parts: the same reconstruction with only some of them in it."""

from collections.abc import Iterator

import keras
import numpy as np

from ptycho.likelihood import Counts, Likelihood
from ptycho.model.canvas import corrected
from ptycho.model.unrolled import Steps
from ptycho.tv import descend

VARIANTS = ("steps", "prior", "longer", "not-closed")
"""What `take_apart` makes of a network."""
LONGER = 8
"""Steps that take about as long as the network."""


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
        "steps": all steps, those behind the network as well, without prior and network; "prior": with the prior;
        "longer": with `LONGER` steps in the network's place; "not-closed": with the network, but no steps behind it.
    obj : (H, W) complex64
        On the canvas around the exposures' windows.
    """
    likelihood = Likelihood(counts, probe)
    steps: Steps = network.get_layer("steps")
    total = steps.iterations * (steps.rounds - 1) + steps.final_iterations + steps.closing_iterations
    flat = np.full(likelihood.shape, steps.transmission, np.complex64)
    yield "steps", descend(likelihood, flat, 0.0, total)[0]
    ends = steps.before(likelihood)
    yield "prior", steps.behind(likelihood, ends[-1])
    yield "longer", descend(likelihood, ends[-1], steps.strength, steps.closing_iterations + LONGER)[0]
    yield "not-closed", corrected(network.get_layer("network"), ends[-1], steps.features(likelihood, ends))
