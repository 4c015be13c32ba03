"""Passes over probes that are shifted for every exposure, as loops that Numba compiles, see `cpu_kernels`."""

import numpy as np
from numpy.typing import NDArray

from ptycho.reconstruction.cpu_kernels import compiled


@compiled
def shift(spectrum: NDArray[np.complex64], ramps: NDArray[np.complex64], spectra: NDArray[np.complex64]) -> None:
    """Write the spectra (m, modes, N, N) of a probe (modes, N, N) times ramps (2, m, N) along rows and columns."""
    count, modes, n, _ = spectra.shape
    for exposure in range(count):
        for mode in range(modes):
            for row in range(n):
                across = ramps[1, exposure]
                _shift_row(spectrum[mode, row], ramps[0, exposure, row], across, spectra[exposure, mode, row])


@compiled
def _shift_row(
    spectrum: NDArray[np.complex64], d: np.complex64, across: NDArray[np.complex64], shifted: NDArray[np.complex64]
) -> None:
    for i in range(spectrum.size):
        a, s = across[i], spectrum[i]
        real, imag = d.real * a.real - d.imag * a.imag, d.real * a.imag + d.imag * a.real
        shifted[i] = complex(s.real * real - s.imag * imag, s.real * imag + s.imag * real)


@compiled
def to_probes(
    waves: NDArray[np.complex64], obj: NDArray[np.complex64], top: NDArray[np.int32], left: NDArray[np.int32]
) -> None:
    """Multiply waves (m, modes, N, N) by the conjugate of an object (H, W) in their windows, in place."""
    count, modes, n, _ = waves.shape
    for exposure in range(count):
        first, last = left[exposure], left[exposure] + n
        for row in range(n):
            patch = obj[top[exposure] + row, first:last]
            for mode in range(modes):
                _multiply_conjugate(waves[exposure, mode, row], patch)


@compiled
def _multiply_conjugate(wave: NDArray[np.complex64], patch: NDArray[np.complex64]) -> None:
    for i in range(wave.size):
        w, o = wave[i], patch[i]
        wave[i] = complex(w.real * o.real + w.imag * o.imag, w.imag * o.real - w.real * o.imag)


@compiled
def shift_slopes(
    spectra: NDArray[np.complex64],
    spectrum: NDArray[np.complex64],
    ramps: NDArray[np.complex64],
    frequencies: NDArray[np.float32],
    slopes: NDArray[np.float64],
    total: NDArray[np.complex64],
) -> None:
    """Write the gradients in the shifts of some exposures, and add those in the spectrum of the probe.

    Parameters
    ----------
    spectra : (m, modes, N, N) complex64
        FFTs of the gradients in the shifted probes, not normalized.
    spectrum : (modes, N, N) complex64
        FFT of the probe, not normalized.
    ramps : (2, m, N) complex64
        Factors along rows and columns that shift it.
    frequencies : (N,) float32
        2π times the spatial frequency [1/px].
    slopes : (2, m) float64
        Where the gradients in the shifts are written [1/px], times N².
    total : (modes, N, N) complex64
        To which the spectra are added when they are shifted back.
    """
    count, modes, n, _ = spectra.shape
    for exposure in range(count):
        slopes[0, exposure] = slopes[1, exposure] = 0.0
        for mode in range(modes):
            for row in range(n):
                along, beside = _slopes_of_row(
                    spectra[exposure, mode, row],
                    spectrum[mode, row],
                    ramps[0, exposure, row],
                    ramps[1, exposure],
                    frequencies,
                    total[mode, row],
                )
                slopes[0, exposure] += along * frequencies[row]
                slopes[1, exposure] += beside


@compiled
def _slopes_of_row(
    spectra: NDArray[np.complex64],
    spectrum: NDArray[np.complex64],
    d: np.complex64,
    across: NDArray[np.complex64],
    frequencies: NDArray[np.float32],
    total: NDArray[np.complex64],
) -> tuple[np.float32, np.float32]:
    """Add spectra, shifted back, to the total; return Σ Im(conj(spectra) spectrum), also times the frequencies."""
    along, beside = np.float32(0), np.float32(0)
    for i in range(spectra.size):
        a, s, p = across[i], spectra[i], spectrum[i]
        real, imag = d.real * a.real - d.imag * a.imag, d.real * a.imag + d.imag * a.real
        back = complex(s.real * real + s.imag * imag, s.imag * real - s.real * imag)
        total[i] += back
        turned = back.real * p.imag - back.imag * p.real
        along += turned
        beside += turned * frequencies[i]
    return along, beside
