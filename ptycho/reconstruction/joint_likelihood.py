"""Poisson likelihood of photon counts in all that predicts them, and its gradients, computed block by block.

Object, probe modes, positions, flux of each exposure and background; maximum-likelihood refinement of all of them:
Thibault and Guizar-Sicairos, New J. Phys. 14, 063004 (2012); of positions by their gradient: Guizar-Sicairos and
Fienup, Opt. Express 16, 7264 (2008). A position moves the probe within its window by the Fourier shift theorem, so that
the likelihood is differentiable in it.
"""

from collections.abc import Collection, Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.forward import as_modes, blocks, window_start
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.counts_on_canvas import CountsOnCanvas
from ptycho.reconstruction.cpu_passes import PIECE_PIXELS
from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.gradient_sums import GradientSums, Illumination, Prediction, illuminate, predict
from ptycho.reconstruction.parameters import NAMES, Gradients, Parameters, check_names
from ptycho.reconstruction.passes import Array, Expected

MARGIN_PX = 16
"""Width of the canvas around the box of the recorded windows [px]: as far as windows may follow moved positions."""
MIN_COUNTS = 0.1
"""Smallest mean count that divides in the Fisher information [photon]: it lacks the curvature where less is
predicted, and what is predicted there is uncertain."""
CACHE_BYTES = 1 << 28
"""The host keeps counts that need less than this, and shifted probes while nothing but the object changes [byte]."""


@dataclass(frozen=True, eq=False)
class _Model:
    """Parameters as blocks of exposures need them."""

    object: Array
    spectrum: Array
    """(modes, N, N) of the probe, not normalized."""
    shifts: NDArray[np.float64]
    """(2, M) rows and columns: positions minus the centers of their windows [px], on the host."""
    flux: Array
    """(M,) incident photons in units of the probe's."""
    expected: Expected


