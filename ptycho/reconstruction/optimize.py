"""Minimize the Poisson likelihood with a total-variation prior: SciPy's L-BFGS with a preconditioner for ptychography.

Likelihood of the counts: Thibault and Guizar-Sicairos, New J. Phys. 14, 063004 (2012). Isotropic total variation of
the complex object: Rudin, Osher and Fatemi, Physica D 60, 259 (1992). Two further kinds of steps go where L-BFGS is
slow: steps in the slowly varying phase alone, and mini-batch epochs from a flat start.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy import optimize as scipy_optimize

from ptycho.reconstruction.likelihood import Likelihood

TV_SMOOTHING = 0.02
"""Differences of transmittance well below this cost a square, those above an absolute value: ε of the prior."""
LOW_FREQUENCY_GAIN, LOW_FREQUENCY = 20.0, 0.05
"""The preconditioner multiplies spatial frequencies below `LOW_FREQUENCY` [cycles/px] by up to 1 + this gain."""
LBFGS_MEMORY = 12
"""Pairs of steps and gradients that L-BFGS keeps."""
FTOL = 1.0e-5
"""L-BFGS ends where a step lowers the objective by less than this fraction."""
SLOW_PHASE_WAVES = 0.25, 2.0
"""Waves across a pattern: below the first, the slow phase is not amplified any further; above the second, it is left
to other steps."""
FIRST_STEP_RMS, FIRST_PHASE_STEP_RMS_RAD = 3.0e-4, 0.1
"""RMS of the first trial step, in preconditioned variables and of the phase [rad]; SciPy's default of a step of
length 1 wastes several evaluations."""
BATCH_SIZE = 8
"""Exposures in a mini-batch."""
DAMPING = 0.1
"""Of a mini-batch step, as a fraction of the brightest illumination: dimmer pixels move less."""
MOMENTUM = 0.5
"""Fraction of the change of one mini-batch epoch that is added to the next one's."""


def total_variation(obj) -> tuple[float, NDArray]:
    """Smoothed isotropic total variation, Σ sqrt(|∂x O|² + |∂y O|² + ε²) - ε, and its gradient.

    Parameters
    ----------
    obj : (H, W) complex
        Forward differences, none across the border.

    Returns
    -------
    value : float
    gradient : (H, W) complex
        dE/dRe O + i dE/dIm O.
    """
    down, right = np.zeros_like(obj), np.zeros_like(obj)
    down[:-1], right[:, :-1] = obj[1:] - obj[:-1], obj[:, 1:] - obj[:, :-1]
    length = np.sqrt(down.real**2 + down.imag**2 + right.real**2 + right.imag**2 + TV_SMOOTHING**2)
    down, right = down / length, right / length
    gradient = -(down + right)
    gradient[1:] += down[:-1]
    gradient[:, 1:] += right[:, :-1]
    return float(np.sum(length - TV_SMOOTHING, dtype=np.float64)), gradient


class Preconditioner:
    """Linear map from variables z to changes of the object, K z / D: low frequencies and dim pixels move more.

    Parameters
    ----------
    illumination : (H, W) float
        [photon/px]
    """

    def __init__(self, illumination):
        down, across = fft.fftfreq(illumination.shape[0])[:, None], fft.fftfreq(illumination.shape[1])
        gain = 1 + LOW_FREQUENCY_GAIN / (1 + (down**2 + across**2) / LOW_FREQUENCY**2)
        self.filter = gain.astype(np.float32)
        scale = np.sqrt(illumination + 0.02 * illumination.max())
        self.scale, self.shape = (scale / scale.max()).astype(np.float32), illumination.shape

    def _smooth(self, field):
        return fft.ifft2(fft.fft2(field) * self.filter)

    def step(self, z) -> NDArray[np.complex64]:
        """Map (2 H W,) float64 variables to the (H, W) complex64 change of the object that they mean."""
        return self._smooth(z.view(np.complex128).reshape(self.shape).astype(np.complex64)) / self.scale

    def adjoint(self, gradient) -> NDArray[np.float64]:
        """Map a gradient over the object to the gradient over the variables: the adjoint of `step`."""
        field = np.ascontiguousarray(self._smooth(gradient / self.scale), np.complex128)
        return field.view(np.float64).ravel()


