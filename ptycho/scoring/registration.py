"""Remove what a reconstruction cannot know — scale, phase, phase ramp, shift — the same way for every method.

The model, with r₀ the center of the scored region (index (n - 1)/2 of its n rows or columns):

    estimate(r) ≈ scale · exp(i (phase + ramp · (r - r₀))) · truth(r - shift)

`align` fits the six numbers and undoes them. The ramp is first found in each image by itself, where no shift disturbs
it; then a bounded search over whole pixels alternates with a least-squares fit of all six numbers together, the
estimate regressed on the truth, which has no noise. The final scale compares phases only from pixel to pixel: over the
whole region, errors of phase would lower it and so brighten the aligned estimate.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

NO_SHIFT_PX = 1e-3
"""A rest of a shift below this is not interpolated. Moving an image by ε px changes its finest detail (π rad/px) by
π ε = 0.3 % of that detail's contrast and all other detail by less: below the noise of any image scored here."""

TAPER_PX = 16
"""Margin in which an image fades to its mean before it is Fourier transformed, so that its edges do not ring."""

_ROUNDS = 3
_STEPS = 30
_MAX_STEP_PX = 0.5
_TOLERANCE = 1e-5  # of a step of the fit [px, and rad at the region's edge]
_SIGNIFICANT = 4.0  # peak / rms of chance correlation; one random shift in exp(16) = 9e6 gets there
_CORRELATED = 0.5  # periodic samples correlate with themselves at many shifts: no significance, but this
_ALIKE = 0.9  # peaks this close to the highest are told apart by distance: the nearest wins
_FLAT = 1e-6  # rms structure / rms


class AlignmentError(ValueError):
    """The estimate cannot be registered to the truth."""


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """What `align` removed from an estimate; the module's docstring has the model."""

    scale: float
    """Modulus of the estimate over that of the truth."""
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


def align(estimate, truth, weight, region, *, max_shift_px: float = 8.0):
    """Fit an estimate's gauge against the truth and remove it.

    Parameters
    ----------
    estimate, truth : (H, W) complex
        Objects on one grid. Give more than the region where there is more: a shift then brings in real data, where
        it would otherwise bring in the image mirrored at its edge. NaN is allowed outside the region.
    weight : (H, W) float
        Illumination: the weight of a pixel in every fit, as its noise variance goes with 1 / illumination [any unit].
    region : (slice, slice)
        Scored rows and columns.
    max_shift_px : float
        Largest shift along either axis that is looked for. With 0 nothing is registered: scale, phase and ramp are
        fitted in place, which also works on an estimate that cannot be registered.

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
    Search and fit compare complex fields with the ramp removed: a pure-phase sample has no amplitude to register and
    a wrapped phase is no image. Invariances: Fienup, Appl. Opt. 36, 8352 (1997); Guizar-Sicairos et al.,
    Opt. Lett. 33, 156 (2008).
    """
    region = _checked(estimate, truth, weight, region)
    if max_shift_px < 0:
        raise ValueError(f"max_shift_px is {max_shift_px:g}; wanted 0 (no registration) or more")
    reach = math.ceil(max_shift_px)
    moving = _extend(estimate, region, reach + 1 + TAPER_PX)
    target = _Target(_extend(truth, region, TAPER_PX), np.asarray(weight, np.float64)[region])
    shape = target.image.shape
    found = _ramp(_cut(moving, shape), target.weight) - _ramp(target.image, target.weight)
    ramps = (found, np.zeros(2))  # low light spoils what is found; with a known probe it is 0
    if reach:
        ramp, shift = _register(moving, target, ramps, max_shift_px)
    else:
        ramp = max(ramps, key=lambda ramp: abs(target.overlap(_place(moving, shape, ramp, np.zeros(2)))))
        ramp, shift = _fit(moving, target, ramp, np.zeros(2), max_shift_px)
    whole = np.rint(shift)
    shift = whole + 0.0 if math.hypot(*(shift - whole)) < NO_SHIFT_PX else shift  # no -0.0 in tables
    placed = _place(moving, shape, ramp, shift)
    phase, scale = np.angle(target.project(placed)), target.scale(placed)
    names = ("ramp_y_rad_per_px", "ramp_x_rad_per_px", "shift_y_px", "shift_x_px")
    numbers = dict(zip(names, map(float, (*ramp, *shift)), strict=True))
    return placed / (scale * np.exp(1j * phase)), Gauge(scale=scale, phase_rad=float(phase), **numbers)


