"""Are the positions in the right scale? Trials with all distances a few percent smaller and larger.

A distance, wavelength or detector pixel that is wrong by a few percent gives a wrong pixel of the object, and so wrong
positions in units of it. The steps then are not those by which the patterns show the object to move: the wider the beam
and the finer the object, the clearer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptycho.data.scan import Scan
from ptycho.inspection import orientation_search
from ptycho.inspection.findings import Finding
from ptycho.inspection.orientation import Orientation
from ptycho.inspection.orientation_search import OrientationSearch
from ptycho.inspection.trials import Trial, TrialData, run_trials
from ptycho.physics.probes import add_modes
from ptycho.reconstruction.free_probe import STEP

CHANGE = 0.05
"""Relative change of all distances from one trial to the next: the smallest error that is always tried."""
MARGIN, SIGMAS = 1.02, 4.0
"""Ratio of misfits from which on another scale is better, and by how many standard errors it must be."""
EXCESS = 0.9
"""The better scale must leave less than this of what the misfit is above 1: the rest has another cause."""
CLOSE = 2.0
"""Largest misfit of the better scale: above, other errors, such as a rough probe, decide which scale fits them best."""
FARTHEST = 4
"""Most changes to one side: errors up to a fifth are measured."""
CONFIRMING_ITERATIONS, CONFIRMING_MODES = 60, 3
"""Iterations and probe modes of the trials that confirm another scale: neither by how fast it mends a rough probe, nor
by how well it takes up partial coherence, must a scale be preferred."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """In which scale the positions predict exposures best that were not fitted to."""

    factor: float
    """All positions times this do; 1: no other factor is clearly better."""
    margin: float
    """Misfit of the positions as they are, over that of the best other scale."""
    is_told: bool
    """Whether the scale is better than its neighbors beyond scatter."""


def search_scale(
    scan: Scan, usable: NDArray[np.bool_], valid: NDArray[np.bool_], search: OrientationSearch
) -> Scale | None:
    """Try other scales of the positions; None if it is open which way round the scan is, or whether it holds counts.

    Parameters
    ----------
    scan : Scan
    usable : (M,) bool
        Exposures that may be tried.
    valid : (N, N) bool
        Pixels that count.
    search : OrientationSearch
        Of the same exposures and pixels: its trial in the best orientation is that of the scale as it is.
    """
    if not search.is_decided or not search.holds_counts:
        return None
    own = search.free_trial(search.best)
    return try_scales(orientation_search.read_long_trial(scan, usable, valid), own)


def try_scales(data: TrialData, own: Trial) -> Scale:
    """Find the scale in which held-out exposures are predicted best.

    Parameters
    ----------
    data : TrialData
        Exposures as they are in the scan.
    own : Trial
        Trial with a free probe of the positions as they are.
    """
    trials = {0: own} | {change: _trial(data, own.orientation, change) for change in (-1, 1)}
    sign = min((-1, 1), key=lambda change: trials[change].misfit)
    as_it_is = Scale(
        factor=1.0,
        margin=own.misfit / trials[sign].misfit,
        is_told=all(own.beats(trials[change]) for change in (-1, 1)),
    )
    if not _is_better(trials[sign], own):
        return as_it_is
    last = sign
    while trials[last].misfit < trials[last - sign].misfit and abs(last) < FARTHEST:
        last += sign
        trials[last] = _trial(data, own.orientation, last)
    best = _best(trials)
    if trials[best].misfit > CLOSE or not _is_confirmed(data, own.orientation, best):
        return as_it_is
    return Scale(factor=1 + CHANGE * _minimum(trials), margin=own.misfit / trials[best].misfit, is_told=True)


def _trial(data: TrialData, orientation: Orientation, change: int, iterations: int | None = None) -> Trial:
    """Reconstruct with all positions times 1 + `CHANGE` · change."""
    iterations = orientation_search.LONG_ITERATIONS if iterations is None else iterations
    return run_trials(data.scaled(1 + CHANGE * change), [orientation], iterations, STEP)[0]


def _is_confirmed(data: TrialData, orientation: Orientation, change: int) -> bool:
    """Whether a scale is better than that of the scan also if the probe has more modes, and more iterations to mend."""
    modes = max(len(data.probe), CONFIRMING_MODES)
    data = data if modes == len(data.probe) else replace(data, probe=add_modes(data.probe, modes))
    own, other = (_trial(data, orientation, each, CONFIRMING_ITERATIONS) for each in (0, change))
    return _is_better(other, own)


def _is_better(first: Trial, second: Trial) -> bool:
    """Whether a scale is better by margin and beyond scatter, and leaves little of what the other does not explain."""
    improves = second.misfit > MARGIN * first.misfit and first.misfit - 1 < EXCESS * (second.misfit - 1)
    return improves and first.beats(second, SIGMAS)


def _best(trials: Mapping[int, Trial]) -> int:
    return min(trials, key=lambda change: trials[change].misfit)


def _minimum(trials: Mapping[int, Trial]) -> float:
    """Minimum of the parabola through the lowest of some misfits and its neighbors, in changes."""
    best = _best(trials)
    if not {best - 1, best + 1} <= set(trials):
        return float(best)
    low, middle, high = (np.log(trials[best + step].misfit) for step in (-1, 0, 1))
    return float(best + 0.5 * (low - high) / (low - 2 * middle + high))


def check_scale(scale: Scale | None) -> list[Finding]:
    """Say whether the positions are in the right scale, and what mends it; None if nothing was tried."""
    if scale is None:
        return []
    change = f"{100 * CHANGE:.0f} %"
    if scale.factor != 1:
        text = f"all positions times {scale.factor:.2f} predict exposures better, {scale.margin:.3g} times"
        remedy = "are the lengths right? ptycho convert … --distance, --energy, --detector-pixel"
        return [Finding("positions", "warning", text, remedy)]
    if scale.is_told:
        text = f"steps {change} smaller or larger predict exposures worse, {1 / scale.margin:.3g} times"
        return [Finding("positions", "fine", text)]
    return [Finding("positions", "note", f"whether all steps are {change} too small or too large cannot be told")]
