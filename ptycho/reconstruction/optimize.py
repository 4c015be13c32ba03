"""Minimize the Poisson likelihood with a total-variation prior: SciPy's L-BFGS with a preconditioner for ptychography.

Likelihood of the counts: Thibault and Guizar-Sicairos, New J. Phys. 14, 063004 (2012). Isotropic total variation of
the complex object: Rudin, Osher and Fatemi, Physica D 60, 259 (1992). Two further kinds of steps help where L-BFGS is
slow: steps in the slowly varying phase alone, and mini-batch epochs from a flat start.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy import optimize as scipy_optimize

from ptycho.reconstruction.likelihood import Likelihood

TV_SMOOTHING = 0.02
"""ε of the prior [transmittance]: it is quadratic in differences well below this, linear in those above."""
LOW_FREQUENCY_GAIN, LOW_FREQUENCY = 20.0, 0.05
"""Gain of the preconditioner at spatial frequency zero, less one, and the frequency [cycles/px] where half of it is
left."""
LBFGS_MEMORY = 12
"""Pairs of steps and gradients that L-BFGS keeps."""
FTOL = 1.0e-5
"""L-BFGS stops when a step lowers the objective by less than this fraction."""
SLOW_PHASE_WAVES = 0.25, 2.0
"""Spatial frequencies [waves per pattern width] of the slow phase: the preconditioner is flat below the first and
suppresses those above the second."""
FIRST_STEP_RMS, FIRST_PHASE_STEP_RMS_RAD = 3.0e-4, 0.1
"""RMS of the first trial step, in preconditioned variables and of the phase [rad]; SciPy's default of a step of
length 1 wastes several evaluations."""
BATCH_SIZE = 8
"""Exposures in a mini-batch."""
DAMPING = 0.1
"""Added to the illumination that divides a mini-batch step, as a fraction of its maximum: dimmer pixels move less."""
MOMENTUM = 0.5
"""Fraction of the change of one mini-batch epoch that is added to the next one's."""