class _Target:
    """The truth on the region, its weights, and how it changes when the gauge does."""

    def __init__(self, extended, weight):
        self.weight = weight / weight.mean()
        self.image = image = extended[TAPER_PX:-TAPER_PX, TAPER_PX:-TAPER_PX]
        spectrum = fft.fft2(_fade(extended))
        y, x = _centered(image.shape)
        slopes = [_cut(fft.ifft2(2j * np.pi * f * spectrum), image.shape) for f in _frequencies(extended.shape)]
        changes = np.stack([image, 1j * image, 1j * y * image, 1j * x * image, -slopes[0], -slopes[1]])
        self.changes = changes.reshape(6, -1)

    def overlap(self, image) -> complex:
        """Weighted inner product with the truth, Σ w truth* image."""
        return complex(np.sum(self.weight * self.image.conj() * image))

    def project(self, image) -> complex:
        """Factor c that makes c · truth the closest to the image, Σ w |image - c truth|²."""
        overlap, power = self.overlap(image), self.overlap(self.image).real
        if abs(overlap) ** 2 <= _FLAT**2 * power * np.sum(self.weight * np.abs(image) ** 2):
            raise AlignmentError("the estimate has no component along the truth: one is zero, or they are unrelated")
        return overlap / power

    def scale(self, image) -> float:
        """Factor of the truth in the image, phases compared within 3 × 3 px: slow errors of phase do not lower it."""
        near, own = (ndimage.uniform_filter(self.weight * self.image.conj() * f, 3) for f in (image, self.image))
        return float(np.abs(near).sum() / np.abs(own).sum())

    def solver(self, free: int):
        """Matrix (free, pixels) that turns a residual into the first `free` changes; undetermined ones stay 0."""
        weighted = self.changes[:free].conj()
        weighted *= self.weight.ravel()
        normal = np.real(weighted @ self.changes[:free].T)
        size = np.sqrt(np.maximum(np.diag(normal), np.finfo(float).tiny))
        inverse = np.linalg.pinv(normal / np.outer(size, size), rcond=1e-6, hermitian=True) / np.outer(size, size)
        return inverse @ weighted


def _register(moving, target, ramps, max_shift_px):
    """Whole-pixel search alternated with the fit, until the search finds the shift that has been fitted."""
    shift, reach = np.full(2, np.inf), math.ceil(max_shift_px)
    for _ in range(_ROUNDS):
        _, found, ramp = max((_peak(moving, target, ramp, reach) for ramp in ramps), key=lambda peak: peak[0])
        if np.abs(found - shift).max() <= 1:
            break
        ramp, shift = _fit(moving, target, ramp, found, max_shift_px)
        ramps = (ramp,)
    _check_significance(_place(moving, target.image.shape, ramp, shift), target)
    return ramp, shift


def _peak(moving, target, ramp, reach):
    """Highest weighted complex correlation coefficient over whole-pixel shifts, the shift, and the ramp given."""
    weight, detail = target.weight, target.image - np.average(target.image, weights=target.weight)
    if np.sum(weight * np.abs(detail) ** 2) <= _FLAT**2 * np.sum(weight * np.abs(target.image) ** 2):
        raise AlignmentError("the truth is flat in the scored region: there is nothing to register to")
    window = _place(moving, tuple(n + 2 * reach for n in target.image.shape), ramp, np.zeros(2))

    def slide(image, kernel):  # cyclic: the shifts looked at leave the kernel inside, so nothing wraps into them
        size = tuple(map(fft.next_fast_len, image.shape))
        spectrum = fft.fft2(image, size)
        spectrum *= fft.fft2(kernel, size).conj()
        return fft.ifft2(spectrum)[: 2 * reach + 1, : 2 * reach + 1]

    power = slide(np.abs(window) ** 2, weight).real
    energy = power - np.abs(slide(window, weight)) ** 2 / weight.sum()
    if np.all(energy <= _FLAT**2 * power):
        raise AlignmentError("the estimate is flat in the scored region: there is nothing to register")
    correlation = np.abs(slide(window, weight * detail)) / np.sqrt(np.maximum(energy, _FLAT**2 * power.max()))
    tops = correlation == ndimage.maximum_filter(correlation, size=3, mode="nearest")
    shifts = np.argwhere(tops & (correlation >= _ALIKE * correlation.max())) - float(reach)
    return correlation.max(), shifts[np.linalg.norm(shifts, axis=1).argmin()], ramp


def _check_significance(placed, target):
    """Raise unless the two correlate better than chance: peak over rms of their correlation at all cyclic shifts."""
    root = np.sqrt(target.weight)
    one, two = (root * (f - np.average(f, weights=target.weight)) for f in (placed, target.image))
    peak = abs(np.vdot(one, two))
    coefficient = peak / (np.linalg.norm(one) * np.linalg.norm(two))
    chance = np.linalg.norm(fft.fft2(one) * fft.fft2(two).conj()) / one.size
    if peak < _SIGNIFICANT * chance and coefficient < _CORRELATED:
        raise AlignmentError(
            f"estimate and truth have nothing in common: correlation {coefficient:.3f} at the best shift is "
            f"{peak / chance:.1f} times its rms by chance; at least {_SIGNIFICANT:g} times are wanted"
        )


