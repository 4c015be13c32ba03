"""Is the scan the right way round? Every orientation of frames and positions, from many quick trials to a few longer.

Quick trials have few exposures and iterations, but whole frames: added pixels would lose the contrast of the
interference, unless the beam is far smaller than the probe's window.

The probe as given decides between all 64 orientations if it is good and has no symmetry. A free probe decides between
the eight turns of frames against positions only, but needs no good guess: turning frames, positions and probe together
is the same scan.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptycho.data.scan import Scan
from ptycho.inspection.findings import Finding
from ptycho.inspection.orientation import Orientation, all_orientations, fewest_steps
from ptycho.inspection.probe import PatternMatch
from ptycho.inspection.quantity import Quantity, check_quantity, try_quantities
from ptycho.inspection.trials import Trial, TrialData, choose_exposures, read_trial_data, run_trials
from ptycho.reconstruction.free_probe import STEP

QUICK_ITERATIONS, LONG_ITERATIONS = 10, 40
"""Iterations of the trials in all orientations, and of those in a few."""
QUICK_EXPOSURES, LONG_EXPOSURES = (12, 32), (24, 48)
"""Smallest and largest number of exposures: fewer for large patterns, so that all sizes take about as long."""
MIN_EXPOSURES = 9
"""Fewest exposures in which orientations can be told apart."""
MARGIN = 1.1
"""Ratio of misfits from which on one orientation is better than another, if their scatter does not explain it."""
ROUGH = 3.0
"""Misfit of the best trial above which probe or positions are rough."""
TOO_GOOD = 0.7
"""Misfit of the best trial below which counts are no photons: those scatter more."""


@dataclass(frozen=True, kw_only=True)
class OrientationSearch:
    """Trials in all orientations; in every list the best one comes first."""

    match: PatternMatch
    """Whether the zero frequency is in the corner: all trials then have it moved."""
    quick: list[Trial]
    """With the probe as it is, all 64 orientations, few exposures and iterations."""
    free: list[Trial]
    """With a free probe, one for each of the eight turns of frames against positions."""
    given: list[Trial]
    """With the probe as it is, the orientations with the best turn."""
    quantity: Quantity | None = None
    """What the frames hold, as trials of it show; None if nothing speaks against counts."""

    @property
    def holds_counts(self) -> bool:
        """Whether the scan's counts are counts."""
        return self.quantity is None or self.quantity.power == 1

    @property
    def is_sure(self) -> bool:
        """Whether one turn is better than all others, and the counts are counts: other trials may build on it."""
        return self.is_decided and self.holds_counts

    @property
    def are_photons(self) -> bool:
        """Whether the best trial leaves what photons may leave; if not, misfits tell by their ratio alone."""
        return TOO_GOOD <= self.free[0].misfit <= ROUGH

    @property
    def as_is(self) -> Orientation:
        """The orientation of the scan, its zero frequency apart."""
        return Orientation(corner=self.match.is_corner)

    @property
    def is_decided(self) -> bool:
        """Whether one turn is better than all others."""
        best, *others = self.free
        return bool(others) and all(clearly_better(best, other) for other in others)

    @property
    def fitting(self) -> list[Orientation]:
        """Orientations with the best turn that the given probe fits as well as any; those with the fewest steps first.

        A probe with a symmetry fits several.
        """
        best = self.given[0]
        tied = [trial.orientation for trial in self.given if trial is best or not clearly_better(best, trial)]
        return sorted(tied, key=fewest_steps)

    @property
    def best(self) -> Orientation:
        """The best orientation: that of the scan, unless another is clearly better."""
        best, own = self.free[0], self.free_trial(self.as_is)
        return self.fitting[0] if own is not best and clearly_better(best, own) else self.as_is

    def free_trial(self, orientation: Orientation) -> Trial:
        """Return the trial with a free probe of an orientation's turn."""
        return next(trial for trial in self.free if trial.orientation.turn == orientation.turn)


def clearly_better(first: Trial, second: Trial) -> bool:
    """Whether a trial predicts held-out exposures better than another, by margin and beyond scatter."""
    return second.misfit > MARGIN * first.misfit and first.beats(second)


def search_orientation(
    scan: Scan,
    usable: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    match: PatternMatch,
    *,
    quantity_is_open: bool = False,
) -> OrientationSearch | None:
    """Try all orientations; None if there are too few exposures to tell.

    If it is open whether the frames hold counts, or if no orientation fits well and clearly better than all others,
    amplitudes taken for counts and counts taken for amplitudes are tried, too.

    Parameters
    ----------
    scan : Scan
    usable : (M,) bool
        Exposures that may be tried.
    valid : (N, N) bool
        Pixels that count.
    match : PatternMatch
        Where the mean pattern says that the zero frequency is.
    quantity_is_open : bool
        As `ptycho.inspection.quantity.is_open` returns it.
    """
    if usable.sum() < MIN_EXPOSURES:
        return None
    few, more = _read(scan, usable, valid, QUICK_EXPOSURES), read_long_trial(scan, usable, valid)
    search = None if quantity_is_open else _search(few, more, match)
    if search is not None and search.is_decided and search.free[0].misfit <= ROUGH:
        return search
    turns = {trial.turn: trial for trial in reversed(all_orientations(match.is_corner))}
    quantity = try_quantities(more, turns.values())
    if search is None or quantity.power != 1:
        search = _search(replace(few, power=quantity.power), replace(more, power=quantity.power), match)
    return replace(search, quantity=quantity)