class JointLikelihood(CountsOnCanvas):
    """Poisson deviance of counts on a canvas, and its gradients in object, probe, positions, flux and background.

    Nothing is kept but counts and shifted probes, if there is room: memory is the canvas and a block of exposures.
    Arrays are those of `device`.

    Parameters
    ----------
    counts : Counts
        Measured photons and recorded positions.
    probe : (modes, N, N) complex
        Illumination to start with [sqrt(photon)].
    fraction : float
        Fraction of the photons that `counts` holds: 1, or that of a split. Parameters are those of all photons.
    margin_px : int
        Width of the canvas around the box of the recorded windows [px].
    device : Device
        Where to compute.
    """

    def __init__(
        self,
        counts: Counts,
        probe: NDArray[np.complexfloating],
        fraction: float = 1.0,
        margin_px: int = MARGIN_PX,
        device: Device = CPU,
    ):
        self.probe, self.fraction, self.margin_px = as_modes(probe).astype(np.complex64), fraction, margin_px
        modes, n, _ = self.probe.shape
        super().__init__(counts, n, fraction, device, margin_px)
        self._divide(8 * modes * n * n, 4 * n * n, CACHE_BYTES)
        self._keeps_probes = device.is_host and len(counts) * 8 * modes * n * n <= CACHE_BYTES
        self._lit: tuple[tuple[Array, ...], dict[int, Array]] = (), {}
        scale = counts.detector.exposure_scale
        self._scale = device.to_device(fraction * (np.ones(len(counts)) if scale is None else scale))

    def parameters(self, obj: Array) -> Parameters:
        """Return an object, (H, W) complex64, with all else as recorded."""
        to_device, m = self.device.to_device, len(self.counts)
        probe, shifts, flux = to_device(self.probe), to_device(np.zeros((2, m))), to_device(np.ones(m))
        return Parameters(object=obj, probe=probe, shifts=shifts, flux=flux)

    def anchored(self, shifts: Array) -> Self:
        """Return the same likelihood with the windows that are nearest to moved positions.

        The value changes by what the probe wraps around at the borders of its windows: where all photons are further
        inside than the windows move, only rounding errors.

        Parameters
        ----------
        shifts : (2, M) float64
            Rows and columns: what is added to the recorded positions [px].

        Raises
        ------
        ValueError
            If windows leave the canvas, or a shift is not finite.
        """
        moved, other = self._recorded + self.device.to_host(shifts), copy(self)
        other._lit, (other.top, other.left) = ((), {}), window_start(moved, self.n_pixels)
        corners = np.stack([other.top, other.left]) - np.array(self.origin_px)[:, None]
        outside = ((corners < 0) | (corners > np.array(self.shape)[:, None] - self.n_pixels)).any(axis=0)
        if outside.any():
            raise ValueError(
                f"exposures {np.flatnonzero(outside).tolist()}: windows leave the canvas; wanted positions at most "
                f"{self.margin_px} px outside the box of the recorded ones (margin_px)"
            )
        other._place_windows()
        return other

    def evaluate(self, parameters: Parameters, wanted: Collection[str] = NAMES) -> tuple[float, Gradients]:
        """Return half the deviance and its gradients.

        Parameters
        ----------
        parameters : Parameters
            Where to evaluate; shifts may leave their pixel as far as the probe fits in the window, see `anchored`.
        wanted : names of parameters
            Whose gradients are computed: the fewer, the quicker. The object alone has passes of its own, whose
            rounding errors are others.

        Returns
        -------
        value : float
            E = Σ I - y - y log(I / y) over valid pixels, the background included in I.
        gradients : Gradients
            None for those that are not wanted.

        Raises
        ------
        ValueError
            If a parameter has another shape than the likelihood, or there is none of a name.
        """
        check_names(wanted)
        model, total = self._model(parameters), 0.0
        if set(wanted) == {"object"}:
            return self._evaluate_object(parameters, model)
        sums = GradientSums(parameters, wanted, self._scale, self.fraction, self.device)
        for predicted in self._predictions(model):
            ratio = predicted.frames / predicted.intensity
            terms = self.device.passes.half_deviance(predicted.intensity, predicted.frames, ratio)
            total = total + self.device.xp.sum(terms, dtype=np.float64)
            sums.add(predicted, 1 - ratio)
        return float(total), sums.gradients()

    def _evaluate_object(self, parameters: Parameters, model: _Model) -> tuple[float, Gradients]:
        """Do the same for the gradient of the object alone: by the passes of TV-MAP, with probes that are kept."""
        obj, total = parameters.object, 0.0
        gradient = self.device.xp.zeros(obj.shape, obj.dtype)
        for piece, counts in self._counts(model):
            block = counts, self._probes(parameters, model, piece)
            total = total + self.device.passes.accumulate(obj, block, self.windows(piece), model.expected, gradient)
        return float(total), Gradients(object=gradient)

    def _probes(self, parameters: Parameters, model: _Model, piece: slice) -> Array:
        """Return the probes of some exposures, (m, modes, N, N), which are kept until others are asked for."""
        behind = parameters.probe, parameters.shifts, parameters.flux
        known = len(self._lit[0]) == len(behind) and all(a is b for a, b in zip(self._lit[0], behind, strict=True))
        if known and piece.start in self._lit[1]:
            return self._lit[1][piece.start]
        light = self._light(model, piece)
        probes = light.probes * self.device.xp.sqrt(light.flux)[:, None]
        if self._keeps_probes:
            self._lit = behind, {**(self._lit[1] if known else {}), piece.start: probes}
        return probes

    def per_exposure(self, parameters: Parameters) -> Array:
        """Return half the deviance of every exposure, (M,) float64; errors are those of `evaluate`."""
        values, model = self.device.xp.zeros(len(self.counts)), self._model(parameters)
        for piece, counts in self._counts(model):
            block, windows = (counts, self._probes(parameters, model, piece)), self.windows(piece)
            values[piece] = self.device.passes.per_exposure(parameters.object, block, windows, model.expected)
        return values

    def shift_information(self, parameters: Parameters) -> Array:
        """Return the Fisher information of every exposure's shift, Σ (∂I/∂s_a) (∂I/∂s_b) / I over valid pixels.

        The Gauss-Newton matrix of half the deviance; where I is below `MIN_COUNTS`, that divides.

        Parameters
        ----------
        parameters : Parameters
            Where to evaluate; errors are those of `evaluate`.

        Returns
        -------
        (M, 2, 2) float64
            Rows and columns [1/px²].
        """
        xp, fft, n = self.device.xp, self.device.fft, self.n_pixels
        information = xp.zeros((len(self.counts), 2, 2))
        factors = self.device.to_device((-2j * np.pi * np.fft.fftfreq(n)).astype(parameters.probe.dtype))
        for predicted in self._predictions(self._model(parameters)):
            light, slopes = predicted.light, []
            for factor in (factors.reshape(n, 1), factors):
                change = fft.fft2(predicted.patches * fft.ifft2(light.spectra * factor), norm="ortho", overwrite_x=True)
                slopes.append(2 * light.flux * (predicted.waves.conj() * change).real.sum(1))
            weight = 1 / xp.maximum(predicted.intensity, MIN_COUNTS)
            if self._valid is not None:
                weight = weight * self._valid
            for a, b in ((0, 0), (0, 1), (1, 1)):
                product = xp.sum(slopes[a] * slopes[b] * weight, axis=(1, 2), dtype=np.float64)
                information[predicted.part, a, b] = product
                information[predicted.part, b, a] = product
        return information

    def illumination(self, parameters: Parameters) -> Array:
        """Return the incident photons on the canvas, (H, W) float64 [photon/px]; errors are those of `evaluate`."""
        model, passes = self._model(parameters), self.device.passes
        total = self.device.xp.zeros(self.shape)
        for piece in (piece for part in self.parts for piece in self._pieces(model, part)):
            light = self._light(model, piece)
            passes.add(total, light.flux * passes.photons(light.probes), self.windows(piece))
        return total

    @property
    def _recorded(self) -> NDArray[np.float64]:
        """Rows and columns of the recorded positions, (2, M) [px]."""
        return np.stack([self.counts.ycoords, self.counts.xcoords])

    def _model(self, parameters: Parameters) -> _Model:
        """Check parameters and prepare them."""
        m, n, precision = len(self.counts), self.n_pixels, np.finfo(parameters.object.dtype).dtype
        wanted = {"object": self.shape, "probe": (*parameters.probe.shape[:1], n, n), "shifts": (2, m), "flux": (m,)}
        if not isinstance(parameters.background, int | float):
            wanted["background"] = n, n
        for name, shape in wanted.items():
            if (given := getattr(parameters, name).shape) != shape:
                raise ValueError(f"{name}: an array of shape {given}; wanted {shape}")
        centers = np.stack([self.top, self.left]) + n // 2
        return _Model(
            object=parameters.object,
            spectrum=self.device.fft.fft2(parameters.probe),
            shifts=self._recorded - centers + self.device.to_host(parameters.shifts),
            flux=(self._scale * parameters.flux).astype(precision),
            expected=self._expected(parameters.background, precision),
        )

    def _expected(self, background: Array | float, precision: Any) -> Expected:
        """Return what is added to the predicted counts, a background of the parameters included."""
        if isinstance(background, int | float):
            added: Any = self.fraction * float(background)
            if added == 0:
                return self.expected
        else:
            added = self.fraction * self.device.fft.ifftshift(background).astype(precision)
        xp, shape = self.device.xp, (self.n_pixels, self.n_pixels)
        planes = (xp.ones(shape, np.float32), xp.zeros(shape, np.float32)) if self._planes is None else self._planes
        return replace(self.expected, planes=xp.stack([planes[0], planes[1] + added]))

    def _light(self, model: _Model, part: slice) -> Illumination:
        return illuminate(model.spectrum, model.shifts[:, part], model.flux[part], self.device)

    def _pieces(self, model: _Model, part: slice) -> Iterator[slice]:
        """Return consecutive exposures of a block that are computed at once."""
        length = part.stop - part.start
        size = max(1, PIECE_PIXELS // model.spectrum.size) if self.device.is_host else length
        return (slice(part.start + piece.start, part.start + piece.stop) for piece in blocks(length, size))

    def _predictions(self, model: _Model) -> Iterator[Prediction]:
        """Yield what is predicted of all exposures, some at a time."""
        for piece, counts in self._counts(model):
            placed = piece, self.windows(piece)
            yield predict(model.object, self._light(model, piece), counts, placed, model.expected, self.device)

    def _counts(self, model: _Model) -> Iterator[tuple[slice, Array]]:
        """Yield exposures that are computed at once, and their counts (m, N, N)."""
        for part, (frames,) in self._blocks():
            for piece in self._pieces(model, part):
                yield piece, frames[piece.start - part.start : piece.stop - part.start]
