"""Accelerated gradient descent on a canvas: a few iterations give networks an estimate that overlap has shaped.

An iteration is a step down the gradient of the Poisson likelihood, divided by its curvature, which the illumination
gives. Four additions make few iterations enough: momentum, a background that decreases from iteration to iteration, a
gain of slow phases, of which the patterns say little, and a weak prior of smoothness, which matters where photons are
few.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.physics.probes import diameter_px
from ptycho.reconstruction.likelihood import Likelihood

REGULARIZATION = 0.05
"""Added to the illumination that divides an update, as a fraction of an exposure's peak: dim pixels hardly change."""
CURVATURE = 4.0
"""Second derivative of half the deviance of one count, r² - y log r², by the amplitude r, at its minimum."""
SMOOTHNESS = 8.0
"""Weight of the squared differences of neighboring pixels, beside half the deviance [photon]. Differences of 1/4 (RMS)
are expected, in the real and in the imaginary part."""
FIRST_BACKGROUND, LAST_BACKGROUND = 2.0, 0.03
"""Background in the first and in the last iteration, in units of the counts' noise level."""
MOMENTUM = 0.9
"""Fraction of the last change that an iteration goes ahead by."""
SLOW_PHASE_GAIN, SLOW_PHASE_WAVES = 8.0, 0.22
"""Gain of the slowest phases, less one, and the spatial frequency [waves per diameter of the beam] where half of it is
left: an update recovers a fraction of a phase that falls with the square of its frequency."""
DARK = 0.1
"""Added to |O|² where a change of O is divided by it: dark pixels have no phase."""

Update = Callable[[NDArray[np.complex64], float], NDArray[np.complex64]]


def _laplacian(obj: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Sum the differences from the four neighbors; there are none across the border."""
    padded = np.pad(obj, 1, mode="edge")
    return padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4 * obj


def _damped_illumination(likelihood: Likelihood) -> NDArray[np.float64]:
    """Return the illumination that divides an update, (H, W) float64 [photon/px]."""
    peak = float(np.max(np.sum(np.abs(likelihood.probe) ** 2, axis=0)))
    return likelihood.illumination() + REGULARIZATION * peak


def _update(likelihood: Likelihood) -> Update:
    """Return a function that maps an object and the background of the likelihood to the object's change."""
    damped = _damped_illumination(likelihood)
    step = (1 / (CURVATURE * damped + 16 * SMOOTHNESS)).astype(np.float32)
    seen = (likelihood.illumination() / damped).astype(np.float32)
    height, width = (np.arange(size) / (2 * size) for size in likelihood.shape)
    waves = np.hypot(height[:, None], width) * diameter_px(likelihood.probe)
    gain = (SLOW_PHASE_GAIN / (1 + (waves / SLOW_PHASE_WAVES) ** 2)).astype(np.float32)

    def update(obj: NDArray[np.complex64], background: float) -> NDArray[np.complex64]:
        gradient = likelihood.with_background(background).gradient(obj)
        change = step * (np.float32(2 * SMOOTHNESS) * _laplacian(obj) - gradient)
        phase = seen * np.imag(change * obj.conj()) / (np.abs(obj) ** 2 + np.float32(DARK))
        return change + 1j * obj * fft.idctn(gain * fft.dctn(phase))

    return update


def gradient_descent(
    likelihood: Likelihood, start: NDArray[np.complex64], iterations: int, keep: tuple[int, ...]
) -> list[NDArray[np.complex64]]:
    """Stitch the inverse diffraction of all exposures, and improve it by accelerated gradient descent.

    The first iteration is one of error reduction (Fienup, Appl. Opt. 21, 2758, 1982): it replaces the amplitudes of all
    waves on the detector. The others minimize half the deviance plus `SMOOTHNESS` times the squared differences of
    neighboring pixels. They follow Nesterov's momentum (Soviet Math. Dokl. 27, 372, 1983; with a constant factor as in
    Sutskever et al., ICML 2013). Their step is divided by a curvature: that of the likelihood at its minimum, if the
    phases on the detector are known, plus the largest of the prior, 16 times its weight (De Pierro, IEEE Trans. Med.
    Imaging 14, 132, 1995). The background that is added to the predicted counts falls geometrically: far from the
    minimum, pixels with counts but almost no predicted intensity would dominate the gradient. The phase of a change is
    amplified at low frequencies, of which the cosine transform needs no values beyond the border of the canvas.

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
    first: NDArray[np.complex64] = likelihood.amplitude_update(start) / _damped_illumination(likelihood)
    before = obj = start + first.astype(np.complex64)
    ahead, kept, update = obj, {0: obj}, _update(likelihood)
    backgrounds = np.geomspace(FIRST_BACKGROUND, LAST_BACKGROUND, iterations)
    for iteration, background in enumerate(backgrounds, start=1):
        obj, before = ahead + update(ahead, background), obj
        ahead = obj + np.float32(MOMENTUM) * (obj - before)
        if iteration in keep:
            kept[iteration] = obj
    return [kept[iteration] for iteration in keep]
