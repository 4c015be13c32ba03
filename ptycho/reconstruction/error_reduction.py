"""Error reduction on a canvas, accelerated: a few iterations give networks an estimate that overlap has shaped."""

import numpy as np
from numpy.typing import NDArray

from ptycho.reconstruction.likelihood import Likelihood

REGULARIZATION = 0.05
"""Added to the illumination that divides an update, as a fraction of an exposure's peak: dim pixels hardly change."""
MOMENTUM = 0.9
"""Fraction of the last change that an iteration goes ahead by."""


def error_reduction(
    likelihood: Likelihood, start: NDArray[np.complex64], iterations: int, keep: tuple[int, ...]
) -> list[NDArray[np.complex64]]:
    """Replace the amplitudes of all exposures on the detector and stitch the exit waves, again and again.

    From a flat object, the first iteration is the inverse diffraction of the patterns, stitched. An iteration is a
    step of gradient descent on the amplitudes' squared error, divided by the illumination (Fienup, Appl. Opt. 21,
    2758, 1982, section III), so that Nesterov's momentum accelerates it (Nesterov, Soviet Math. Dokl. 27, 372, 1983;
    with a constant factor as in Sutskever et al., ICML 2013).

    Parameters
    ----------
    likelihood : Likelihood
        Counts of the exposures, and their probes.
    start : (H, W) complex64
        Object to start from, on the likelihood's canvas.
    iterations : int
        Iterations after the first.
    keep : tuple of int
        Iterations, from 0 (the first) to `iterations`, whose objects are returned.

    Returns
    -------
    list of (H, W) complex64
        Object after each of the iterations in `keep`.
    """
    peak = float(np.max(np.sum(np.abs(likelihood.probe) ** 2, axis=0)))
    step = (1 / (likelihood.illumination() + REGULARIZATION * peak)).astype(np.float32)
    before = obj = start + step * likelihood.amplitude_update(start)
    ahead, kept = obj, {0: obj}
    for iteration in range(1, iterations + 1):
        obj, before = ahead + step * likelihood.amplitude_update(ahead), obj
        ahead = obj + np.float32(MOMENTUM) * (obj - before)
        if iteration in keep:
            kept[iteration] = obj
    return [kept[iteration] for iteration in keep]
