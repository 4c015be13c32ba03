"""Line search of Moré and Thuente (ACM Trans. Math. Softw. 20, 286, 1994), which SciPy's L-BFGS-B uses as well.

It keeps an interval that holds a step with sufficient decrease and small slope (the strong Wolfe conditions), and
tries the minimum of a cubic or of a parabola through its ends. With the same constants as SciPy's it takes the same
steps, so that a GPU's reconstruction is that of the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import copysign, sqrt
from typing import TypeVar

SUFFICIENT_DECREASE, CURVATURE = 1.0e-3, 0.9
"""Fraction of the first slope's decrease that a step must reach, and fraction of that slope that may be left."""
WIDTH_TOLERANCE = 0.1
"""The search ends when the interval is narrower than this, in units of its upper end."""
EXPANSION = 1.1, 4.0
"""Smallest and largest growth of a step beyond the best one, in units of the last growth."""
SHRINKAGE = 0.66
"""The interval is halved where two trials have left more than this of it; no trial goes further beyond the best one."""
MAX_STEP = 1.0e10
MAX_TRIALS = 20
"""Largest number of trials."""


@dataclass(frozen=True)
class Sample:
    """Value and slope at a step; those of a trial may carry more."""

    step: float
    value: float
    slope: float


S = TypeVar("S", bound=Sample)


def search_line(trial: Callable[[float], S], start: S, step: float) -> S | None:
    """Return a step that fulfils the strong Wolfe conditions, as far as it is found; None after `MAX_TRIALS`.

    Parameters
    ----------
    trial : callable
        Takes a step, returns its sample.
    start : Sample
        At step 0; the slope is negative.
    step : float
        First trial.
    """
    best: Sample = start
    other: Sample = start
    required, bracketed, decreasing = SUFFICIENT_DECREASE * start.slope, False, True
    width, last_width = MAX_STEP, 2 * MAX_STEP
    low, high = 0.0, step + EXPANSION[1] * step
    for _ in range(MAX_TRIALS):
        point = trial(step)
        enough = start.value + step * required
        decreasing = decreasing and not (point.value <= enough and point.slope >= 0)
        stuck = bracketed and (not low < step < high or high - low <= WIDTH_TOLERANCE * high)
        if stuck or (point.value <= enough and abs(point.slope) <= -CURVATURE * start.slope):
            return point
        # Until a trial has decreased enough and rises, the search is for the function above the line of decrease.
        tilt = required if decreasing and enough < point.value <= best.value else 0.0
        tilted = [_tilted(sample, -tilt) for sample in (best, other, point)]
        step, bracketed = _next_step(*tilted, bracketed=bracketed, bounds=(low, high))
        best, other = (_tilted(sample, tilt) for sample in _updated(*tilted))
        if bracketed:
            if abs(other.step - best.step) >= SHRINKAGE * last_width:
                step = best.step + (other.step - best.step) / 2
            width, last_width = abs(other.step - best.step), width
            low, high = sorted((best.step, other.step))
            if not low < step < high or high - low <= WIDTH_TOLERANCE * high:
                step = best.step
        else:
            low, high = (step + factor * (step - best.step) for factor in EXPANSION)
        step = min(max(step, 0.0), MAX_STEP)
    return None


def _tilted(sample: Sample, tilt: float) -> Sample:
    """Add a line of some slope to the function."""
    return Sample(sample.step, sample.value + tilt * sample.step, sample.slope + tilt)


def _updated(best: Sample, other: Sample, point: Sample) -> tuple[Sample, Sample]:
    """Return the best sample, and the other end of the interval."""
    if point.value > best.value:
        return best, point
    return point, best if point.slope * best.slope < 0 else other


def _next_step(
    best: Sample, other: Sample, point: Sample, *, bracketed: bool, bounds: tuple[float, float]
) -> tuple[float, bool]:
    """Return the next trial, and whether a minimum is known to lie in the interval."""
    beyond = bounds[1] if point.step > best.step else bounds[0]
    if point.value > best.value:
        cubic, parabola = _cubic(best, point), _parabola(best, point)
        nearer = abs(cubic - best.step) < abs(parabola - best.step)
        return cubic if nearer else cubic + (parabola - cubic) / 2, True
    if point.slope * best.slope < 0:
        cubic, secant = _cubic(point, best), _secant(point, best)
        return max(cubic, secant, key=lambda step: abs(step - point.step)), True
    if abs(point.slope) < abs(best.slope):
        cubic, secant = _cubic(point, best, beyond), _secant(point, best)
        farthest = min if bracketed else max
        step = farthest(secant, cubic, key=lambda step: abs(step - point.step))
        if bracketed:
            limit = point.step + SHRINKAGE * (other.step - point.step)
            return (min if point.step > best.step else max)(limit, step), True
        return min(max(step, bounds[0]), bounds[1]), False
    return (_cubic(point, other), True) if bracketed else (beyond, False)


def _cubic(at: Sample, end: Sample, beyond: float | None = None) -> float:
    """Return the minimum of the cubic through two samples; given `beyond`, that where it lies on the other side."""
    width = end.step - at.step
    theta = 3 * (at.value - end.value) / width + at.slope + end.slope
    scale = max(abs(theta), abs(at.slope), abs(end.slope)) or 1.0
    square = (theta / scale) ** 2 - (at.slope / scale) * (end.slope / scale)
    gamma = copysign(scale * sqrt(max(square, 0.0)), width)
    denominator = gamma - at.slope + gamma + end.slope
    ratio = (gamma - at.slope + theta) / denominator if denominator else 0.5
    if beyond is not None and not (ratio < 0 and gamma):
        return beyond
    return at.step + ratio * width


def _parabola(at: Sample, end: Sample) -> float:
    """Return the minimum of the parabola through two values and the first slope."""
    width = end.step - at.step
    return at.step + at.slope / ((at.value - end.value) / width + at.slope) / 2 * width


def _secant(at: Sample, end: Sample) -> float:
    """Return where the line through two slopes is zero."""
    return at.step + at.slope / (at.slope - end.slope) * (end.step - at.step)
