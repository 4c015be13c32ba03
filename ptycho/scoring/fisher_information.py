"""Fisher information of an object's pixels: what Poisson counts tell of them, for known probe and positions.

The counts have the mean I = Σ|ψ|², summed over the modes of the probe. The information of the real and imaginary parts
of the object's pixels is

    F = Σ Jᵀ diag(1 / I) J over exposures,  J: δO ↦ 2 Re Σ ψ* FT(P δO) over modes.

It fits no memory as a matrix, so it is a function that multiplies by it. F is proportional to the dose.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.physics.forward import (
    as_modes,
    blocks,
    cut_patches,
    illumination,
    shift_probe,
    split_position,
    window_start,
)

_BLOCK_SIZE = 32


class FisherInformation:
    """Fisher information of the pixels of an object, for known probe and positions and Poisson counts.

    Parameters
    ----------
    obj : (H, W) complex
        Object at which the information is evaluated; holds all windows.
    probe : (n, n) or (modes, n, n) complex
        Illumination [sqrt(photon)].
    positions : (xcoords, ycoords)
        (M,) float64 patch centers [px].
    origin_px : (int, int)
        Row and column coordinate of the object's first pixel.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the object.
    illumination : (H, W) float64
        Σ_j|P_j|² [photon/px]. The trace of the information is four times its sum for a probe of one mode, and less for
        several, whose contributions to a count cannot be told apart.
    """

    def __init__(
        self,
        obj: NDArray[np.complexfloating],
        probe: NDArray[np.complexfloating],
        positions: tuple[NDArray[np.float64], NDArray[np.float64]],
        origin_px: tuple[int, int] = (0, 0),
    ) -> None:
        (xcoords, ycoords), probe = positions, as_modes(probe)
        self.shape, n = obj.shape, probe.shape[-1]
        self.illumination = illumination(probe, xcoords, ycoords, obj.shape, origin_px)
        self._top, self._left = (window_start(c, n) - o for c, o in zip((ycoords, xcoords), origin_px, strict=True))
        self._probes, self._gradients = np.empty((2, len(xcoords), *probe.shape), np.complex64)
        # The gradient of 2 √I in the waves of all modes, 2 ψ / √I: a vector of length 2. Where I is 0 it has no limit;
        # any vector of that length brings as much information, here one with equal parts in all modes.
        self._gradients[:] = 2 / np.sqrt(len(probe))
        for block in blocks(len(xcoords), _BLOCK_SIZE):
            x, y, probes = xcoords[block], ycoords[block], self._probes[block]
            probes[:] = shift_probe(probe, *(split_position(axis)[1][:, None] for axis in (y, x)))
            waves = fft.fft2(cut_patches(obj, x, y, n, origin_px)[:, None] * probes, norm="ortho")
            amplitude = np.linalg.norm(waves, axis=1, keepdims=True)
            np.divide(2 * waves, amplitude, out=self._gradients[block], where=amplitude > 0, casting="same_kind")

    def __call__(self, change: NDArray[np.complexfloating]) -> NDArray[np.complex128]:
        """Multiply by the information.

        Parameters
        ----------
        change : (H, W) complex
            Real and imaginary parts are the parameters.

        Returns
        -------
        (H, W) complex128
            Products with the rows of real and of imaginary parts [1 / the object's unit²].
        """
        product, n = np.zeros(self.shape, np.complex128), self._probes.shape[-1]
        windows = np.lib.stride_tricks.sliding_window_view(change.astype(np.complex64), (n, n))
        for block in blocks(len(self._top), _BLOCK_SIZE):
            patches = windows[self._top[block], self._left[block]][:, None]
            waves, gradients = fft.fft2(patches * self._probes[block], norm="ortho"), self._gradients[block]
            self._add_adjoint(real_product(gradients, waves).sum(1), block, product)
        return product

    def draw(self, rng: np.random.Generator) -> NDArray[np.complex128]:
        """Draw normal numbers, (H, W) complex128, whose covariance is the information."""
        numbers, n = np.zeros(self.shape, np.complex128), self._probes.shape[-1]
        for block in blocks(len(self._top), _BLOCK_SIZE):
            noise = rng.standard_normal((len(self._top[block]), n, n), np.float32)
            self._add_adjoint(noise, block, numbers)
        return numbers

    def _add_adjoint(self, values: NDArray[np.float32], block: slice, canvas: NDArray[np.complex128]) -> None:
        """Add J^T I^(-1/2) of values at the detector, (m, n, n), to a canvas."""
        waves, n = fft.ifft2(self._gradients[block] * values[:, None], norm="ortho"), self._probes.shape[-1]
        patches = (waves * self._probes[block].conj()).sum(1)
        for patch, y, x in zip(patches, self._top[block], self._left[block], strict=True):
            canvas[y : y + n, x : x + n] += patch


def real_product(first: NDArray[np.complexfloating], second: NDArray[np.complexfloating]) -> NDArray[np.floating]:
    """Re(first* second), element by element."""
    return first.real * second.real + first.imag * second.imag
