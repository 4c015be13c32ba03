"""What parameters predict of a block of exposures, and gradients of half the deviance that are summed over blocks.

With W = F(O P) per mode, flux c and mean counts I = c Σ|W|² + background, half the deviance of counts y has the
gradient G = F⁻¹(2 c (1 - y / I) W) in the exit wave O P, hence conj(P) G in the patch O and conj(O) G in the shifted
probe P.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.forward import shift_ramps
from ptycho.reconstruction.devices import Device
from ptycho.reconstruction.parameters import Gradients, Parameters
from ptycho.reconstruction.passes import Array, Expected, Windows


@dataclass(frozen=True, kw_only=True, eq=False)
class Illumination:
    """Probes of a block of exposures."""

    ramps: Array
    """(m, 1, N, N) phase ramps: factors of the spectrum that shift the probe."""
    spectra: Array
    """(m, modes, N, N) of the shifted probes, not normalized."""
    probes: Array
    """(m, modes, N, N) shifted probes at flux 1, sample-centered [sqrt(photon)]."""
    flux: Array
    """(m, 1, 1) incident photons in units of the probe's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What is predicted of a block of exposures; on the detector, zero frequency first."""

    part: slice
    """Which exposures these are."""
    windows: Windows
    light: Illumination
    patches: Array
    """(m, 1, N, N) of the object."""
    waves: Array
    """(m, modes, N, N) on the detector at flux 1 [sqrt(photon)]."""
    photons: Array
    """(m, N, N), Σ|waves|² over modes [photon]."""
    intensity: Array
    """(m, N, N) mean counts [photon]."""
    frames: Array
    """(m, N, N) counts; in bad pixels, the mean counts [photon]."""


def illuminate(spectrum: Array, shifts: NDArray[np.float64], flux: Array, device: Device) -> Illumination:
    """Shift a probe by the Fourier shift theorem.

    Parameters
    ----------
    spectrum : (modes, N, N) complex
        FFT of the probe, not normalized.
    shifts : (2, m) float64
        Rows and columns [px], on the host.
    flux : (m,) float
        Incident photons in units of the probe's.
    device : Device
        Where to compute.
    """
    shift_y, shift_x = shifts
    ramps = shift_ramps(shift_y, shift_x, spectrum.shape[-1])
    down, across = (device.to_device(ramp.astype(spectrum.dtype)[:, None]) for ramp in ramps)
    both = down * across
    spectra = spectrum * both
    return Illumination(ramps=both, spectra=spectra, probes=device.fft.ifft2(spectra), flux=flux[:, None, None])


def predict(
    obj: Array, light: Illumination, frames: Array, placed: tuple[slice, Windows], expected: Expected, device: Device
) -> Prediction:
    """Predict the counts of a block.

    Parameters
    ----------
    obj : (H, W) complex
        Object.
    light : Illumination
        Probes of the m exposures.
    frames : (m, N, N) float32
        Counts, zero frequency first.
    placed : slice and Windows
        Which exposures these are, and where their windows start in `obj`.
    expected : Expected
        What is added to the predicted counts, and which pixels are compared.
    device : Device
        Where to compute.
    """
    passes, (part, windows) = device.passes, placed
    patches = passes.cut(obj, windows, frames.shape[-1])[:, None]
    waves = device.fft.fft2(patches * light.probes, norm="ortho", overwrite_x=True)
    photons = passes.photons(waves)
    intensity, compared = passes.detect(light.flux * photons, frames, expected)
    return Prediction(
        part=part,
        windows=windows,
        light=light,
        patches=patches,
        waves=waves,
        photons=photons,
        intensity=intensity,
        frames=compared,
    )


class GradientSums:
    """Gradients of half the deviance, summed block by block.

    Parameters
    ----------
    parameters : Parameters
        Where the gradients are taken.
    wanted : names of parameters
        Which are computed; nothing is computed for the others.
    scale : (M,) float64
        Incident photons of each exposure at flux 1, in units of the probe's.
    fraction : float
        Fraction of the parameters' background that the counts hold.
    device : Device
        Where to compute.
    """

    def __init__(
        self, parameters: Parameters, wanted: Collection[str], scale: Array, fraction: float, device: Device
    ) -> None:
        self.wanted, self.scale, self.fraction, self.device = frozenset(wanted), scale, fraction, device
        self.is_number = isinstance(parameters.background, int | float)
        n = parameters.probe.shape[-1]
        zeros = device.xp.zeros
        kinds = {
            "object": (parameters.object.shape, parameters.object.dtype),
            "probe": (parameters.probe.shape, np.complex128),
            "shifts": (parameters.shifts.shape, np.float64),
            "flux": (parameters.flux.shape, np.float64),
            "background": ((n, n), np.float64),
        }
        self._sums = {name: zeros(*kind) for name, kind in kinds.items() if name in self.wanted}
        self._dtype = parameters.probe.dtype
        self._frequencies = device.to_device(2 * np.pi / n**2 * np.fft.fftfreq(n))

    def add(self, predicted: Prediction, slopes: Array) -> None:
        """Add the gradients of a block.

        Parameters
        ----------
        predicted : Prediction
            The block; its waves are overwritten.
        slopes : (m, N, N) float
            1 - y / I, derivative of half the deviance in the mean counts.
        """
        xp, sums, part = self.device.xp, self._sums, predicted.part
        if "background" in sums:
            sums["background"] += xp.sum(slopes, axis=0, dtype=np.float64)
        if "flux" in sums:
            sums["flux"][part] = self.scale[part] * xp.sum(slopes * predicted.photons, axis=(1, 2), dtype=np.float64)
        if self.wanted & {"object", "probe", "shifts"}:
            self._add_back(predicted, slopes)

    def _add_back(self, predicted: Prediction, slopes: Array) -> None:
        """Take waves back from the detector for the gradients in object, probe and shifts."""
        waves, light, fft = predicted.waves, predicted.light, self.device.fft
        waves *= (2 * light.flux * slopes)[:, None]
        back = fft.ifft2(waves, norm="ortho", overwrite_x=True)
        if self.wanted & {"probe", "shifts"}:
            self._add_probe(predicted, fft.fft2(back * predicted.patches.conj(), overwrite_x=True))
        if "object" in self.wanted:
            back *= light.probes.conj()
            self.device.passes.add(self._sums["object"], back.sum(1), predicted.windows)

    def _add_probe(self, predicted: Prediction, spectra: Array) -> None:
        """Add the gradients in probe and shifts, from the spectra of those in the shifted probes, not normalized."""
        sums, light = self._sums, predicted.light
        if "shifts" in sums:  # dP/ds has the spectrum -2πi frequency P
            turned = (spectra.conj() * light.spectra).imag.sum(1)
            for axis in (0, 1):
                along = turned.sum(2 - axis).astype(np.float64)
                sums["shifts"][axis, predicted.part] = along @ self._frequencies
        if "probe" in sums:
            spectra *= light.ramps.conj()
            sums["probe"] += spectra.sum(0)

    def gradients(self) -> Gradients:
        """Return the sums as gradients in the parameters."""
        sums, fft = dict(self._sums), self.device.fft
        if "probe" in sums:
            sums["probe"] = fft.ifft2(sums["probe"]).astype(self._dtype)
        if "background" in sums:
            total = self.fraction * sums["background"]
            sums["background"] = float(total.sum()) if self.is_number else fft.fftshift(total)
        return Gradients(**sums)
