"""Removal of the gauge: scale, phase, phase ramp and shift, which a reconstruction cannot know, for every method alike.

The model, with r₀ the center of the scored region (index (n - 1)/2 of its n rows or columns):

    estimate(r) ≈ scale · exp(i (phase + ramp · (r - r₀))) · truth(r - shift)

`align` fits the six parameters and undoes them:

1. The ramp is estimated in each image by itself, where a shift does not disturb it.
2. A bounded search over whole pixels alternates with a least-squares fit of all six parameters. The estimate is
   regressed on the truth because the truth is free of noise.
3. The final scale compares phases only between neighboring pixels. Over the whole region, phase errors would lower it
   and so brighten the aligned estimate.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage

from ptycho.scoring.resampling import TAPER_PX, centered_coordinates, crop, extend, frequencies, resample, taper

NO_SHIFT_PX = 1e-3
"""A remaining shift below this is not interpolated. Moving an image by ε px changes its finest detail (π rad/px) by
π ε = 0.3 % of that detail's contrast and all other detail by less: below the noise of any image scored here."""

_MAX_SEARCHES = 3
_MAX_FIT_STEPS = 30
_MAX_STEP_PX = 0.5
_FIT_TOLERANCE = 1e-5  # of a step of the fit [px, and rad at the region's edge]
_MIN_SIGNIFICANCE = 4.0  # peak / rms of chance correlation; one random shift in exp(16) = 9e6 reaches it
_MIN_CORRELATION = 0.5  # sufficient by itself: periodic samples correlate at many shifts and are never significant
_TIED_PEAK = 0.9  # of the highest peak; among peaks above, the nearest wins
_FLAT = 1e-6  # rms structure / rms


class AlignmentError(ValueError):
    """The estimate cannot be registered to the truth."""


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """What `align` removed from an estimate; the module's docstring has the model."""

    scale: float
    """Modulus of the estimate relative to the truth."""
    phase_rad: float
    """Global phase at the center of the region, in [-π, π]."""
    ramp_y_rad_per_px: float
    """Phase gained per row."""
    ramp_x_rad_per_px: float
    """Phase gained per column."""
    shift_y_px: float
    """Displacement of the estimate's content towards larger row."""
    shift_x_px: float
    """Displacement of the estimate's content towards larger column."""

    @property
    def ramp_rad_per_px(self) -> float:
        """Norm of the phase ramp."""
        return math.hypot(self.ramp_y_rad_per_px, self.ramp_x_rad_per_px)

    @property
    def shift_px(self) -> float:
        """Norm of the shift."""
        return math.hypot(self.shift_y_px, self.shift_x_px)


def align(
    estimate: NDArray[np.complexfloating],
    truth: NDArray[np.complexfloating],
    weight: NDArray[np.floating],
    region: tuple[slice, slice],
    *,
    max_shift_px: float = 8.0,
) -> tuple[NDArray[np.complex128], Gauge]:
    """Fit an estimate's gauge against the truth and remove it.

    Parameters
    ----------
    estimate, truth : (H, W) complex
        Objects on one grid, if possible larger than the region: a shift then brings in real data, where it would
        otherwise bring in the image mirrored at its edge. NaN is allowed outside the region. In a measured study the
        truth is the reference.
    weight : (H, W) float
        Illumination [any unit]. It weights every fit because a pixel's noise variance goes with 1 / illumination.
    region : (slice, slice)
        Scored rows and columns.
    max_shift_px : float
        Largest shift along either axis. With 0 nothing is registered: scale, phase and ramp are fitted in place, which
        also works for an estimate that cannot be registered.

    Returns
    -------
    aligned : (h, w) complex128
        The region of the estimate with the gauge removed, interpolated at most once (Fourier shift theorem).
    gauge : Gauge
        What was removed.

    Raises
    ------
    AlignmentError
        If an image is flat or zero, if the two have nothing in common, or if the best shift exceeds `max_shift_px`.
    ValueError
        If shapes differ, the region is empty or leaves the image, or it holds values that are not finite.

    Notes
    -----
    Search and fit compare complex fields with the ramp removed, because a pure-phase sample has no amplitude to
    register and a wrapped phase is not an image. Invariances: Fienup, Appl. Opt. 36, 8352 (1997);
    Guizar-Sicairos et al., Opt. Lett. 33, 156 (2008).
    """
    region = _checked_region(estimate, truth, weight, region)
    if max_shift_px < 0:
        raise ValueError(f"max_shift_px is {max_shift_px:g}; wanted 0 (no registration) or more")
    reach = math.ceil(max_shift_px)
    moving = extend(estimate, region, reach + 1 + TAPER_PX)
    target = _Target(extend(truth, region, TAPER_PX), np.asarray(weight, np.float64)[region])
    shape = target.image.shape
    ramp_difference = _mean_ramp(crop(moving, shape), target.weight) - _mean_ramp(target.image, target.weight)
    ramps = (ramp_difference, np.zeros(2))  # noise spoils the former at low dose; with a known probe the ramp is 0
    if reach:
        ramp, shift = _register(moving, target, ramps, max_shift_px)
    else:
        ramp = max(ramps, key=lambda ramp: abs(target.overlap(resample(moving, shape, ramp, np.zeros(2)))))
        ramp, shift = _fit(moving, target, ramp, np.zeros(2), max_shift_px)
    whole = np.rint(shift)
    shift = whole + 0.0 if math.hypot(*(shift - whole)) < NO_SHIFT_PX else shift  # no -0.0 in tables
    resampled = resample(moving, shape, ramp, shift)
    phase, scale = np.angle(target.project(resampled)), target.scale(resampled)
    gauge = Gauge(
        scale=scale,
        phase_rad=float(phase),
        ramp_y_rad_per_px=float(ramp[0]),
        ramp_x_rad_per_px=float(ramp[1]),
        shift_y_px=float(shift[0]),
        shift_x_px=float(shift[1]),
    )
    return resampled / (scale * np.exp(1j * phase)), gauge


