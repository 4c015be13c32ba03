"""Minimize the Poisson likelihood with a total-variation prior: L-BFGS with a preconditioner for ptychography.

Likelihood of the counts: Thibault and Guizar-Sicairos, New J. Phys. 14, 063004 (2012). Isotropic total variation of
the complex object: Rudin, Osher and Fatemi, Physica D 60, 259 (1992). Steps in the slowly varying phase alone help
where L-BFGS is slow. Objects are arrays of the likelihood's device.
"""

import numpy as np
from scipy.fft import fftfreq, next_fast_len, rfftfreq

from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.lbfgs import Evaluate, Minimum, minimize_lbfgs
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.passes import Array

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
"""RMS of the first trial step, in preconditioned variables and of the phase [rad]; a step of length 1 wastes
several evaluations."""


def total_variation(obj: Array, device: Device = CPU) -> tuple[float, Array]:
    """Smoothed isotropic total variation, Σ sqrt(|∂x O|² + |∂y O|² + ε²) - ε, and its gradient.

    Differences are forward ones, none across the border.

    Parameters
    ----------
    obj : (H, W) complex
        Object.
    device : Device
        Where it is.

    Returns
    -------
    value : float
        Total variation E.
    gradient : (H, W) complex
        dE/dRe O + i dE/dIm O.
    """
    value, gradient = device.passes.total_variation(obj, TV_SMOOTHING)
    return float(value), gradient


class Preconditioner:
    """Linear map from variables z to changes of the object, K z / D: low frequencies and dim pixels move more.

    Parameters
    ----------
    illumination : (H, W) float
        Incident photons [photon/px].
    device : Device
        Where it is.
    """

    def __init__(self, illumination: Array, device: Device = CPU):
        self.device, self.shape = device, illumination.shape
        self.padded = padded_shape(self.shape)
        down, across = fftfreq(self.padded[0])[:, None], fftfreq(self.padded[1])
        gain = 1 + LOW_FREQUENCY_GAIN / (1 + (down**2 + across**2) / LOW_FREQUENCY**2)
        self.filter = device.to_device(gain.astype(np.float32))
        scale = device.xp.sqrt(illumination + 0.02 * illumination.max())
        self.scale = (scale.max() / scale).astype(np.float32)

    def _smooth(self, field: Array) -> Array:
        height, width = self.shape
        spectrum = self.device.fft.fft2(field, s=self.padded) * self.filter
        return self.device.fft.ifft2(spectrum)[:height, :width]

    def step(self, z: Array) -> Array:
        """Map (2 H W,) float64 variables to the (H, W) complex64 change of the object that they represent."""
        return self._smooth(z.view(np.complex128).reshape(self.shape).astype(np.complex64)) * self.scale

    def adjoint(self, gradient: Array) -> Array:
        """Map the gradient over the object to the gradient over the variables: the adjoint of `step`."""
        field = self.device.xp.ascontiguousarray(self._smooth(gradient * self.scale), np.complex128)
        return field.view(np.float64).ravel()


def padded_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the sides at or above those of a canvas whose FFT is quick: it takes three times as long at a prime."""
    height, width = (next_fast_len(side, real=True) for side in shape)
    return height, width


def minimize_vector(
    evaluate: Evaluate, size: int, first_step_rms: float, iterations: int, device: Device = CPU, ftol: float = FTOL
) -> tuple[Array, Minimum]:
    """Minimize from zero by L-BFGS in units of the first step.

    Parameters
    ----------
    evaluate : callable
        Takes (size,) float64 of the device, returns value and (size,) float64 gradient.
    size : int
        Number of variables.
    first_step_rms : float
        RMS of the first trial step.
    iterations : int
        Largest number of iterations.
    device : Device
        Where the variables are.
    ftol : float
        Stop when an iteration lowers the value by less than this fraction of it.

    Returns
    -------
    minimum : (size,) float64
    result : Minimum
    """
    unit = first_step_rms * np.sqrt(size)

    def scaled(z: Array) -> tuple[float, Array]:
        value, gradient = evaluate(unit * z)
        return value, unit * gradient

    start = device.xp.zeros(size)
    found = minimize_lbfgs(scaled, start, iterations=iterations, memory=LBFGS_MEMORY, ftol=ftol, device=device)
    return unit * found.x, found


def minimize(likelihood: Likelihood, obj: Array, tv_weight: float, iterations: int) -> tuple[Array, float, int]:
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
    device = likelihood.device
    preconditioner = Preconditioner(likelihood.illumination(), device)

    def evaluate(z: Array) -> tuple[float, Array]:
        trial = obj + preconditioner.step(z)
        value, gradient = likelihood(trial)
        prior, prior_gradient = total_variation(trial, device)
        return value + tv_weight * prior, preconditioner.adjoint(gradient + np.float32(tv_weight) * prior_gradient)

    z, result = minimize_vector(evaluate, 2 * obj.size, FIRST_STEP_RMS, iterations, device)
    return (obj + preconditioner.step(z)).astype(np.complex64), result.fun, result.nit


def minimize_slow_phase(likelihood: Likelihood, obj: Array, iterations: int) -> Array:
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
    (height, width), device = likelihood.shape, likelihood.device
    padded = padded_shape(likelihood.shape)
    square = fftfreq(padded[0])[:, None] ** 2 + rfftfreq(padded[1]) ** 2
    gain = device.to_device((np.exp(-square / fastest**2) / np.sqrt(1 + square / slowest**2)).astype(np.float32))

    def smooth(field: Array) -> Array:
        return device.fft.irfft2(device.fft.rfft2(field, s=padded) * gain, s=padded)[:height, :width]

    def turned(z: Array) -> Array:
        phase = smooth(z.reshape(likelihood.shape).astype(np.float32))
        return (obj * device.xp.exp(1j * phase)).astype(np.complex64)

    def evaluate(z: Array) -> tuple[float, Array]:
        trial = turned(z)
        value, gradient = likelihood(trial)
        return value, smooth((gradient * trial.conj()).imag).astype(np.float64).ravel()

    return turned(minimize_vector(evaluate, obj.size, FIRST_PHASE_STEP_RMS_RAD, iterations, device)[0])
