"""Remove what a reconstruction cannot know — scale, phase, phase ramp, shift — the same way for every method.

The model, with r₀ the centre of the scored region (pixel (n - 1)/2 of its rows and columns):

    estimate(r) ≈ scale · exp(i (phase + ramp · (r - r₀))) · truth(r - shift)

`align` fits the six numbers and undoes them. It starts from a ramp found in each image by itself (which no shift can
disturb), alternates a bounded search over whole pixels with deramping, and ends with a joint least-squares fit of all
six. The truth is what the estimate is regressed on: it is free of noise, so noise in the estimate biases nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, signal

NO_SHIFT_PX = 1e-3
"""A shift below this is left alone: moving an image by ε px changes its finest detail (π rad/px) by at most π·ε = 0.3 %
and the rest by less, which is under the noise of any reconstruction scored here, so interpolating has nothing to give."""

TAPER_PX = 16
"""Margin over which the image fades to its mean before its Fourier transform is taken, so that edges do not ring."""

_MAX_STEP_PX = 0.5
_TOLERANCE = 1e-5  # of a fitting step [px, and rad at the edge of the region]
_SIGNIFICANT = 4.0  # peak over the rms of chance correlation: reached by chance at one shift in exp(16) = 9e6
_CORRELATED = 0.5
_FLAT = 1e-6  # structure over mean level, rms


class AlignmentError(ValueError):
    """The estimate cannot be registered to the truth."""


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """What `align` removed from an estimate (see the module's docstring for the model)."""

    scale: float
    """Modulus of the estimate over that of the truth."""
    phase_rad: float
    """Global phase at the centre of the region, in (-π, π]."""
    ramp_y_rad_per_px: float
    """Phase gained per row."""
    ramp_x_rad_per_px: float
    """Phase gained per column."""
    shift_y_px: float
    """Displacement of the estimate's content towards larger row; 0 if it was too small to be worth interpolating."""
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
    """Fit an estimate's gauge to the truth and remove it.

    Parameters
    ----------
    estimate, truth : (H, W) complex
        Objects on one grid. Give more than the region where there is more: shifting then brings in real data, where
        it would otherwise bring in the image mirrored at the edge. Outside the region NaN is allowed.
    weight : (H, W) float
        Illumination, the weight of a pixel in every fit [any unit].
    region : (slice, slice)
        Scored rows and columns.
    max_shift_px : float
        No shift beyond this, along either axis, is looked for. With 0 nothing is registered: scale, phase and ramp
        are fitted in place, which also works where registration raises.

    Returns
    -------
    aligned : (h, w) complex128
        The region of the estimate with the gauge removed; interpolated at most once, by the Fourier shift theorem.
    gauge : Gauge
        What was removed.

    Raises
    ------
    AlignmentError
        If an image is flat, if the two have nothing in common, or if the best shift lies beyond `max_shift_px`.
    ValueError
        If shapes differ, the region is empty or leaves the image, or values inside it are not finite.

    Notes
    -----
    Search and fit compare complex fields: a pure-phase sample has no amplitude to register, and a wrapped phase is
    no image. Joint fit: Gauss-Newton on Σ w |A/c - T|², Guizar-Sicairos and Fienup, Opt. Express 16, 7264 (2008), sec. 2.
    """
    estimate, truth, weight, region = _checked(estimate, truth, weight, region)
    reach = math.ceil(max_shift_px)
    moving = _Moving(_extend(estimate, region, reach + TAPER_PX))
    target = _Target(_extend(truth, region, TAPER_PX), weight[region])
    ramp = _ramp(moving.inner(), target.weight) - _ramp(target.image, target.weight)
    shift = np.zeros(2)
    if reach:
        ramp, shift = _search(moving, target, ramp, reach)
    ramp, shift = _fit(moving, target, ramp, shift, bound_px=max_shift_px)
    if math.hypot(*shift) < NO_SHIFT_PX:
        shift = np.zeros(2)
    placed = moving.undo(ramp, shift)
    factor = target.project(placed)
    gauge = Gauge(
        scale=float(abs(factor)),
        phase_rad=float(np.angle(factor)),
        ramp_y_rad_per_px=float(ramp[0]),
        ramp_x_rad_per_px=float(ramp[1]),
        shift_y_px=float(shift[0]),
        shift_x_px=float(shift[1]),
    )
    return placed / factor, gauge


class _Moving:
    """The estimate on the region and a margin around it."""

    def __init__(self, field):
        self.field = field

    def inner(self, margin: int = 0):
        """The region and `margin` pixels around it."""
        
    def undo(self, ramp, shift):
        """The region with ramp and shift removed."""
