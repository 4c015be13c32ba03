"""Are they counts? Trials of frames that may be amplitudes taken for counts, or counts taken for amplitudes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ptycho.data.scan import Scan
from ptycho.inspection.findings import Finding
from ptycho.inspection.orientation import Orientation
from ptycho.inspection.statistics import FrameStatistics
from ptycho.inspection.trials import Trial, TrialData, run_trials
from ptycho.reconstruction.free_probe import STEP

AMPLITUDES, COUNTS = 2.0, 0.5
"""Photons as a power of the scan's counts: these are amplitudes that were not squared, or counts that were."""
ITERATIONS = 15
"""Iterations of the trials."""
MARGIN = 1.4
"""Ratio of deviances from which on frames hold another quantity. A wrong one costs a factor of 2 or more."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What the frames of a scan hold."""

    power: float
    """Photons are proportional to the scan's counts to this power; 1: they are counts."""
    margin: float
    """Held-out deviance of the scan's counts as they are, over that with the best other power."""


def is_open(scan: Scan, statistics: FrameStatistics) -> bool:
    """Whether the values do not show what they are: not whole, made whole by a factor, or squares of whole numbers."""
    scaled = statistics.divisor is not None or "photons_per_unit" in scan.metadata
    return scaled or statistics.amplitudes_are_whole or bool(statistics.not_whole.any())


def try_quantities(data: TrialData, orientations: Iterable[Orientation]) -> Quantity:
    """Find what the frames hold: the quantity that lets the counts of held-out exposures be predicted best.

    Whatever is fitted, what is compared are predictions of the same counts. Another quantity than counts is taken if
    the deviance is lower by `MARGIN` and beyond scatter.

    Parameters
    ----------
    data : TrialData
        Exposures as they are in the scan.
    orientations : iterable of Orientation
        One for each turn of frames against positions; the probe is free.
    """
    turns = list(orientations)
    best = {
        power: min(run_trials(replace(data, power=power), turns, ITERATIONS, STEP), key=_deviance)
        for power in (1.0, AMPLITUDES, COUNTS)
    }
    own = best.pop(1.0)
    power = min(best, key=lambda power: _deviance(best[power]))
    margin = _deviance(own) / max(_deviance(best[power]), 1e-300)
    is_other = margin > MARGIN and best[power].beats(own)
    return Quantity(power=power if is_other else 1.0, margin=margin)


def _deviance(trial: Trial) -> float:
    return float(trial.held.deviance.sum()) if trial.is_finite else float("inf")


def check_quantity(quantity: Quantity | None) -> list[Finding]:
    """Say if frames hold something else than counts, and what mends it; None if nothing was tried."""
    if quantity is None or quantity.power == 1:
        return []
    text, remedy = {
        AMPLITUDES: (
            "amplitudes were taken for counts",
            "convert the file that this scan was made of again, with --quantity amplitude",
        ),
        COUNTS: ("counts were taken for amplitudes", "ptycho convert … --quantity counts"),
    }[quantity.power]
    text = f"{text}: so they are predicted {quantity.margin:.2g} times as well (deviance of held-out exposures)"
    return [Finding("counts", "error", text, remedy)]
