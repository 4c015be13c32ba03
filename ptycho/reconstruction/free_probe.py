"""Error reduction of object and probe together, of a few exposures in memory: quick enough to try many hypotheses.

It starts from a flat object and a guess of the probe, and is accelerated like `ptycho.reconstruction.gradient_descent`.
A study does not use it: its methods know the probe, and the reference refines it by LSQML.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.physics.detector import Detector
from ptycho.physics.forward import as_modes, blocks, mean_transmittance, shift_ramps, split_position, window_start

REGULARIZATION = 0.05
"""Added to the illumination that divides an update, as a fraction of an exposure's peak: dim pixels hardly change."""
MOMENTUM = 0.9
"""Fraction of the last change that an iteration goes ahead by."""
FLOOR = 0.03
"""Added to predicted counts [photon]: where almost none are predicted, the phases consist of rounding errors."""
STEP = 0.5
"""Step of the probe, in units of error reduction's own, that converges with this momentum."""
PROBE_START = 3
"""Iterations before the probe moves: the object is flat at first and knows nothing of it."""
BLOCK_PIXELS = 2**16
"""Pixels of the exit waves that are worked on at a time: they stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Object and probe after some iterations."""

    object: NDArray[np.complex64]
    """(H, W) transmittance: the box around all windows."""
    probe: NDArray[np.complex64]
    """(modes, N, N) [sqrt(photon)]."""
    origin_px: tuple[int, int]
    """Row and column of the object's first pixel."""


class FewExposures:
    """Counts of a few exposures, positions and probe: what error reduction iterates on.

    Parameters
    ----------
    counts : (m, N, N) float
        Photons; zero frequency at [N/2, N/2].
    xcoords, ycoords : (m,) float64
        Patch centers [px].
    probe : (modes, N, N) complex
        Guess of the illumination [sqrt(photon)].
    detector : Detector
        Bad pixels keep what is predicted; background and flux, of the m exposures, belong to the prediction.
    """

    def __init__(
        self,
        counts: NDArray[np.floating],
        xcoords: NDArray[np.float64],
        ycoords: NDArray[np.float64],
        probe: NDArray[np.complexfloating],
        detector: Detector,
    ):
        self.probe = as_modes(probe).astype(np.complex64)
        n = self.n_pixels = self.probe.shape[-1]
        self.counts = fft.ifftshift(counts, axes=(-2, -1)).astype(np.float32)
        self.top, self.left = window_start(ycoords, n), window_start(xcoords, n)
        self.origin_px = int(self.top.min()), int(self.left.min())
        self.top, self.left = self.top - self.origin_px[0], self.left - self.origin_px[1]
        self.shape = int(self.top.max()) + n, int(self.left.max()) + n
        down, across = shift_ramps(split_position(ycoords)[1], split_position(xcoords)[1], n)
        self.ramps = (down * across).astype(np.complex64)[:, None]
        scale = detector.exposure_scale
        self.flux = np.ones(len(counts), np.float32) if scale is None else scale.astype(np.float32)
        planes = detector.planes()
        self.planes = None if planes is None else fft.ifftshift(planes, axes=(-2, -1))
        detected = float(np.sum(detector.valid_values(counts), dtype=np.float64))
        transmittance = mean_transmittance(detected, float(self.flux.sum()), detector.detectable(self.probe))
        self.transmittance = min(transmittance, 1.0)

    def reconstruct(self, iterations: int, probe_step: float = 0.0) -> Estimate:
        """Reconstruct the object from a flat one and, given a step, refine the probe.

        Parameters
        ----------
        iterations : int
            Iterations of error reduction.
        probe_step : float
            Step of the probe in units of error reduction's own; 0: it is known. With 0.5, `STEP`, it moves far enough
            in 40 iterations for a rough guess, and stays where it is exact; 1 diverges.
        """
        obj = np.full(self.shape, self.transmittance, np.complex64)
        spectrum = fft.fft2(self.probe)
        ahead, spectrum_ahead = obj, spectrum
        probes = self._shifted(spectrum)
        light = self._light(probes)
        for iteration in range(iterations):
            before, spectrum_before = obj, spectrum
            moves = probe_step > 0 and iteration >= PROBE_START
            update, probe_update = self._updates(ahead, probes, with_probe=moves)
            obj = ahead + update / light
            ahead = obj + np.float32(MOMENTUM) * (obj - before)
            if moves:
                spectrum = spectrum_ahead + np.float32(probe_step) * probe_update
                spectrum_ahead = spectrum + np.float32(MOMENTUM) * (spectrum - spectrum_before)
                probes = self._shifted(spectrum_ahead)
                light = self._light(probes)
        return Estimate(object=obj, probe=fft.ifft2(spectrum).astype(np.complex64), origin_px=self.origin_px)

    def _shifted(self, spectrum: NDArray[np.complexfloating]) -> NDArray[np.complex64]:
        """Return the probes of all exposures, (m, modes, N, N)."""
        probes: NDArray[np.complex64] = fft.ifft2(spectrum * self.ramps, overwrite_x=True)
        probes *= np.sqrt(self.flux)[:, None, None, None]
        return probes

    def _light(self, probes: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Return (H, W) what divides an update of the object: the illumination, regularized."""
        light, n = np.zeros(self.shape, np.float32), self.n_pixels
        intensity = np.sum(probes.real**2 + probes.imag**2, axis=1)
        for spot, y, x in zip(intensity, self.top, self.left, strict=True):
            light[y : y + n, x : x + n] += spot
        return light + np.float32(REGULARIZATION) * intensity.max()

    def _updates(
        self, obj: NDArray[np.complex64], probes: NDArray[np.complex64], *, with_probe: bool
    ) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        """Return updates of the object, (H, W), and of the probe's spectrum, (modes, N, N); 0 if it is known."""
        n = self.n_pixels
        windows = np.lib.stride_tricks.sliding_window_view(obj, (n, n))
        update, spectrum = np.zeros_like(obj), np.zeros(probes.shape[1:], np.complex64)
        norm = np.zeros((n, n), np.float32)
        for block in blocks(len(probes), max(1, BLOCK_PIXELS // spectrum.size)):
            patches = windows[self.top[block], self.left[block]]
            change = self._change(patches, probes[block], block)
            parts = np.sum(probes[block].conj() * change, axis=1)
            for part, y, x in zip(parts, self.top[block], self.left[block], strict=True):
                update[y : y + n, x : x + n] += part
            if with_probe:
                patches *= np.sqrt(self.flux[block])[:, None, None]
                norm += np.sum(patches.real**2 + patches.imag**2, axis=0)
                change *= patches.conj()[:, None]
                spectrum += np.sum(fft.fft2(change, overwrite_x=True) * self.ramps[block].conj(), axis=0)
        return update, spectrum / norm.max() if with_probe else spectrum

    def _change(
        self, patches: NDArray[np.complex64], probes: NDArray[np.complex64], block: slice
    ) -> NDArray[np.complex64]:
        """Return what measured amplitudes change of the exit waves of some exposures, (b, modes, N, N)."""
        waves = fft.fft2(patches[:, None] * probes, norm="ortho", overwrite_x=True)
        intensity = np.sum(waves.real**2 + waves.imag**2, axis=1) + np.float32(FLOOR)
        if self.planes is not None:
            intensity += self.planes[1]
        ratio = np.sqrt(self.counts[block] / intensity) - 1
        if self.planes is not None:
            ratio *= self.planes[0]
        waves *= ratio[:, None]
        return fft.ifft2(waves, norm="ortho", overwrite_x=True).astype(np.complex64, copy=False)
