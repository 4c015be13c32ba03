"""Passes over large arrays, as plain lines of any array namespace, and for NumPy: likelihood, prior and search.

A pass of the likelihood works on `Block`s: counts (m, N, N) float32, zero frequency first, and shifted probes
(m, modes, N, N) complex64, sample-centered; and on `Windows`: (m,) int32 rows and columns of the canvas where the
windows start. `ptycho.reconstruction.kernels` has the same passes as CUDA kernels, `ptycho.reconstruction.cpu_passes`
those of the CPU; `benchmarks/gpu_check.py`, `tests/test_cpu_passes.py` and `tests/test_shifted_probes.py` compare them.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Array: TypeAlias = Any
"""Array of a device's namespace: of NumPy on CPUs, of CuPy on GPUs."""
Block: TypeAlias = tuple[Array, Array]
Windows: TypeAlias = tuple[Array, Array]

SMALLEST = np.finfo(np.float32).tiny
"""Smallest ratio of counts in the logarithm, where it is multiplied by none."""


@dataclass(frozen=True)
class Expected:
    """What is added to |F(P O)|², and which pixels are compared."""

    background: float
    """Mean count of every pixel [photon]."""
    planes: Array | None
    """(2, N, N) float32: 1 in valid and 0 in bad pixels; background of the detector [photon]; zero frequency first."""
    valid: Array | None
    """(N, N) bool; None: every pixel is compared."""


@dataclass(frozen=True)
class Ramps:
    """What shifts the probe of every exposure, and lights it: factors of the probe's spectrum."""

    ramps: Array
    """(2, m, N) complex phase ramps along rows and columns, zero frequency first."""
    roots: Array
    """(m,) float: square root of the incident photons in units of the probe's."""
    frequencies: Array
    """(N,) float64, 2π times the spatial frequency [1/px]."""

    def lit(self, xp: Any) -> Array:
        """Return the ramps, (2, m, N), those along rows times the roots."""
        return xp.stack([self.roots[:, None] * self.ramps[0], self.ramps[1]])

    def factors(self, xp: Any) -> Array:
        """Return the (m, 1, N, N) products."""
        return self.lit(xp)[0][:, None, :, None] * self.ramps[1][:, None, None, :]


@dataclass(frozen=True)
class Batches:
    """Mini-batches of a block whose windows have no pixel of the canvas in common."""

    bounds: NDArray[np.int64]
    """(k + 1,) where they begin and end in the block."""
    boxes: NDArray[np.int64]
    """(k, 4) first row and column, height and width, of the boxes of the canvas around their windows."""


