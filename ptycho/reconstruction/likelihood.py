"""Poisson likelihood of photon counts on a canvas, and its gradient, computed block by block."""

from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.forward import as_modes, shift_ramps, split_position
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.counts_on_canvas import BACKGROUND as BACKGROUND  # the constant of every likelihood
from ptycho.reconstruction.counts_on_canvas import CACHE_BYTES, CountsOnCanvas
from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.passes import Array, Block, Windows


class Likelihood(CountsOnCanvas):
    """Poisson deviance of counts on a canvas, and its gradient.

    The detector of the counts belongs to the model: mean counts are scale · |F(P O)|² + background, and bad pixels add
    nothing to the deviance. Objects, gradients and illumination are arrays of `device`.

    Parameters
    ----------
    counts : Counts
        Measured photons.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    fraction : float
        Fraction of the probe's photons, and of the detector's background, that `counts` holds: 1, or that of a split.
    cache_bytes : int
        Frames and shifted probes are cached if they need less than this [byte]; a GPU caches what fits, unless this is
        0. The last object and its gradient are always kept.
    device : Device
        Where to compute.
    """

    def __init__(
        self,
        counts: Counts,
        probe: NDArray[np.complexfloating],
        fraction: float = 1.0,
        cache_bytes: int = CACHE_BYTES,
        device: Device = CPU,
    ):
        self.probe = as_modes(probe).astype(np.complex64) * np.float32(np.sqrt(fraction))
        modes, n, _ = self.probe.shape
        super().__init__(counts, n, fraction, device)
        self._spectrum = device.fft.fft2(device.to_device(self.probe))
        self._illumination: Array | None = None
        self._last: tuple[float, Array, tuple[float, Array]] | None = None
        self._divide(8 * modes * n * n, n * n * (4 + 8 * modes), cache_bytes)

    def __call__(self, obj: Array) -> tuple[float, Array]:
        """Return half the deviance and its gradient.

        Parameters
        ----------
        obj : (H, W) complex64
            Canvas of `self.shape` at `self.origin_px`. The result for the last object is cached, so a new minimization
            that starts there evaluates nothing twice.

        Returns
        -------
        value : float
            E = Σ I - y - y log(I / y), the background included in I.
        gradient : (H, W) complex64
            dE/dRe O + i dE/dIm O; read-only.
        """
        last = self._last
        if last is None or last[0] != self.background or not bool(self.device.xp.array_equal(last[1], obj)):
            last = self._last = self.background, obj.copy(), self.evaluate(obj)
        return last[2]

    def evaluate(self, obj: Array) -> tuple[float, Array]:
        """Return what calling the likelihood returns; the last result is neither used nor kept."""
        xp, total = self.device.xp, 0.0
        gradient = xp.zeros(self.shape, np.complex64)
        for block, windows in self._all():
            total = total + self.device.passes.accumulate(obj, block, windows, self.expected, gradient)
        if self.device.is_host:
            gradient.flags.writeable = False
        return float(total), gradient

    def gradient(self, obj: Array) -> Array:
        """Return the gradient that calling the likelihood returns, without the value; nothing is cached."""
        gradient = self.device.xp.zeros(self.shape, np.complex64)
        for block, windows in self._all():
            self.device.passes.accumulate_gradient(obj, block, windows, self.expected, gradient)
        return gradient

    def amplitude_update(self, obj: Array) -> Array:
        """Return what replaced amplitudes on the detector change: Σ_j conj(P_j) F⁻¹((sqrt(y_j / I_j) - 1) F(P_j O)).

        Each exposure's predicted wave gets the measured amplitudes and keeps its phases; with several modes, their
        incoherent sum gets them (Thibault and Menzel, Nature 494, 68, 2013). The predicted waves of bad pixels are
        kept.

        Parameters
        ----------
        obj : (H, W) complex64
            Canvas of `self.shape` at `self.origin_px`.

        Returns
        -------
        (H, W) complex64
            Change of the exit waves, times the conjugate probe [photon]; divided by the illumination, the change of
            the object in one iteration of error reduction (Fienup, Appl. Opt. 21, 2758, 1982).
        """
        xp, passes = self.device.xp, self.device.passes
        update = xp.zeros(self.shape, np.complex64)
        for block, windows in self._all():
            waves, intensity, frames = passes.predict(obj, block, windows, self.expected)
            waves *= (xp.sqrt(frames / intensity) - 1)[:, None]
            passes.add(update, passes.back(waves, block), windows)
        return update

    def with_background(self, factor: float) -> Self:
        """Return the same likelihood with another background, see `CountsOnCanvas.with_background`."""
        self.illumination()  # computed once for both
        return super().with_background(factor)

    def illumination(self) -> Array:
        """Return the incident photons on the canvas, (H, W) float64 [photon/px]; computed once."""
        if self._illumination is None:
            xp = self.device.xp
            self._illumination = xp.zeros(self.shape)
            for block, windows in self._all():
                photons = (xp.abs(block[1]) ** 2).sum(1)
                self.device.passes.add(self._illumination, photons, windows)
        return self._illumination

    def _all(self) -> Iterator[tuple[Block, Windows]]:
        """Yield all exposures, block by block, and their windows; a block that is not kept lasts until the next."""
        for part, (frames, probes) in self._blocks():
            yield (frames, probes), self.windows(part)

    def block(self, part: slice) -> Block:
        """Return counts (m, N, N), zero frequency first, and shifted probes (m, modes, N, N), sample-centered.

        They are read where they are not kept. A part of a block that is computed at once is a view of it.
        """
        frames, probes = self._block(part)
        return frames, probes

    def ramps(self, part: slice) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        """Return what shifts the spectrum of the probe to exposures: (m, 1, N, 1) and (m, 1, 1, N), on the host."""
        rest_y, rest_x = (split_position(axis[part])[1] for axis in (self.counts.ycoords, self.counts.xcoords))
        down, across = shift_ramps(rest_y, rest_x, self.n_pixels)
        return down.astype(np.complex64)[:, None], across.astype(np.complex64)[:, None]

    def _prepared(self, frames: Array, part: slice) -> Block:
        """Return counts and shifted probes of a block, see `block`, from counts with zero frequency at [N/2, N/2]."""
        device, (frames,) = self.device, super()._prepared(frames, part)
        down, across = (device.to_device(ramp) for ramp in self.ramps(part))
        probes = device.fft.ifft2(self._spectrum * (down * across))
        if (scale := self.counts.detector.exposure_scale) is not None:
            probes *= device.to_device(np.sqrt(scale[part]).astype(np.float32))[:, None, None, None]
        return frames, probes
