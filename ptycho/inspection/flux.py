"""Flux of the exposures: jumps of the counts in the order of the scan that the sample does not explain."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho.data.scan import Scan
from ptycho.inspection.findings import Finding, named
from ptycho.inspection.orientation import Orientation
from ptycho.inspection.trials import Trial, TrialData, read_trial_data, run_trials
from ptycho.reconstruction.free_probe import STEP

NEIGHBORS = 6
"""Neighbors in space that the counts of an exposure are compared with."""
MIN_JUMP, MIN_SCORE = 0.08, 6.0
"""Smallest jump of the logarithm of the counts, and of the same in standard errors, that is tried."""
MAX_JUMPS = 6
"""Most jumps that are tried, the clearest ones."""
TRIED_EXPOSURES, ITERATIONS = 40, 40
"""Exposures around a jump on which it is tried, and iterations of each trial."""
FACTORS = (0.6, 0.8, 1.25)
"""The size of a jump is refined by trials with these fractions of the first estimate."""
MARGIN = 1.05
"""Ratio of misfits without and with a jump from which on it is flux and not the sample."""
RETURNING = 0.15
"""Sum of two jumps in units of the larger, below which the second is taken to return to where the first began."""


@dataclass(frozen=True)
class Jump:
    """A jump of the flux between two exposures."""

    start: int
    """First exposure after the jump."""
    size: float
    """Change of the logarithm of the flux."""


def flux_of(jumps: Iterable[Jump], n_exposures: int) -> NDArray[np.float64]:
    """Return the flux of every exposure, (M,) with a mean of 1."""
    logarithm = np.zeros(n_exposures)
    for jump in jumps:
        logarithm[jump.start :] += jump.size
    scale = np.exp(logarithm - np.median(logarithm))
    return scale / scale.mean()


def find_jumps(photons: NDArray[np.float64], points: NDArray[np.float64], usable: NDArray[np.bool_]) -> list[Jump]:
    """Find jumps of the counts between exposures that are neighbors in space, the clearest first.

    What a sample absorbs changes little from one exposure to its neighbors; flux changes between two exposures of the
    scan's order, for all later ones. For every exposure, all pairs of neighbors of which one came before it and the
    other did not are compared; the clearest jump is removed, and so on. Edges of the sample along a row of the scan
    look the same: `confirm_jumps` tells.

    Parameters
    ----------
    photons : (M,) float64
        Counts of every exposure.
    points : (M, 2) float64
        Positions (y, x) [px].
    usable : (M,) bool
        Exposures that count.
    """
    used = np.flatnonzero(usable)
    if len(used) <= NEIGHBORS:
        return []
    logarithm = np.log(np.maximum(photons[used], 0.5))
    nearest = np.reshape(KDTree(points[used]).query(points[used], k=NEIGHBORS + 1)[1], (len(used), -1))[:, 1:]
    both = np.stack([np.repeat(np.arange(len(used)), NEIGHBORS), nearest.ravel()], axis=1)
    pairs = np.unique(np.sort(both, axis=1), axis=0)
    jumps: list[Jump] = []
    for _ in range(MAX_JUMPS):
        start, size = _clearest_jump(logarithm, pairs)
        if start is None:
            break
        logarithm[start:] -= size
        jumps.append(Jump(int(used[start]), size))
    return jumps


def _clearest_jump(logarithm: NDArray[np.float64], pairs: NDArray[np.int64]) -> tuple[int | None, float]:
    """Return the exposure before which the counts jump most clearly, and by how much; None if they do not."""
    count, difference = len(logarithm), logarithm[pairs[:, 1]] - logarithm[pairs[:, 0]]

    def across(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the pairs of which one comes before an exposure and the other does not, for every exposure."""
        steps = np.bincount(pairs[:, 0] + 1, values, count + 1) - np.bincount(pairs[:, 1] + 1, values, count + 1)
        return np.asarray(np.cumsum(steps)[:count], np.float64)

    number = np.maximum(across(np.ones(len(pairs))), 1)
    mean = across(difference) / number
    spread = np.sqrt(np.maximum(across(difference**2) / number - mean**2, 1e-4))
    score = np.where((np.abs(mean) > MIN_JUMP) & (number >= NEIGHBORS), np.abs(mean) / spread * np.sqrt(number), 0)
    start = int(score.argmax())
    return (start, float(mean[start])) if score[start] > MIN_SCORE else (None, 0.0)