class Passes:
    """Plain lines of a namespace.

    Parameters
    ----------
    xp : module
        The namespace, such as `numpy` or `cupy`.
    fft : module
        Its FFTs, which keep single precision: `scipy.fft` or `cupyx.scipy.fft`.
    """

    def __init__(self, xp: Any, fft: Any):
        self.xp, self.fft = xp, fft

    def start(self) -> None:
        """Load what the passes need, which else happens at the first one."""

    def cut(self, obj: Array, windows: Windows, n: int) -> Array:
        """Return the (m, n, n) patches of an object in some windows."""
        return obj[self._pixels(windows, n)]

    def add(self, canvas: Array, patches: Array, windows: Windows) -> None:
        """Add (m, n, n) patches to a canvas of the same kind, complex or real, in place."""
        target, values = (self._as_real(array) for array in (canvas, patches.astype(canvas.dtype)))
        self.xp.add.at(target, self._pixels(windows, patches.shape[-1]), values)

    def _pixels(self, windows: Windows, n: int) -> tuple[Array, Array]:
        """Return rows (m, n, 1) and columns (m, 1, n) of the pixels of some windows."""
        side = self.xp.arange(n)
        top, left = windows
        return (top[:, None] + side)[:, :, None], (left[:, None] + side)[:, None, :]

    def _as_real(self, array: Array) -> Array:
        """Return the (..., 2) real and imaginary parts of a contiguous array, which CuPy adds up by index; else it."""
        return array.view(array.real.dtype).reshape(*array.shape, 2) if array.dtype.kind == "c" else array

    def predict(self, obj: Array, block: Block, windows: Windows, expected: Expected) -> tuple[Array, Array, Array]:
        """Return waves on the detector (m, modes, N, N), their mean counts, and the counts to compare (m, N, N).

        The counts of bad pixels are just what is predicted: value and gradient are zero there.
        """
        frames, probes = block
        waves = self.fft.fft2(self.cut(obj, windows, frames.shape[-1])[:, None] * probes, norm="ortho")
        return waves, *self.detect(self.photons(waves), frames, expected)

    def photons(self, waves: Array) -> Array:
        """Return |waves|² (m, N, N), summed over the modes of (m, modes, N, N)."""
        return (waves.real**2 + waves.imag**2).sum(1)

    def detect(self, photons: Array, frames: Array, expected: Expected) -> tuple[Array, Array]:
        """Return mean counts of photons (m, N, N), and the counts to compare, see `predict`."""
        intensity = photons + np.float32(expected.background)
        if expected.planes is not None:
            intensity = intensity + expected.planes[1]
        return intensity, frames if expected.valid is None else self.xp.where(expected.valid, frames, intensity)

    def back(self, waves: Array, block: Block) -> Array:
        """Take waves back from the detector, multiply them by the conjugate probes, and sum over modes: (m, N, N)."""
        exit_waves = self.fft.ifft2(waves, norm="ortho")
        exit_waves *= block[1].conj()  # in place: NumPy's choice of a temporary would depend on the block size
        return exit_waves.sum(1)

    def half_deviance(self, intensity: Array, frames: Array, ratio: Array) -> Array:
        """Return I - y + y log(y / I) of mean counts I, counts y and their ratio y / I, (m, N, N) each."""
        return intensity - frames + frames * self.xp.log(self.xp.maximum(ratio, SMALLEST))

    def accumulate(self, obj: Array, block: Block, windows: Windows, expected: Expected, gradient: Array) -> Any:
        """Return half the deviance of a block, a float64 number of the device, and add its gradient to a canvas.

        Parameters
        ----------
        obj : (H, W) complex64
            Object.
        block, windows
            Exposures, and where their windows start in `obj` and `gradient`.
        expected : Expected
            What is added to the predicted counts.
        gradient : (H, W) complex64
            Canvas of the gradient, changed in place.
        """
        waves, intensity, frames = self.predict(obj, block, windows, expected)
        ratio = frames / intensity
        value = self.xp.sum(self.half_deviance(intensity, frames, ratio), dtype=np.float64)
        self._add_gradient(waves, ratio, block, windows, gradient)
        return value

    def per_exposure(self, obj: Array, block: Block, windows: Windows, expected: Expected) -> Array:
        """Return half the deviance of every exposure of a block, (m,) float64; parameters are those of `accumulate`."""
        _, intensity, frames = self.predict(obj, block, windows, expected)
        return self.xp.sum(self.half_deviance(intensity, frames, frames / intensity), axis=(1, 2), dtype=np.float64)

    def probe_gradients(
        self,
        obj: Array,
        block: Block,
        windows: Windows,
        expected: Expected,
        gradient: Array | None = None,
        slopes: Array | None = None,
    ) -> tuple[Any, Array]:
        """Return half the deviance of a block and its gradient in the probe of every exposure.

        Parameters
        ----------
        obj, block, windows, expected, gradient
            As for `accumulate`; without a canvas the gradient in the object is not computed.
        slopes : (N, N) float64, optional
            To which 1 - y / I, the derivative in the mean counts I, is added in place, zero frequency first.

        Returns
        -------
        value : float64
        gradients : (m, modes, N, N) complex64
            dE/dRe P + i dE/dIm P.
        """
        waves, intensity, frames = self.predict(obj, block, windows, expected)
        ratio = frames / intensity
        value = self.xp.sum(self.half_deviance(intensity, frames, ratio), dtype=np.float64)
        if slopes is not None:
            slopes += self.xp.sum(1 - ratio, axis=0, dtype=np.float64)
        waves *= (2 * (1 - ratio))[:, None]
        exit_waves = self.fft.ifft2(waves, norm="ortho", overwrite_x=True)
        if gradient is not None:
            self.add(gradient, (exit_waves * block[1].conj()).sum(1), windows)
        exit_waves *= self.cut(obj, windows, frames.shape[-1])[:, None].conj()
        return value, exit_waves

    def shifted(self, spectrum: Array, ramps: Ramps) -> Array:
        """Return the shifted probes of some exposures, (m, modes, N, N), of a spectrum (modes, N, N)."""
        return self.fft.ifft2(spectrum * ramps.factors(self.xp), overwrite_x=True)

    def shift_slopes(self, gradients: Array, spectrum: Array, ramps: Ramps, total: Array | None = None) -> Array:
        """Take gradients in shifted probes to those in the shifts, and in the spectrum before it is shifted.

        Parameters
        ----------
        gradients : (m, modes, N, N) complex
            In the shifted probes; overwritten.
        spectrum : (modes, N, N) complex
            FFT of the probe, not normalized.
        ramps : Ramps
            What shifts it.
        total : (modes, N, N) complex128, optional
            To which the gradients in the probe are added, as their FFT, not normalized.

        Returns
        -------
        (2, m) float64
            Gradients in the shifts along rows and columns [1/px].
        """
        xp, n, factors = self.xp, spectrum.shape[-1], ramps.factors(self.xp)
        spectra = self.fft.fft2(gradients, overwrite_x=True)
        spectra *= factors.conj()
        turned = (spectra.conj() * spectrum).imag.sum(1)  # dP/ds has the spectrum -2πi frequency P
        if total is not None:
            total += spectra.sum(0)
        return xp.stack([turned.sum(2 - axis).astype(np.float64) @ ramps.frequencies for axis in (0, 1)]) / n**2

    def accumulate_gradient(
        self, obj: Array, block: Block, windows: Windows, expected: Expected, gradient: Array
    ) -> None:
        """Add the gradient of half the deviance of a block to a canvas, as `accumulate` does, without the value."""
        waves, intensity, frames = self.predict(obj, block, windows, expected)
        self._add_gradient(waves, frames / intensity, block, windows, gradient)

    def _add_gradient(self, waves: Array, ratio: Array, block: Block, windows: Windows, gradient: Array) -> None:
        """Add the gradient over the patches of a block, from counts over predicted ones; overwrites waves."""
        waves *= (2 * (1 - ratio))[:, None]
        self.add(gradient, self.back(waves, block), windows)

    def descend(
        self, obj: Array, block: Block, windows: Windows, expected: Expected, batches: Batches, damping: float
    ) -> None:
        """Take a step down the gradient of every mini-batch, divided by twice its damped illumination, in place.

        Parameters
        ----------
        obj : (H, W) complex64
            Object.
        block, windows
            Exposures of the mini-batches, and where their windows start in `obj`.
        expected : Expected
            What is added to the predicted counts.
        batches : Batches
            Which exposures belong together.
        damping : float
            Added to a mini-batch's illumination, as a fraction of its maximum.
        """
        for start, stop, box in zip(batches.bounds[:-1], batches.bounds[1:], batches.boxes.tolist(), strict=True):
            top, left, height, width = box
            region, chosen = np.s_[top : top + height, left : left + width], slice(int(start), int(stop))
            part, inside = (block[0][chosen], block[1][chosen]), (windows[0][chosen] - top, windows[1][chosen] - left)
            field = self.xp.ascontiguousarray(obj[region])
            illumination, gradient = self.xp.zeros(field.shape, np.float32), self.xp.zeros_like(field)
            self.add(illumination, (self.xp.abs(part[1]) ** 2).sum(1), inside)
            self.accumulate_gradient(field, part, inside, expected, gradient)
            obj[region] -= gradient / (2 * (illumination + damping * illumination.max()))

    def total_variation(self, obj: Array, smoothing: float) -> tuple[Array, Array]:
        """Return smoothed total variation and gradient, see `ptycho.reconstruction.optimize.total_variation`."""
        xp = self.xp
        down, right = xp.zeros_like(obj), xp.zeros_like(obj)
        down[:-1], right[:, :-1] = obj[1:] - obj[:-1], obj[:, 1:] - obj[:, :-1]
        length = xp.sqrt(down.real**2 + down.imag**2 + right.real**2 + right.imag**2 + smoothing**2)
        down, right = down / length, right / length
        gradient = -(down + right)
        gradient[1:] += down[:-1]
        gradient[:, 1:] += right[:, :-1]
        return xp.sum(length - smoothing, dtype=np.float64), gradient

    def project(self, rows: Array, vector: Array) -> Array:
        """Return the (k,) products of (k, size) float64 rows with a vector."""
        return rows @ vector

    def combine(self, weights: Array, rows: Array) -> Array:
        """Return the (size,) sum of (k, size) float64 rows, each times its weight."""
        return weights @ rows


class NumpyPasses(Passes):
    """The same on NumPy, where windows of a view and a loop over patches are faster than index arrays."""

    def __init__(self) -> None:
        super().__init__(np, fft)

    def cut(self, obj: Array, windows: Windows, n: int) -> Array:
        """Return the (m, n, n) patches of an object in some windows."""
        return np.lib.stride_tricks.sliding_window_view(obj, (n, n))[windows]

    def add(self, canvas: Array, patches: Array, windows: Windows) -> None:
        """Add (m, n, n) patches to a canvas in place."""
        n = patches.shape[-1]
        for patch, y, x in zip(patches, *windows, strict=True):
            canvas[y : y + n, x : x + n] += patch
