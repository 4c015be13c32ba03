"""Steps on the Poisson likelihood and a total-variation prior: SciPy's L-BFGS in variables that suit ptychography.

The counts' likelihood (Thibault and Guizar-Sicairos, New J. Phys. 14, 063004, 2012) and the isotropic total variation
(Rudin, Osher and Fatemi, Physica D 60, 259, 1992) of the complex object; and steps in a slow phase alone.
"""

import numpy as np
from scipy import fft
from scipy.optimize import minimize

from ptycho.likelihood import Likelihood

EDGE = 0.02
"""Differences of transmittance below this count as smooth, above as edges: the total variation is differentiable."""
BOOST, BOOST_FREQUENCY = 20.0, 0.05
"""Low spatial frequencies, in cycles a pixel, move up to 21 times as fast: a flat start converges sooner."""
CORRECTIONS = 12
"""Pairs that L-BFGS keeps."""
GAIN = 1.0e-5
"""It ends where a step gains less than this share of the objective."""
SLOW_PHASE = 0.25, 2.0
"""Waves across a pattern: what is slower counts as slow phase all alike, what is faster is left to other steps."""
FIRST_STEP, FIRST_PHASE = 3.0e-4, 0.1
"""Root mean square of what L-BFGS tries first, in the variables of the object and of the phase [rad]: no more than
it takes. From steps of length one, which SciPy tries by itself, it has to come there by several evaluations."""
BATCH, DIM, MOMENTUM = 8, 0.1, 0.5
"""Of sweeps: exposures in a batch; light that counts as dim, as a share of the brightest; what a sweep keeps of the
change that the last one made."""


def total_variation(obj):
    """Smoothed isotropic total variation, Σ sqrt(|∂x O|² + |∂y O|² + ε²) - ε, and dE/dRe O + i dE/dIm O.

    Parameters
    ----------
    obj : (H, W) complex
        Forward differences, none across the border.
    """
    down, right = np.zeros_like(obj), np.zeros_like(obj)
    down[:-1], right[:, :-1] = obj[1:] - obj[:-1], obj[:, 1:] - obj[:, :-1]
    length = np.sqrt(down.real**2 + down.imag**2 + right.real**2 + right.imag**2 + EDGE**2)
    down, right = down / length, right / length
    gradient = -(down + right)
    gradient[1:] += down[:-1]
    gradient[:, 1:] += right[:, :-1]
    return float(np.sum(length - EDGE, dtype=np.float64)), gradient


class Variables:
    """Preconditioned variables: a change of the object is K z / D, low frequencies boosted, dim pixels too.

    Parameters
    ----------
    light : (H, W) float
        Illumination [photons per pixel].
    """

    def __init__(self, light):
        down, across = fft.fftfreq(light.shape[0])[:, None], fft.fftfreq(light.shape[1])
        self.filter = (1 + BOOST / (1 + (down**2 + across**2) / BOOST_FREQUENCY**2)).astype(np.float32)
        scale = np.sqrt(light + 0.02 * light.max())
        self.scale, self.shape = (scale / scale.max()).astype(np.float32), light.shape

    def _smooth(self, field):
        return fft.ifft2(fft.fft2(field) * self.filter)

    def step(self, z):
        """(2 H W,) float64 variables to the (H, W) complex64 change of the object that they mean."""
        return self._smooth(z.view(np.complex128).reshape(self.shape).astype(np.complex64)) / self.scale

    def pull_back(self, gradient):
        """Gradient over the object to gradient over the variables: the adjoint of `step`."""
        field = np.ascontiguousarray(self._smooth(gradient / self.scale), np.complex128)
        return field.view(np.float64).ravel()


def _minimize(evaluate, size: int, first: float, iterations: int):
    """Minimise from zero by L-BFGS, in units in which its first step is as long as it should be; (size,) and facts."""
    unit = first * np.sqrt(size)

    def scaled(z):
        value, gradient = evaluate(unit * z)
        return value, unit * gradient

    options = {"maxiter": iterations, "maxcor": CORRECTIONS, "maxfun": 2 * iterations, "ftol": GAIN}
    found = minimize(scaled, np.zeros(size), jac=True, method="L-BFGS-B", options=options)
    return unit * found.x, found


def descend(likelihood: Likelihood, obj, strength: float, iterations: int):
    """Minimise likelihood + strength · total variation from an object.

    Returns
    -------
    obj : (H, W) complex64
    objective : float
    iterations : int
        That were made.
    """
    variables = Variables(likelihood.light())

    def evaluate(z):
        now = obj + variables.step(z)
        value, gradient = likelihood(now)
        prior, slope = total_variation(now)
        return value + strength * prior, variables.pull_back(gradient + np.float32(strength) * slope)

    z, found = _minimize(evaluate, 2 * obj.size, FIRST_STEP, iterations)
    return (obj + variables.step(z)).astype(np.complex64), float(found.fun), int(found.nit)


def descend_phase(likelihood: Likelihood, obj, iterations: int):
    """Minimise the likelihood over a slow phase that an object is multiplied by, and over nothing else.

    Patterns hardly feel a phase that changes little across the beam: the curvature falls with the square of its
    frequency, and steps in the whole object need hundreds of iterations for it. That does not hold for amplitudes,
    so that the object's own variables cannot be boosted for it; those of the phase alone can, by 1 / frequency.

    Returns
    -------
    obj : (H, W) complex64
    """
    slowest, fastest = (waves / likelihood.n for waves in SLOW_PHASE)
    height, width = likelihood.shape
    square = fft.fftfreq(height)[:, None] ** 2 + fft.rfftfreq(width) ** 2
    boost = (np.exp(-square / fastest**2) / np.sqrt(1 + square / slowest**2)).astype(np.float32)

    def smooth(field):
        return fft.irfft2(fft.rfft2(field) * boost, s=likelihood.shape)

    def turned(z):
        return (obj * np.exp(1j * smooth(z.reshape(likelihood.shape).astype(np.float32)))).astype(np.complex64)

    def evaluate(z):
        now = turned(z)
        value, gradient = likelihood(now)
        return value, smooth(np.imag(gradient * now.conj())).astype(np.float64).ravel()

    return turned(_minimize(evaluate, obj.size, FIRST_PHASE, iterations)[0])


def sweep(likelihood: Likelihood, obj, times: int):
    """Go through the exposures in batches, a step along a batch's preconditioned gradient after each, with momentum.

    Where patterns are told apart badly, as with a smooth beam whose photons stay in the middle of the detector, one
    such sweep gets as far as several steps on all exposures (ordered subsets: Hudson and Larkin, IEEE Trans. Med.
    Imaging 13, 601, 1994; ptychography, Maiden, Johnson and Li, Optica 4, 736, 2017). It has no prior and comes no
    nearer than the noise of a batch: a start.

    Returns
    -------
    obj : (H, W) complex64
    """
    rng, obj, change = np.random.default_rng(0), obj.copy(), np.zeros_like(obj)
    soft = likelihood.softened(np.inf)
    for _ in range(times):
        before = obj.copy()
        for region, slope, light in soft.batches(BATCH, rng):
            obj[region] -= slope(np.ascontiguousarray(obj[region])) / (2 * (light + DIM * light.max()))
        change = MOMENTUM * change + (obj - before)
        obj = before + change
    return obj
