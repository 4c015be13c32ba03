"""Changes of a probe as one vector: of single pixels, and of low-order aberrations, at once, at constant photons.

Aberrations are smooth phases of the probe's spectrum: what optics differ in, and what single pixels find slowly. The
photons stay, because a factor of the probe cannot be told from one of the object.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fftfreq

from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.passes import Array

ABERRATION_ORDER = 4
"""Highest order of the aberrations: the fourth has defocus, astigmatism, coma and spherical aberration."""

Adjoint = Callable[[Array], Array]
"""Takes the gradient dE/dRe P + i dE/dIm P over a probe, (modes, N, N), returns that over the variables, (size,)."""


class Aberrations:
    """Map from variables to the spectrum of a probe with other low-order aberrations.

    Parameters
    ----------
    start : (modes, N, N) complex64
        Probe where all variables are 0 [sqrt(photon)].
    unit_rad : float
        RMS phase that a variable of 1 stands for [rad].
    device : Device
        Where to compute.
    """

    def __init__(self, start: Array, unit_rad: float = 1.0, device: Device = CPU):
        self.device, self.unit_rad, self.spectrum = device, unit_rad, device.fft.fft2(start)
        self.phases = device.to_device(aberrations(device.to_host(self.spectrum), ABERRATION_ORDER))
        self.size = len(self.phases)

    def __call__(self, z: Array) -> tuple[Array, Adjoint]:
        """Return the spectrum at (size,) float64 variables, (modes, N, N) complex64, and the way of gradients back.

        The gradient that the way back takes is that over the probe.
        """
        xp = self.device.xp
        phase = xp.tensordot(z * self.unit_rad, self.phases, 1)
        aberrated = self.spectrum * xp.exp(1j * phase).astype(np.complex64)

        def adjoint(gradient: Array) -> Array:
            turned = (self.device.fft.fft2(gradient).conj() * 1j * aberrated).real.sum(0) / aberrated[0].size
            return xp.tensordot(self.phases, turned, 2) * self.unit_rad

        return aberrated, adjoint


class ProbeVariables:
    """Map from variables to a probe: first those of the aberrations, then real and imaginary parts of all pixels.

    Parameters
    ----------
    start : (modes, N, N) complex64
        Probe where all variables are 0 [sqrt(photon)].
    unit : float
        RMS change of the probe's pixels, times their number, that a variable of 1 stands for [sqrt(photon)].
    device : Device
        Where to compute.
    stiffness : float
        Curvature of a prior of the pixels, in units of the likelihood's along the same variables: a variable of a pixel
        stands for less.
    """

    def __init__(self, start: Array, unit: float = 1.0, device: Device = CPU, stiffness: float = 0.0):
        self.device, self.shape, self.unit = device, start.shape, unit / np.sqrt(1 + stiffness)
        self.power = float((device.xp.abs(start) ** 2).sum())
        self.aberrations = Aberrations(start, unit / np.sqrt(self.power), device)
        self.size = self.aberrations.size + 2 * start.size

    def __call__(self, z: Array) -> tuple[Array, Adjoint]:
        """Return the probe at (size,) float64 variables, (modes, N, N) complex64, and the way of gradients back."""
        xp, n_phases = self.device.xp, self.aberrations.size
        aberrated, phase_adjoint = self.aberrations(z[:n_phases])
        pixels = z[n_phases:].copy().view(np.complex128).reshape(self.shape) * self.unit
        free = self.device.fft.ifft2(aberrated) + pixels.astype(np.complex64)
        scale = np.sqrt(self.power / float((xp.abs(free) ** 2).sum()))
        probe = (free * scale).astype(np.complex64)

        def adjoint(gradient: Array) -> Array:
            gradient = gradient.astype(np.complex128)
            along = float((probe.conj() * gradient).real.sum()) / self.power
            gradient = scale * (gradient - along * probe)
            pixels = xp.ascontiguousarray(gradient * self.unit).view(np.float64).ravel()
            return xp.concatenate([phase_adjoint(gradient), pixels])

        return probe, adjoint


def aberrations(spectrum: NDArray[np.complexfloating], order: int) -> NDArray[np.float64]:
    """Return smooth phases of a probe's spectrum: polynomials of degree 2 to `order` of the spatial frequency.

    They are orthogonal to each other, to a constant and to the ramps that move the probe, with the photons of the
    spectrum as weight, and have a mean square of 1 under it. Zernike's polynomials are such phases for a round, evenly
    filled pupil (Zernike, Physica 1, 689, 1934).

    Parameters
    ----------
    spectrum : (modes, N, N) complex
        Fourier transform of the probe's modes, zero frequency first.
    order : int
        Highest degree.

    Returns
    -------
    (k, N, N) float64
        Phases [rad], k = (order + 1)(order + 2)/2 - 3.
    """
    return smooth_phases(spectrum, order)[3:]


def smooth_phases(spectrum: NDArray[np.complexfloating], order: int) -> NDArray[np.float64]:
    """Return a constant, two ramps, and the phases that `aberrations` returns, (k, N, N) float64 [rad]."""
    n = spectrum.shape[-1]
    weight = (np.abs(spectrum).astype(np.float64) ** 2).sum(0)
    weight /= weight.sum()
    frequency = fftfreq(n)
    radius = np.sqrt((weight * (frequency[:, None] ** 2 + frequency**2)).sum())
    down, across = (axis.ravel() for axis in np.meshgrid(*2 * [np.clip(frequency / radius, -3, 3)], indexing="ij"))
    powers = [(p, degree - p) for degree in range(order + 1) for p in range(degree + 1)]
    columns = np.stack([down**p * across**q for p, q in powers], axis=1)
    _, triangle = np.linalg.qr(columns * np.sqrt(weight.ravel())[:, None])
    return np.linalg.solve(triangle.T, columns.T).reshape(-1, n, n)
