"""What is known before any photon: of positions, how large their errors are about; of a probe, its optics."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.displacement import affine_residual, spread_px
from ptycho.reconstruction.devices import Device
from ptycho.reconstruction.passes import Array
from ptycho.reconstruction.probe_variables import ABERRATION_ORDER, smooth_phases

NEAREST_STEPS, NEAREST_GAIN = 30, 1.0e-6
"""Steps to the nearest aberrations, at most; a step that lowers the square of the distance by less, in units of the
probe's photons, is the last."""
LEAST_ERRORS = 1.0e-6
"""Smallest square of a probe's errors, in units of its photons."""
NO_ERRORS = 1.0e-9
"""What is a rounding error of it."""


class ShiftPrior:
    """Normal errors of the positions: of each its own, and an affine map of the whole scan, whose mean is unknown.

    An encoder with a wrong scale moves all exposures together, which independent errors hardly ever do: taken for such,
    a magnification of the scan would be held back by all exposures. Its standard deviation is therefore one of its own.

    Parameters
    ----------
    positions : (2, M) float64
        Rows and columns of the recorded positions [px].
    spread_px : float
        Standard deviation of the errors of their own along one axis [px].
    affine_px : float
        Root mean square of the map's displacements along one axis [px], its mean removed.
    """

    def __init__(self, positions: NDArray[np.float64], spread_px: float, affine_px: float = 0.0):
        maps, sizes, _ = np.linalg.svd((positions - positions.mean(1, keepdims=True)).T, full_matrices=False)
        self._maps = maps[:, sizes > 1e-9 * sizes.max()]  # one, if all positions are on a line
        count, slopes = positions.shape[1], self._maps.shape[1]
        # A map of so many slopes along one axis that is so large has coefficients of this variance.
        self._variance, self._affine_variance = spread_px**2, spread_px**2 + count / max(slopes, 1) * affine_px**2
        self.log_width = count * np.log(self._variance) + slopes * np.log(self._affine_variance / self._variance)
        """Logarithm of the standard deviations of all shifts together, which the value of a call leaves out."""

    @classmethod
    def of(cls, shifts: NDArray[np.float64], positions: NDArray[np.float64]) -> Self:
        """Return the prior with the standard deviations that (2, M) shifts have (empirical Bayes)."""
        residual, _ = affine_residual(shifts, positions)
        common = shifts - residual
        common = common - common.mean(1, keepdims=True)
        return cls(positions, spread_px(shifts, positions), float(np.sqrt((common**2).mean())))

    def __call__(self, shifts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the negative logarithm of the prior of (2, M) shifts, up to a constant, and its gradient."""
        own = shifts - shifts.mean(1, keepdims=True)
        common = own @ self._maps @ self._maps.T
        gradient = (own - common) / self._variance + common / self._affine_variance
        return float((own * gradient).sum()) / 2, gradient


class ProbePrior:
    """Normal errors of a probe's pixels, beside aberrations, which is what optics differ in.

    The errors are the difference from the nearest probe that is the recorded one with other aberrations, another phase
    and in another place. These are free, within about a radian from what was found before; pixels are held back where
    few photons tell them from the object.

    Parameters
    ----------
    recorded : (modes, N, N) complex64
        Recorded probe [sqrt(photon)], on the device.
    device : Device
        Where to compute.
    """

    def __init__(self, recorded: Array, device: Device):
        self.device, self.size = device, recorded.size
        self._spectrum = device.fft.fft2(recorded, norm="ortho")
        self._phases = device.to_device(smooth_phases(device.to_host(self._spectrum), ABERRATION_ORDER))
        self._power = float((device.xp.abs(recorded) ** 2).sum())
        self._coefficients, self._has_errors = device.xp.zeros(len(self._phases)), False

    def error(self, probe: Array) -> Array:
        """Return the difference of a probe from the nearest one with other aberrations, (modes, N, N) complex64."""
        return self._nearest(probe)[0]

    def _nearest(self, probe: Array) -> tuple[Array, Array]:
        """Return the difference, and the aberrations of the nearest probe, by the method of Gauss and Newton."""
        xp, spectrum, factor = self.device.xp, self.device.fft.fft2(probe, norm="ortho"), 1.0
        coefficients, nearest = self._coefficients, self._aberrated(self._coefficients)
        square = self._square(spectrum - nearest)
        for _ in range(NEAREST_STEPS):  # the phases are orthonormal
            along = ((spectrum - nearest) * (1j * nearest).conj()).real.sum(0)
            trial = coefficients + factor / self._power * xp.tensordot(self._phases, along, 2)
            there = self._aberrated(trial)
            gain = square - self._square(spectrum - there)
            if gain > 0:
                coefficients, nearest, square, factor = trial, there, square - gain, min(2 * factor, 1.0)
            else:
                factor /= 2
            if abs(gain) < NEAREST_GAIN * self._power:
                break
        return self.device.fft.ifft2(spectrum - nearest, norm="ortho"), coefficients

    def _aberrated(self, coefficients: Array) -> Array:
        """Return the recorded spectrum with some aberrations."""
        phase = self.device.xp.tensordot(coefficients, self._phases, 1)
        return self._spectrum * self.device.xp.exp(1j * phase).astype(np.complex64)

    def _square(self, error: Array) -> float:
        return float((self.device.xp.abs(error).astype(np.float64) ** 2).sum())

    def variance(self, probe: Array) -> float:
        """Return the mean square of the errors' real and imaginary parts [photon]; infinity before there are any.

        From then on, the nearest aberrations are looked for from those of this probe.
        """
        error, self._coefficients = self._nearest(probe)
        square = self._square(error) / self._power
        self._has_errors = self._has_errors or square > NO_ERRORS
        if not self._has_errors:
            return np.inf
        return max(square, LEAST_ERRORS) * self._power / (2 * self.size)

    def __call__(self, probe: Array, variance: float) -> tuple[float, Array]:
        """Return the negative logarithm of the prior of a probe, up to a constant, and its gradient."""
        error = self.error(probe)
        return self._square(error) / (2 * variance), error / variance