class _Target:
    """The truth on the region, its weights, and its derivatives by the parameters of the gauge.

    Parameters
    ----------
    extended : (h + 2 TAPER_PX, w + 2 TAPER_PX) complex128
        Truth with a margin.
    weight : (h, w) float64
    """

    def __init__(self, extended: NDArray[np.complex128], weight: NDArray[np.float64]) -> None:
        self.weight = weight / weight.mean()
        self.image = image = extended[TAPER_PX:-TAPER_PX, TAPER_PX:-TAPER_PX]
        spectrum = fft.fft2(taper(extended))
        y, x = centered_coordinates(image.shape)
        slopes = [crop(fft.ifft2(2j * np.pi * f * spectrum), image.shape) for f in frequencies(extended.shape)]
        derivatives = np.stack([image, 1j * image, 1j * y * image, 1j * x * image, -slopes[0], -slopes[1]])
        self.derivatives = derivatives.reshape(6, -1)

    def overlap(self, image: NDArray[np.complex128]) -> complex:
        """Weighted inner product with the truth, Σ w truth* image."""
        return complex(np.sum(self.weight * self.image.conj() * image))

    def project(self, image: NDArray[np.complex128]) -> complex:
        """Factor c that minimizes Σ w |image - c truth|²."""
        overlap, power = self.overlap(image), self.overlap(self.image).real
        if abs(overlap) ** 2 <= _FLAT**2 * power * np.sum(self.weight * np.abs(image) ** 2):
            raise AlignmentError("the estimate has no component along the truth: one is zero, or they are unrelated")
        return overlap / power

    def scale(self, image: NDArray[np.complex128]) -> float:
        """Modulus of the image relative to the truth; phases are compared within 3 × 3 px, so slow errors cancel."""
        cross, power = (ndimage.uniform_filter(self.weight * self.image.conj() * f, 3) for f in (image, self.image))
        return float(np.abs(cross).sum() / np.abs(power).sum())

    def solver(self, n_free: int) -> NDArray[np.complex128]:
        """Matrix (n_free, pixels) from a residual to steps of the first parameters; 0 for undetermined ones."""
        weighted = self.derivatives[:n_free].conj()
        weighted *= self.weight.ravel()
        normal = np.real(weighted @ self.derivatives[:n_free].T)
        size = np.sqrt(np.maximum(np.diag(normal), np.finfo(float).tiny))
        inverse = np.linalg.pinv(normal / np.outer(size, size), rcond=1e-6, hermitian=True) / np.outer(size, size)
        return inverse @ weighted


_Ramp = NDArray[np.floating]
_Shift = NDArray[np.floating]


def _register(
    moving: NDArray[np.complex128], target: _Target, ramps: tuple[_Ramp, ...], max_shift_px: float
) -> tuple[_Ramp, _Shift]:
    """Alternate the whole-pixel search with the fit until the search returns the fitted shift."""
    shift, reach = np.full(2, np.inf), math.ceil(max_shift_px)
    for _ in range(_MAX_SEARCHES):
        _, whole, ramp = max((_peak(moving, target, ramp, reach) for ramp in ramps), key=lambda peak: peak[0])
        if np.abs(whole - shift).max() <= 1:
            break
        ramp, shift = _fit(moving, target, ramp, whole, max_shift_px)
        ramps = (ramp,)
    _check_significance(resample(moving, target.image.shape, ramp, shift), target)
    return ramp, shift