def confirm_jumps(
    scan: Scan, jumps: list[Jump], usable: NDArray[np.bool_], valid: NDArray[np.bool_], orientation: Orientation
) -> list[Jump]:
    """Keep the jumps without which a trial around them predicts held-out exposures worse; refine their size.

    Parameters
    ----------
    scan : Scan
    jumps : list of Jump
        As `find_jumps` returns them.
    usable : (M,) bool
        Exposures that count.
    valid : (N, N) bool
        Pixels that count.
    orientation : Orientation
        In which the scan is tried.
    """
    kept = list(jumps)
    for jump in jumps:
        data = _around(scan, jump.start, usable, valid)
        rest = [other for other in kept if other is not jump]
        without, best = (_trial(data, flux_of(part, len(scan)), orientation) for part in (rest, kept))
        if not (without.misfit > MARGIN * best.misfit and best.beats(without, sigmas=2.0)):
            kept = rest
            continue
        resized = [Jump(jump.start, factor * jump.size) for factor in FACTORS]
        misfits = [_trial(data, flux_of([*rest, other], len(scan)), orientation).misfit for other in resized]
        size = _minimum([0.0, *(other.size for other in resized), jump.size], [without.misfit, *misfits, best.misfit])
        kept = [*rest, Jump(jump.start, size)]
    return _returning(sorted(kept, key=lambda jump: jump.start))


def _returning(jumps: list[Jump]) -> list[Jump]:
    """Let a jump that undoes the one before it, but for the error of both, undo it exactly."""
    result = list(jumps)
    for index in range(1, len(result)):
        first, second = result[index - 1 : index + 1]
        if abs(first.size + second.size) < RETURNING * max(abs(first.size), abs(second.size)):
            size = (first.size - second.size) / 2
            result[index - 1 : index + 1] = [Jump(first.start, size), Jump(second.start, -size)]
    return result


def check_flux(jumps: list[Jump], n_exposures: int, untold: Iterable[Jump] = ()) -> list[Finding]:
    """Say where the flux jumps, as `confirm_jumps` found it.

    Parameters
    ----------
    jumps : list of Jump
        Confirmed.
    n_exposures : int
        Of the scan.
    untold : iterable of Jump
        As `find_jumps` found them, where no orientation is known in which they could be confirmed.
    """
    starts = sorted(jump.start for jump in untold)
    if starts:
        text = f"the counts jump before exposures {named(starts)}: by the flux or the sample, which cannot be told"
        return [Finding("counts", "note", text, "was the flux recorded? ptycho convert … --exposure-scale FILE")]
    if not jumps:
        return [Finding("counts", "fine", "no jump of the flux")]
    scale = flux_of(jumps, n_exposures)
    low = scale < np.sqrt(scale.min() * scale.max())
    ratio = 100 * float(np.median(scale[low]) / np.median(scale[~low]))
    text = (
        f"the flux jumps before exposures {named(jump.start for jump in jumps)}: about {ratio:.0f} % in exposures "
        f"{named(np.flatnonzero(low))}"
    )
    return [Finding("counts", "error", text, "ptycho convert … --exposure-scale FILE with the proposed flux")]


def _trial(data: TrialData, scale: NDArray[np.float64], orientation: Orientation) -> Trial:
    known = data.detector.exposure_scale
    flux = scale[data.exposures] * (1 if known is None else known)
    scaled = replace(data, detector=replace(data.detector, exposure_scale=flux / flux.mean()))
    return run_trials(scaled, [orientation], ITERATIONS, STEP)[0]


def _around(scan: Scan, start: int, usable: NDArray[np.bool_], valid: NDArray[np.bool_]) -> TrialData:
    """Read the usable exposures nearest to one, every third of the inner ones held out."""
    points, among = np.stack([scan.ycoords, scan.xcoords], axis=1), np.flatnonzero(usable)
    order = among[np.linalg.norm(points[among] - points[start], axis=1).argsort(kind="stable")[:TRIED_EXPOSURES]]
    is_holdout = np.zeros(len(order), bool)
    is_holdout[1 : max(len(order) // 2, 2) : 3] = True
    return read_trial_data(scan, order, is_holdout, valid)


def _minimum(sizes: list[float], misfits: list[float]) -> float:
    """Minimum of the parabola through the lowest of some misfits and its neighbors."""
    order = np.argsort(sizes)
    x, y = np.array(sizes)[order], np.array(misfits)[order]
    middle = int(np.clip(y.argmin(), 1, len(x) - 2))
    curvature, slope, _ = np.polyfit(x[middle - 1 : middle + 2] - x[middle], y[middle - 1 : middle + 2], 2)
    if curvature <= 0:
        return float(x[y.argmin()])
    return float(np.clip(x[middle] - slope / (2 * curvature), x[middle - 1], x[middle + 1]))
