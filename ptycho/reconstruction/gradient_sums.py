"""Gradients of half the deviance, summed over blocks, from those in the probe of every exposure.

With W = F(O P) per mode, P shifted and times the root of the flux c, and mean counts I = Σ|W|² + background, half the
deviance of counts y has the gradient G = F⁻¹(2 (1 - y / I) W) in the exit wave O P, hence conj(P) G in the patch O and
conj(O) G in the probe P.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.forward import shift_ramps
from ptycho.reconstruction.devices import Device
from ptycho.reconstruction.parameters import Gradients, Parameters
from ptycho.reconstruction.passes import Array, Ramps


def ramps_of(shifts: NDArray[np.float64], n: int, flux: Array, dtype: np.typing.DTypeLike, device: Device) -> Ramps:
    """Return what shifts a probe, by the Fourier shift theorem, and lights it.

    Parameters
    ----------
    shifts : (2, m) float64
        Rows and columns [px], on the host.
    n : int
        N, side of the probe [px].
    flux : (m,) float
        Incident photons in units of the probe's, on the device.
    dtype : complex64 or complex128
        Precision of the ramps.
    device : Device
        Where to compute.
    """
    ramps = np.stack([ramp.reshape(shifts.shape[1], n) for ramp in shift_ramps(shifts[0], shifts[1], n)])
    return Ramps(
        ramps=device.to_device(ramps.astype(dtype)),
        roots=device.xp.sqrt(flux),
        frequencies=device.to_device(2 * np.pi * np.fft.fftfreq(n)),
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
        Incident photons of each exposure at flux 1, in units of the probe's, on the host.
    fraction : float
        Fraction of the parameters' background that the counts hold.
    device : Device
        Where to compute.
    """

    def __init__(
        self,
        parameters: Parameters,
        wanted: Collection[str],
        scale: NDArray[np.float64],
        fraction: float,
        device: Device,
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

    @property
    def object(self) -> Array | None:
        """Canvas to which the gradient in the object is added; None if it is not wanted."""
        return self._sums.get("object")

    @property
    def slopes(self) -> Array | None:
        """(N, N) to which derivatives in the mean counts are added; None if that in the background is not wanted."""
        return self._sums.get("background")

    def add(self, part: slice, probes: Array, gradients: Array, spectrum: Array, ramps: Ramps) -> None:
        """Add the gradients of some exposures.

        Parameters
        ----------
        part : slice
            Which exposures these are.
        probes, gradients : (m, modes, N, N) complex
            Their probes, and the gradients in these, which are overwritten.
        spectrum : (modes, N, N) complex
            FFT of the probe, not normalized.
        ramps : Ramps
            What has shifted and lit it.
        """
        xp, sums = self.device.xp, self._sums
        if "flux" in sums:  # dP/dc = P / (2 c)
            along = xp.sum((probes.conj() * gradients).real, axis=(1, 2, 3), dtype=np.float64)
            flux = xp.maximum(ramps.roots.astype(np.float64) ** 2, np.finfo(np.float32).tiny)  # 0 where no counts are
            sums["flux"][part] = along / (2 * flux)
        if self.wanted & {"probe", "shifts"}:
            slopes = self.device.passes.shift_slopes(gradients, spectrum, ramps, sums.get("probe"))
            if "shifts" in sums:
                sums["shifts"][:, part] = slopes

    def gradients(self) -> Gradients:
        """Return the sums as gradients in the parameters."""
        sums, fft, to_host = dict(self._sums), self.device.fft, self.device.to_host
        if "shifts" in sums:
            sums["shifts"] = to_host(sums["shifts"])
        if "flux" in sums:
            sums["flux"] = self.scale * to_host(sums["flux"])
        if "probe" in sums:
            sums["probe"] = fft.ifft2(sums["probe"]).astype(self._dtype)
        if "background" in sums:
            total = self.fraction * sums["background"]
            sums["background"] = float(total.sum()) if self.is_number else fft.fftshift(total)
        return Gradients(**sums)