def _fit(moving, target, ramp, shift, max_shift_px):
    """All six numbers together: Gauss-Newton on Σ w |placed / c - truth|², each time from the original estimate."""
    solver = target.solver(6 if max_shift_px > 0 else 4)
    edge = max(target.image.shape) / 2
    for _ in range(_STEPS):
        placed = _place(moving, target.image.shape, ramp, shift)
        step = np.real(solver @ (placed / target.project(placed) - target.image).ravel())
        move = np.clip(step[4:], -_MAX_STEP_PX, _MAX_STEP_PX) if len(step) > 4 else np.zeros(2)
        ramp, shift = ramp + step[2:4], shift + move
        if np.abs(shift).max() > max_shift_px + 0.5:
            raise AlignmentError(
                f"no shift within ±{max_shift_px:g} px fits; the best is y {shift[0]:.1f}, x {shift[1]:.1f} px: either "
                "the shift is that large, or estimate and truth have little in common"
            )
        if max(np.abs(move).max(), np.abs(step[2:4]).max() * edge) < _TOLERANCE:
            break
    return ramp, shift


def _place(field, shape, ramp, shift):
    """Middle of the field with ramp and shift removed; whole pixels are cut, the rest is a Fourier shift."""
    y, x = _centered(field.shape)
    field = field * np.exp(-1j * (ramp[0] * y + ramp[1] * x))
    whole = np.rint(shift).astype(int)
    rest = shift - whole
    if rest.any():
        f_y, f_x = _frequencies(field.shape)
        field = fft.ifft2(fft.fft2(_fade(field)) * np.exp(2j * np.pi * (rest[0] * f_y + rest[1] * f_x)))
    return _cut(field, shape, whole)


def _ramp(field, weight):
    """Weighted mean phase between neighbors along y and x [rad/px]: no unwrapping."""
    down = np.sum(np.sqrt(weight[1:] * weight[:-1]) * field[1:] * field[:-1].conj())
    right = np.sum(np.sqrt(weight[:, 1:] * weight[:, :-1]) * field[:, 1:] * field[:, :-1].conj())
    return np.angle([down, right])


def _cut(field, shape, offset=(0, 0)):
    """Middle of a field, displaced by whole pixels."""
    top, left = ((n - m) // 2 + int(d) for n, m, d in zip(field.shape, shape, offset, strict=True))
    return field[top : top + shape[0], left : left + shape[1]]


def _extend(image, region, margin):
    """Region and margin around it: real data where there are (held to the region's range), mirrored beyond."""
    spans = [(s.start - margin, s.stop + margin, n) for s, n in zip(region, image.shape, strict=True)]
    field = np.asarray(image, np.complex128)[tuple(slice(max(a, 0), min(b, n)) for a, b, n in spans)]
    field = np.where(np.isfinite(field), field, 0)
    field = np.pad(field, [(max(-a, 0), max(b - n, 0)) for a, b, n in spans], mode="symmetric")
    largest = np.abs(image[region]).max()
    return field * np.minimum(1, largest / np.maximum(np.abs(field), np.finfo(float).tiny))


def _fade(field):
    """Let the outer TAPER_PX go smoothly to the mean."""
    level = field[TAPER_PX:-TAPER_PX, TAPER_PX:-TAPER_PX].mean()
    rise = np.sin(np.pi / 2 * (np.arange(TAPER_PX) + 0.5) / TAPER_PX) ** 2
    down, across = (np.concatenate([rise, np.ones(n - 2 * TAPER_PX), rise[::-1]]) for n in field.shape)
    return level + (field - level) * down[:, None] * across


def _frequencies(shape):
    return fft.fftfreq(shape[0])[:, None], fft.fftfreq(shape[1])[None, :]


def _centered(shape):
    return (np.arange(shape[0]) - (shape[0] - 1) / 2)[:, None], (np.arange(shape[1]) - (shape[1] - 1) / 2)[None, :]


def _checked(estimate, truth, weight, region):
    """Slices with both ends given, after everything that can be wrong with the input has been looked at."""
    if np.ndim(estimate) != 2 or len({np.shape(estimate), np.shape(truth), np.shape(weight)}) > 1:
        shapes = f"{np.shape(estimate)}, {np.shape(truth)}, {np.shape(weight)}"
        raise ValueError(f"estimate, truth and weight have shapes {shapes}; wanted three times the same (H, W)")
    spans = [(s.start or 0, n if s.stop is None else s.stop, n) for s, n in zip(region, np.shape(truth), strict=True)]
    if any(not 0 <= start < stop <= n for start, stop, n in spans):
        raise ValueError(f"region {region} is empty or leaves the image of {np.shape(truth)} px")
    region = tuple(slice(start, stop) for start, stop, _ in spans)
    for name, image in {"estimate": estimate, "truth": truth, "weight": weight}.items():
        if not np.isfinite(image[region]).all():
            raise ValueError(f"the {name} is not finite everywhere in the scored region")
    if np.min(weight[region]) < 0 or not np.any(weight[region]):
        raise ValueError("weights must be at least 0 and not all 0 in the scored region")
    return region