def total_variation(obj: NDArray[np.complexfloating]) -> tuple[float, NDArray[np.complexfloating]]:
    """Smoothed isotropic total variation, Σ sqrt(|∂x O|² + |∂y O|² + ε²) - ε, and its gradient.

    Differences are forward ones, none across the border.

    Parameters
    ----------
    obj : (H, W) complex
        Object.

    Returns
    -------
    value : float
        Total variation E.
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
        Incident photons [photon/px].
    """

    def __init__(self, illumination: NDArray[np.floating]):
        down, across = fft.fftfreq(illumination.shape[0])[:, None], fft.fftfreq(illumination.shape[1])
        gain = 1 + LOW_FREQUENCY_GAIN / (1 + (down**2 + across**2) / LOW_FREQUENCY**2)
        self.filter = gain.astype(np.float32)
        scale = np.sqrt(illumination + 0.02 * illumination.max())
        self.scale, self.shape = (scale / scale.max()).astype(np.float32), illumination.shape

    def _smooth(self, field: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
        return fft.ifft2(fft.fft2(field) * self.filter)

    def step(self, z: NDArray[np.float64]) -> NDArray[np.complex64]:
        """Map (2 H W,) float64 variables to the (H, W) complex64 change of the object that they represent."""
        return self._smooth(z.view(np.complex128).reshape(self.shape).astype(np.complex64)) / self.scale

    def adjoint(self, gradient: NDArray[np.complexfloating]) -> NDArray[np.float64]:
        """Map the gradient over the object to the gradient over the variables: the adjoint of `step`."""
        field = np.ascontiguousarray(self._smooth(gradient / self.scale), np.complex128)
        return field.view(np.float64).ravel()


def _lbfgs(
    evaluate: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    size: int,
    first_step_rms: float,
    iterations: int,
) -> tuple[NDArray[np.float64], Any]:
    """Minimize from zero by L-BFGS in units of the first step.

    Returns
    -------
    minimum : (size,) float64
    result : scipy.optimize.OptimizeResult
    """
    unit = first_step_rms * np.sqrt(size)

    def scaled(z: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
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


def minimize(
    likelihood: Likelihood, obj: NDArray[np.complex64], tv_weight: float, iterations: int
) -> tuple[NDArray[np.complex64], float, int]:
    """Minimize likelihood + tv_weight · total variation over the object.

    Parameters
    ----------
    likelihood : Likelihood
        Likelihood of the counts.
    obj : (H, W) complex64
        Start.
    tv_weight : float
        λ, weight of the prior.
    iterations : int
        Largest number of L-BFGS iterations.

    Returns
    -------
    obj : (H, W) complex64
        Minimum.
    objective : float
        Likelihood + tv_weight · total variation there.
    iterations : int
        L-BFGS iterations made.
    """
    preconditioner = Preconditioner(likelihood.illumination())

    def evaluate(z: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        trial = obj + preconditioner.step(z)
        value, gradient = likelihood(trial)
        prior, prior_gradient = total_variation(trial)
        return value + tv_weight * prior, preconditioner.adjoint(gradient + np.float32(tv_weight) * prior_gradient)

    z, result = _lbfgs(evaluate, 2 * obj.size, FIRST_STEP_RMS, iterations)
    return (obj + preconditioner.step(z)).astype(np.complex64), float(result.fun), int(result.nit)


def minimize_slow_phase(likelihood: Likelihood, obj: NDArray[np.complex64], iterations: int) -> NDArray[np.complex64]:
    """Minimize the likelihood over a slowly varying phase factor of the object alone.

    A phase that varies little across the beam hardly changes the patterns: the curvature of the likelihood falls with
    the square of its frequency, so that L-BFGS on the whole object needs hundreds of iterations for it. The phase is
    preconditioned by 1/frequency instead. (Amplitudes have no such weak direction.)

    Parameters
    ----------
    likelihood : Likelihood
        Likelihood of the counts.
    obj : (H, W) complex64
        Start.
    iterations : int
        Largest number of L-BFGS iterations.

    Returns
    -------
    (H, W) complex64
        Start times the phase factor.
    """
    slowest, fastest = (waves / likelihood.n_pixels for waves in SLOW_PHASE_WAVES)
    height, width = likelihood.shape
    square = fft.fftfreq(height)[:, None] ** 2 + fft.rfftfreq(width) ** 2
    gain = (np.exp(-square / fastest**2) / np.sqrt(1 + square / slowest**2)).astype(np.float32)

    def smooth(field: NDArray[np.floating]) -> NDArray[np.floating]:
        return fft.irfft2(fft.rfft2(field) * gain, s=likelihood.shape)

    def turned(z: NDArray[np.float64]) -> NDArray[np.complex64]:
        return (obj * np.exp(1j * smooth(z.reshape(likelihood.shape).astype(np.float32)))).astype(np.complex64)

    def evaluate(z: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        trial = turned(z)
        value, gradient = likelihood(trial)
        return value, smooth(np.imag(gradient * trial.conj())).astype(np.float64).ravel()

    return turned(_lbfgs(evaluate, obj.size, FIRST_PHASE_STEP_RMS_RAD, iterations)[0])


def minibatch_epochs(likelihood: Likelihood, obj: NDArray[np.complex64], count: int) -> NDArray[np.complex64]:
    """Run epochs of preconditioned gradient steps with momentum, one step per mini-batch.

    Where a smooth beam keeps the photons in the middle of the detector, one epoch gets as far as several L-BFGS
    iterations (ordered subsets: Hudson and Larkin, IEEE Trans. Med. Imaging 13, 601, 1994; in ptychography: Maiden,
    Johnson and Li, Optica 4, 736, 2017). There is no prior, and the noise of a mini-batch limits how close the result
    gets to the minimum: use it as a start.

    Parameters
    ----------
    likelihood : Likelihood
        Likelihood of the counts.
    obj : (H, W) complex64
        Start.
    count : int
        Number of epochs.

    Returns
    -------
    (H, W) complex64
        Object after the last epoch.
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
