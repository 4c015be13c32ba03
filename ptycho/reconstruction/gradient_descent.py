"""Error reduction on a canvas, accelerated: a few iterations give networks an estimate that overlap has shaped.

An iteration is a step of gradient descent on the squared error of the amplitudes, divided by the illumination (Fienup,
Appl. Opt. 21, 2758, 1982, section III). Three additions make few iterations enough: momentum, a gain of slow phases, of
which the patterns say little, and a weak prior of smoothness, which matters where photons are few.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.physics.probes import diameter_px
from ptycho.reconstruction.likelihood import Likelihood

REGULARIZATION = 0.05
"""Added to the illumination that divides an update, as a fraction of an exposure's peak: dim pixels hardly change."""
SMOOTHNESS = 2.0
"""Weight of the prior, the sum of squared differences of neighboring pixels [photon]. The variance of an amplitude of
counts is 1/4 at any dose, so this expects differences of 0.35 (RMS) in the real and in the imaginary part."""
MOMENTUM = 0.9
"""Fraction of the last change that an iteration goes ahead by."""
SLOW_PHASE_GAIN, SLOW_PHASE_WAVES = 8.0, 0.22
"""Gain of the slowest phases, less one, and the spatial frequency [waves per diameter of the beam] where half of it is
left: an update recovers a fraction of a phase that falls with the square of its frequency."""
DARK = 0.1
"""Added to |O|² where a change of O is divided by it: dark pixels have no phase."""

Update = Callable[[NDArray[np.complex64]], NDArray[np.complex64]]


def _laplacian(obj: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Sum the differences from the four neighbors; there are none across the border."""
    padded = np.pad(obj, 1, mode="edge")
    return padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4 * obj


def _updates(likelihood: Likelihood) -> tuple[Update, Update]:
    """Return functions that map an object to its change: in the first iteration, and in all others."""
    illumination = likelihood.illumination()
    damped = illumination + REGULARIZATION * float(np.max(np.sum(np.abs(likelihood.probe) ** 2, axis=0)))
    first_step, step, seen = (
        part.astype(np.float32) for part in (1 / damped, 1 / (damped + 8 * SMOOTHNESS), illumination / damped)
    )
    height, width = (np.arange(size) / (2 * size) for size in likelihood.shape)
    waves = np.hypot(height[:, None], width) * diameter_px(likelihood.probe)
    gain = (SLOW_PHASE_GAIN / (1 + (waves / SLOW_PHASE_WAVES) ** 2)).astype(np.float32)

    def first(obj: NDArray[np.complex64]) -> NDArray[np.complex64]:
        return first_step * likelihood.amplitude_update(obj)

    def update(obj: NDArray[np.complex64]) -> NDArray[np.complex64]:
        change = step * (likelihood.amplitude_update(obj) + np.float32(SMOOTHNESS) * _laplacian(obj))
        phase = seen * np.imag(change * obj.conj()) / (np.abs(obj) ** 2 + np.float32(DARK))
        return change + 1j * obj * fft.idctn(gain * fft.dctn(phase))

    return first, update


def gradient_descent(
    likelihood: Likelihood, start: NDArray[np.complex64], iterations: int, keep: tuple[int, ...]
) -> list[NDArray[np.complex64]]:
    """Replace the amplitudes of all exposures on the detector and stitch the exit waves, again and again.

    From a flat object, the first iteration is the inverse diffraction of the patterns, stitched. The others follow
    Nesterov's momentum (Soviet Math. Dokl. 27, 372, 1983; with a constant factor as in Sutskever et al., ICML 2013).
    Their step is divided by the largest curvature of the prior as well, 8 times its weight, so that it never overshoots
    (De Pierro, IEEE Trans. Med. Imaging 14, 132, 1995). The phase of a change is amplified at low frequencies, of which
    the cosine transform needs no values beyond the border of the canvas.

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
    first, update = _updates(likelihood)
    before = obj = start + first(start)
    ahead, kept = obj, {0: obj}
    for iteration in range(1, iterations + 1):
        obj, before = ahead + update(ahead), obj
        ahead = obj + np.float32(MOMENTUM) * (obj - before)
        if iteration in keep:
            kept[iteration] = obj
    return [kept[iteration] for iteration in keep]