def _lbfgs(evaluate: Callable, size: int, first_step_rms: float, iterations: int):
    """Minimize from zero by L-BFGS in units of its first step; the minimum, (size,) float64, and SciPy's result."""
    unit = first_step_rms * np.sqrt(size)

    def scaled(z):
        value, gradient = evaluate(unit * z)
        return value, unit * gradient

    result = scipy_optimize.minimize(
        scaled,
        np.zeros(size),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxcor": LBFGS_MEMORY, "maxfun": 2 * iterations, "ftol": FTOL},
    )
    return unit * result.x, result


def minimize(likelihood: Likelihood, obj, tv_weight: float, iterations: int) -> tuple[NDArray, float, int]:
    """Minimize likelihood + tv_weight · total variation over the object.

    Parameters
    ----------
    obj : (H, W) complex64
        Start.
    tv_weight : float
        λ, weight of the prior.
    iterations : int
        Of L-BFGS, at most.

    Returns
    -------
    obj : (H, W) complex64
    objective : float
    iterations : int
        That were made.
    """
    preconditioner = Preconditioner(likelihood.illumination())

    def evaluate(z):
        trial = obj + preconditioner.step(z)
        value, gradient = likelihood(trial)
        prior, prior_gradient = total_variation(trial)
        return value + tv_weight * prior, preconditioner.adjoint(gradient + np.float32(tv_weight) * prior_gradient)

    z, result = _lbfgs(evaluate, 2 * obj.size, FIRST_STEP_RMS, iterations)
    return (obj + preconditioner.step(z)).astype(np.complex64), float(result.fun), int(result.nit)


def minimize_slow_phase(likelihood: Likelihood, obj, iterations: int) -> NDArray[np.complex64]:
    """Minimize the likelihood over a slowly varying phase that multiplies the object, and over nothing else.

    A phase that varies little across the beam hardly changes the patterns: the curvature of the likelihood falls with
    the square of its frequency, so that L-BFGS on the whole object needs hundreds of iterations for it. The phase is
    preconditioned by 1/frequency instead. (Amplitudes have no such weak direction.)

    Parameters
    ----------
    obj : (H, W) complex64
        Start.
    iterations : int
        Of L-BFGS, at most.

    Returns
    -------
    obj : (H, W) complex64
    """
    slowest, fastest = (waves / likelihood.n_pixels for waves in SLOW_PHASE_WAVES)
    height, width = likelihood.shape
    square = fft.fftfreq(height)[:, None] ** 2 + fft.rfftfreq(width) ** 2
    gain = (np.exp(-square / fastest**2) / np.sqrt(1 + square / slowest**2)).astype(np.float32)

    def smooth(field):
        return fft.irfft2(fft.rfft2(field) * gain, s=likelihood.shape)

    def turned(z):
        return (obj * np.exp(1j * smooth(z.reshape(likelihood.shape).astype(np.float32)))).astype(np.complex64)

    def evaluate(z):
        trial = turned(z)
        value, gradient = likelihood(trial)
        return value, smooth(np.imag(gradient * trial.conj())).astype(np.float64).ravel()

    return turned(_lbfgs(evaluate, obj.size, FIRST_PHASE_STEP_RMS_RAD, iterations)[0])


def minibatch_epochs(likelihood: Likelihood, obj, count: int) -> NDArray[np.complex64]:
    """Pass through the exposures in mini-batches, a preconditioned gradient step after each, with momentum.

    Where a smooth beam keeps the photons in the middle of the detector, one epoch gets as far as several L-BFGS
    iterations (ordered subsets: Hudson and Larkin, IEEE Trans. Med. Imaging 13, 601, 1994; in ptychography: Maiden,
    Johnson and Li, Optica 4, 736, 2017). There is no prior, and the noise of a mini-batch limits how close it gets to
    the minimum: use it as a start.

    Parameters
    ----------
    obj : (H, W) complex64
        Start.
    count : int
        Epochs.

    Returns
    -------
    obj : (H, W) complex64
    """
    rng, obj, change = np.random.default_rng(0), obj.copy(), np.zeros_like(obj)
    smoothed = likelihood.with_background(np.inf)
    for _ in range(count):
        before = obj.copy()
        for region, gradient, illumination in smoothed.batches(BATCH_SIZE, rng):
            step = gradient(np.ascontiguousarray(obj[region])) / (2 * (illumination + DAMPING * illumination.max()))
            obj[region] -= step
        change = MOMENTUM * change + (obj - before)
        obj = before + change
    return obj