def _peak(moving: NDArray[np.complex128], target: _Target, ramp: _Ramp, reach: int) -> tuple[float, _Shift, _Ramp]:
    """Highest weighted complex correlation coefficient over whole-pixel shifts, its shift, and the given ramp."""
    weight, detail = target.weight, target.image - np.average(target.image, weights=target.weight)
    if np.sum(weight * np.abs(detail) ** 2) <= _FLAT**2 * np.sum(weight * np.abs(target.image) ** 2):
        raise AlignmentError("the truth is flat in the scored region: there is nothing to register to")
    window = resample(moving, tuple(n + 2 * reach for n in target.image.shape), ramp, np.zeros(2))

    def correlate(image: NDArray, kernel: NDArray) -> NDArray:
        """Cyclic correlation; at the shifts of interest the kernel stays inside the image, so nothing wraps."""
        size = tuple(map(fft.next_fast_len, image.shape))
        spectrum = fft.fft2(image, size)
        spectrum *= fft.fft2(kernel, size).conj()
        return fft.ifft2(spectrum)[: 2 * reach + 1, : 2 * reach + 1]

    power = correlate(np.abs(window) ** 2, weight).real
    energy = power - np.abs(correlate(window, weight)) ** 2 / weight.sum()
    if np.all(energy <= _FLAT**2 * power):
        raise AlignmentError("the estimate is flat in the scored region: there is nothing to register")
    correlation = np.abs(correlate(window, weight * detail)) / np.sqrt(np.maximum(energy, _FLAT**2 * power.max()))
    peaks = correlation == ndimage.maximum_filter(correlation, size=3, mode="nearest")
    shifts = np.argwhere(peaks & (correlation >= _TIED_PEAK * correlation.max())) - float(reach)
    return correlation.max(), shifts[np.linalg.norm(shifts, axis=1).argmin()], ramp


def _check_significance(resampled: NDArray[np.complex128], target: _Target) -> None:
    """Raise unless the images correlate better than by chance: peak over rms of their cyclic cross-correlation."""
    root = np.sqrt(target.weight)
    estimate, truth = (root * (f - np.average(f, weights=target.weight)) for f in (resampled, target.image))
    peak = abs(np.vdot(estimate, truth))
    coefficient = peak / (np.linalg.norm(estimate) * np.linalg.norm(truth))
    chance = np.linalg.norm(fft.fft2(estimate) * fft.fft2(truth).conj()) / estimate.size
    if peak < _MIN_SIGNIFICANCE * chance and coefficient < _MIN_CORRELATION:
        raise AlignmentError(
            f"estimate and truth have nothing in common: correlation {coefficient:.3f} at the best shift is "
            f"{peak / chance:.1f} times its rms by chance; wanted at least {_MIN_SIGNIFICANCE:g} times"
        )


def _fit(
    moving: NDArray[np.complex128], target: _Target, ramp: _Ramp, shift: _Shift, max_shift_px: float
) -> tuple[_Ramp, _Shift]:
    """Fit all six parameters by Gauss-Newton on Σ w |resampled / c - truth|², each step from the original estimate."""
    solver = target.solver(6 if max_shift_px > 0 else 4)
    edge = max(target.image.shape) / 2
    for _ in range(_MAX_FIT_STEPS):
        resampled = resample(moving, target.image.shape, ramp, shift)
        step = np.real(solver @ (resampled / target.project(resampled) - target.image).ravel())
        move = np.clip(step[4:], -_MAX_STEP_PX, _MAX_STEP_PX) if len(step) > 4 else np.zeros(2)
        ramp, shift = ramp + step[2:4], shift + move
        if np.abs(shift).max() > max_shift_px + 0.5:
            raise AlignmentError(
                f"no shift within ±{max_shift_px:g} px fits; the best is y {shift[0]:.1f}, x {shift[1]:.1f} px: either "
                "the shift is that large, or estimate and truth have little in common"
            )
        if max(np.abs(move).max(), np.abs(step[2:4]).max() * edge) < _FIT_TOLERANCE:
            break
    return ramp, shift


def _mean_ramp(field: NDArray[np.complex128], weight: NDArray[np.float64]) -> _Ramp:
    """Weighted mean phase difference between neighbors along y and x [rad/px]; needs no unwrapping."""
    rows = np.sum(np.sqrt(weight[1:] * weight[:-1]) * field[1:] * field[:-1].conj())
    columns = np.sum(np.sqrt(weight[:, 1:] * weight[:, :-1]) * field[:, 1:] * field[:, :-1].conj())
    return np.angle([rows, columns])


def _checked_region(
    estimate: ArrayLike, truth: ArrayLike, weight: ArrayLike, region: tuple[slice, slice]
) -> tuple[slice, slice]:
    """Check everything that can be wrong with the input; return the region with both ends of its slices given."""
    if np.ndim(estimate) != 2 or len({np.shape(estimate), np.shape(truth), np.shape(weight)}) > 1:
        shapes = f"{np.shape(estimate)}, {np.shape(truth)}, {np.shape(weight)}"
        raise ValueError(f"estimate, truth and weight have shapes {shapes}; wanted three times the same (H, W)")
    spans = [(s.start or 0, n if s.stop is None else s.stop, n) for s, n in zip(region, np.shape(truth), strict=True)]
    if any(not 0 <= start < stop <= n for start, stop, n in spans):
        raise ValueError(f"region {region} is empty or leaves the image of {np.shape(truth)} px")
    rows, columns = (slice(start, stop) for start, stop, _ in spans)
    for name, image in {"estimate": estimate, "truth": truth, "weight": weight}.items():
        if not np.isfinite(np.asarray(image)[rows, columns]).all():
            raise ValueError(f"the {name} is not finite everywhere in the scored region")
    scored_weight = np.asarray(weight)[rows, columns]
    if np.min(scored_weight) < 0 or not np.any(scored_weight):
        raise ValueError("weights must be at least 0 and not all 0 in the scored region")
    return rows, columns
