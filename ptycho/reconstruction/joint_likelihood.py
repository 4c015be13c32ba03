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
from ptycho.reconstruction.counts_on_canvas import CACHE_BYTES, CountsOnCanvas
from ptycho.reconstruction.cpu_passes import PIECE_PIXELS
from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.gradient_sums import GradientSums, ramps_of
from ptycho.reconstruction.parameters import NAMES, Gradients, Parameters, check_names
from ptycho.reconstruction.passes import Array, Expected, Ramps

MARGIN_PX = 16
"""Width of the canvas around the box of the recorded windows [px]: as far as windows may follow moved positions."""
MIN_COUNTS = 0.1
"""Smallest mean count that divides in the Fisher information [photon]: it lacks the curvature where less is
predicted, and what is predicted there is uncertain."""
SAME_PX = 1.0e-9
"""Shifts that differ by less are the same."""


@dataclass(frozen=True, eq=False)
class _Model:
    """Parameters as blocks of exposures need them."""

    object: Array
    spectrum: Array
    """(modes, N, N) of the probe, not normalized."""
    shifts: NDArray[np.float64]
    """(2, M) rows and columns: positions minus the centers of their windows [px], on the host."""
    flux: Array
    """(M,) incident photons in units of the probe's, on the device."""
    expected: Expected


class _Kept:
    """Shifted probes that are kept, by likelihoods of the same counts together."""

    def __init__(self) -> None:
        self.probe: Array = None
        self.flux: Array = None
        self.pieces: dict[int, tuple[NDArray[np.float64], Array]] = {}
        """By the first exposure: shifts in their windows (2, m) [px], and probes (m, modes, N, N)."""


class JointLikelihood(CountsOnCanvas):
    """Poisson deviance of counts on a canvas, and its gradients in object, probe, positions, flux and background.

    Nothing is kept but counts and shifted probes, if there is room: memory is the canvas and a block of exposures.
    Arrays of a canvas or a pattern are those of `device`; those with a number an exposure are the host's.

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
        self._kept = _Kept()
        scale = counts.detector.exposure_scale
        self._scale = fraction * (np.ones(len(counts)) if scale is None else scale)

    def parameters(self, obj: Array) -> Parameters:
        """Return an object, (H, W) complex64, with all else as recorded."""
        probe, m = self.device.to_device(self.probe), len(self.counts)
        return Parameters(object=obj, probe=probe, shifts=np.zeros((2, m)), flux=np.ones(m))

    def anchored(self, shifts: NDArray[np.float64]) -> Self:
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
        moved, other = self._recorded + shifts, copy(self)
        other.top, other.left = window_start(moved, self.n_pixels)
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
            Whose gradients are computed: the fewer, the quicker. For the object alone, passes are others, and so are
            their rounding errors.

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
        sums, passes = GradientSums(parameters, wanted, self._scale, self.fraction, self.device), self.device.passes
        for piece, counts in self._counts(model):
            probes, where = self._probes(parameters, model, piece), (self.windows(piece), model.expected)
            value, gradients = passes.probe_gradients(model.object, (counts, probes), *where, sums.object, sums.slopes)
            total = total + value
            sums.add(piece, probes, gradients, model.spectrum, self._ramps(model, piece))
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
        """Return the probes of some exposures, (m, modes, N, N), times the root of their flux.

        They are kept: windows that move by whole pixels leave them as they are.
        """
        kept, shifts = self._kept, model.shifts[:, piece]
        if parameters.probe is not kept.probe or parameters.flux is not kept.flux:
            kept.probe, kept.flux, kept.pieces = parameters.probe, parameters.flux, {}
        before, probes = kept.pieces.get(piece.start, (np.empty(0), None))
        if before.shape != shifts.shape or not np.abs(before - shifts).max() <= SAME_PX:
            probes = self.device.passes.shifted(model.spectrum, self._ramps(model, piece))
            if self._keeps_probes:
                kept.pieces[piece.start] = shifts.copy(), probes
        return probes

    def per_exposure(self, parameters: Parameters) -> NDArray[np.float64]:
        """Return half the deviance of every exposure, (M,) float64; errors are those of `evaluate`."""
        values, model = self.device.xp.zeros(len(self.counts)), self._model(parameters)
        for piece, counts in self._counts(model):
            block, windows = (counts, self._probes(parameters, model, piece)), self.windows(piece)
            values[piece] = self.device.passes.per_exposure(parameters.object, block, windows, model.expected)
        return self.device.to_host(values)

    def shift_information(self, parameters: Parameters) -> NDArray[np.float64]:
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
        xp, fft, n, passes = self.device.xp, self.device.fft, self.n_pixels, self.device.passes
        information, model = xp.zeros((len(self.counts), 2, 2)), self._model(parameters)
        factors = self.device.to_device((-2j * np.pi * np.fft.fftfreq(n)).astype(parameters.probe.dtype))
        for piece, counts in self._counts(model):
            windows, ramps = self.windows(piece), self._ramps(model, piece)
            block = counts, self._probes(parameters, model, piece)
            waves, intensity, _ = passes.predict(model.object, block, windows, model.expected)
            patches, slopes = passes.cut(model.object, windows, n)[:, None], []
            for factor in (factors.reshape(n, 1), factors):
                change = patches * passes.shifted(model.spectrum * factor, ramps)
                slopes.append(2 * (waves.conj() * fft.fft2(change, norm="ortho", overwrite_x=True)).real.sum(1))
            weight = 1 / xp.maximum(intensity, MIN_COUNTS)
            if self._valid is not None:
                weight = weight * self._valid
            for a, b in ((0, 0), (0, 1), (1, 1)):
                product = xp.sum(slopes[a] * slopes[b] * weight, axis=(1, 2), dtype=np.float64)
                information[piece, a, b] = product
                information[piece, b, a] = product
        return self.device.to_host(information)

    def illumination(self, parameters: Parameters) -> Array:
        """Return the incident photons on the canvas, (H, W) float64 [photon/px]; errors are those of `evaluate`."""
        model, passes = self._model(parameters), self.device.passes
        total = self.device.xp.zeros(self.shape)
        for piece in (piece for part in self.parts for piece in self._pieces(model, part)):
            passes.add(total, passes.photons(self._probes(parameters, model, piece)), self.windows(piece))
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
            shifts=self._recorded - centers + parameters.shifts,
            flux=self.device.to_device((self._scale * parameters.flux).astype(precision)),
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
        return replace(self.expected, planes=xp.stack([planes[0], planes[1] + added]).astype(precision))

    def _ramps(self, model: _Model, part: slice) -> Ramps:
        return ramps_of(model.shifts[:, part], self.n_pixels, model.flux[part], model.spectrum.dtype, self.device)

    def _pieces(self, model: _Model, part: slice) -> Iterator[slice]:
        """Return consecutive exposures of a block that are computed at once."""
        length = part.stop - part.start
        size = max(1, PIECE_PIXELS // model.spectrum.size) if self.device.is_host else length
        return (slice(part.start + piece.start, part.start + piece.stop) for piece in blocks(length, size))

    def _counts(self, model: _Model) -> Iterator[tuple[slice, Array]]:
        """Yield exposures that are computed at once, and their counts (m, N, N)."""
        for part, (frames,) in self._blocks():
            for piece in self._pieces(model, part):
                yield piece, frames[piece.start - part.start : piece.stop - part.start]