def read_long_trial(scan: Scan, usable: NDArray[np.bool_], valid: NDArray[np.bool_]) -> TrialData:
    """Read the exposures of the longer trials; parameters as `search_orientation`."""
    return _read(scan, usable, valid, LONG_EXPOSURES)


def _read(scan: Scan, usable: NDArray[np.bool_], valid: NDArray[np.bool_], limits: tuple[int, int]) -> TrialData:
    count = int(np.clip(limits[0] * 256 / scan.n_pixels, *limits))
    return read_trial_data(scan, *choose_exposures(scan, usable, count), valid)


def _search(few: TrialData, more: TrialData, match: PatternMatch) -> OrientationSearch:
    """Try all orientations on a few exposures, and the best of each turn on more."""
    quick = run_trials(few, all_orientations(match.is_corner), QUICK_ITERATIONS)
    starts: dict[object, Orientation] = {Orientation().turn: Orientation(corner=match.is_corner)}
    for trial in quick:
        starts.setdefault(trial.orientation.turn, trial.orientation)
    free = run_trials(more, starts.values(), LONG_ITERATIONS, STEP)
    best_turn = free[0].orientation.turn
    members = [trial.orientation for trial in quick if trial.orientation.turn == best_turn]
    return OrientationSearch(match=match, quick=quick, free=free, given=run_trials(more, members, LONG_ITERATIONS))


def check_orientation(search: OrientationSearch | None, *, unit_is_open: bool = False) -> list[Finding]:
    """Say whether the scan is the right way round and holds counts, and what mends it.

    Parameters
    ----------
    search : OrientationSearch or None
        As `search_orientation` returns it.
    unit_is_open : bool
        The counts are in another unit than photons: misfits then tell turns apart by their ratio alone, and that is
        said.
    """
    if search is None:
        text = f"fewer than {MIN_EXPOSURES} usable exposures: orientation cannot be told"
        return [Finding("orientation", "warning", text)]
    turned, misfit = _turn_finding(search), search.free[0].misfit
    if (unit_is_open or not search.are_photons) and (search.is_decided or turned.level == "error"):
        turned = replace(
            turned, text=f"{turned.text}, taking every count for a photon: of the misfits, only the ratio tells"
        )
    findings = [*check_quantity(search.quantity), turned, *_corner(search.match)]
    if misfit > ROUGH and search.holds_counts:
        text = f"even the best of the quick trials leaves a misfit of {misfit:.3g} (1 is perfect)"
        remedy = "probe or positions are rough, counts are no photons, or the detector is not what the scan says"
        findings.append(Finding("orientation", "warning", text, remedy))
    if misfit < TOO_GOOD and search.holds_counts:
        text = f"exposures are predicted better than photons scatter: a misfit of {misfit:.3g} where 1 is perfect"
        findings.append(Finding("counts", "warning", text, "ptycho convert … --photons-per-unit G"))
    return findings


def _corner(match: PatternMatch) -> list[Finding]:
    numbers = f"the mean pattern correlates with the probe's by {match.as_is:.2f}, moved by {match.moved:.2f}"
    if match.is_corner:
        remedy = "ptycho convert … --zero-frequency corner"
        return [Finding("orientation", "error", f"the zero frequency is in the corner: {numbers}", remedy)]
    if not match.is_clear:
        text = f"the probe does not tell whether the zero frequency is in the corner: {numbers}"
        return [Finding("orientation", "note", text)]
    return []


def _turn_finding(search: OrientationSearch) -> Finding:
    best, own = search.free[0], search.free_trial(search.as_is)
    if own is not best and clearly_better(best, own):
        options = search.fitting[0].options
        text = f"not the right way round: misfit {own.misfit:.3g} as it is, {best.misfit:.3g} with {options}"
        return Finding("orientation", "error", text, f"ptycho convert … {options}{_others(search)}")
    if not search.is_decided:
        tied = [trial for trial in search.free if not clearly_better(best, trial)]
        is_alike = tied[-1].misfit <= MARGIN * best.misfit
        how = "fit alike" if is_alike else "differ by less than exposures scatter"
        text = f"{len(tied)} of 8 turns {how} (misfit {best.misfit:.3g} to {tied[-1].misfit:.3g})"
        remedy = "the sample may be too flat or the counts too few"
        remedy += "" if is_alike else ", or flux or positions of some exposures wrong"
        return Finding("orientation", "warning", f"the orientation cannot be told: {text}", remedy)
    margin = f"misfit {own.misfit:.3g}, the next turn {search.free[1].misfit:.3g}"
    if search.as_is not in search.fitting:
        options = search.fitting[0].options
        given = {trial.orientation: trial.misfit for trial in search.given}
        text = (
            f"frames and positions agree ({margin}), but the given probe fits them only when they are turned: misfit "
            f"{given[search.as_is]:.3g} as it is, {given[search.fitting[0]]:.3g} with {options}"
        )
        return Finding("orientation", "warning", text, f"ptycho convert … {options}, or turn the probe")
    return Finding("orientation", "fine", f"the right way round: {margin}")


def _others(search: OrientationSearch) -> str:
    """Name what mends the scan as well, and say so if only a free probe makes it so."""
    others = [orientation.options for orientation in search.fitting[1:]]
    if others:
        return f"; as well: {', or '.join(others[:3])}{' …' if len(others) > 3 else ''} (the given probe does not tell)"
    return ""
