"""The price of resolution: the dose at which a method's resolution reaches a fraction of Nyquist.

Resolution is the frequency at which the Fourier ring correlation of the *phase* with the truth falls to 0.5. Within a
study's doses it is interpolated linearly in the logarithm of the dose; nothing is extrapolated.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ptycho.data.tables import read_table
from ptycho.scoring.metric_tables import CONDITION, FLUENCE, check_unique, repeats
from ptycho.workflow.files import ContractError, StrPath

RESOLUTION = "frc50_phase"
"""Metric that is the resolution [Nyquist]."""

TARGETS = (0.25, 0.5, 0.75)
"""Resolutions that a study's table gives the price of [Nyquist]."""

REACHED, PARTLY, AT_LOWEST, NOT_REACHED, NO_VALUE = "reached", "partly reached", "at lowest dose", "not reached", "none"
"""Values of the column `status`, see `price_table`."""

COLUMNS = (
    "split",
    "view",
    "method",
    "resolution",
    "status",
    "dose_photons",
    FLUENCE,
    "upper_limit",
    "sd_factor",
    "n_reached",
    "n",
)
"""Columns of a table of prices, see `price_table`."""


class Crossing(NamedTuple):
    """Where a curve of resolution against dose first reaches a target."""

    log_dose: float
    """Log10 of the dose; inf if no dose has the resolution, NaN if there is no curve."""
    at_lowest: bool = False
    """Whether the lowest dose has it already: the dose is an upper limit."""


def first_crossing(doses: ArrayLike, resolutions: ArrayLike, target: float) -> Crossing:
    """Find where a resolution is first reached, by interpolation in the logarithm of the dose.

    Parameters
    ----------
    doses : (n,) float
        Ascending [photon].
    resolutions : (n,) float
        Resolution at each dose [Nyquist]; doses without one, NaN, are left out.
    target : float
        Wanted resolution [Nyquist].
    """
    values = np.asarray(resolutions, np.float64)
    known = np.isfinite(values)
    log_doses, values = np.log10(np.asarray(doses, np.float64)[known]), values[known]
    if not values.size:
        return Crossing(np.nan)
    enough = np.flatnonzero(values >= target)
    if not enough.size:
        return Crossing(np.inf)
    if (after := int(enough[0])) == 0:
        return Crossing(float(log_doses[0]), at_lowest=True)
    pair = slice(after - 1, after + 1)
    return Crossing(float(np.interp(target, values[pair], log_doses[pair])))


def price_table(
    metrics: pd.DataFrame, fluence: pd.DataFrame, targets: Iterable[float] = TARGETS, name: StrPath = "metrics"
) -> pd.DataFrame:
    """Find the dose at which every method reaches a resolution, in every view.

    Parameters
    ----------
    metrics : DataFrame
        Columns dose, view, split, method, object and flaw (where there are several), seed, metric, value. Rows without
        a flaw, such as those of the photon limit, are in the table of every flaw.
    fluence : DataFrame
        Columns dose, view, split, fluence_photons_per_px.
    targets : iterable of float
        Resolutions [Nyquist].
    name : str or path
        The table of metrics, in messages.

    Returns
    -------
    DataFrame
        One row per flaw (where there are some), split, view, method and target, in the order of `metrics`: these, and

        - status: `REACHED` by all repetitions, `PARTLY` by some, `NOT_REACHED` by none, `AT_LOWEST` if all have it at
          the lowest dose already, `NO_VALUE` if no repetition has a resolution;
        - dose_photons: geometric mean of the dose per exposure over the repetitions that reach it, with the lowest dose
          for those that have it there already; NaN if none does;
        - fluence_photons_per_px: the same in photons per object pixel;
        - upper_limit: whether any repetition has it at the lowest dose already, so that dose and fluence are upper
          limits;
        - sd_factor: the dose's standard deviation as a factor, 10 to the power of that of its log10; NaN for fewer than
          two repetitions, and for an upper limit;
        - n_reached, n: repetitions that reach it, and all that have a resolution.

    Raises
    ------
    ValueError
        If a target is outside (0, 1].
    ptycho.workflow.files.ContractError
        If the table has no resolution.
    """
    if "flaw" in metrics:
        tables = [
            price_table(_of_flaw_or_all(metrics, flaw), fluence, targets, name).assign(flaw=flaw)
            for flaw in metrics["flaw"].dropna().unique()
        ]
        return pd.concat(tables, ignore_index=True)[["flaw", *COLUMNS]]
    targets, rows = list(targets), metrics[metrics["metric"] == RESOLUTION]
    if wrong := [target for target in targets if not 0 < target <= 1]:
        raise ValueError(f"a resolution of {wrong[0]:g}; wanted a fraction of Nyquist in (0, 1]")
    if rows.empty:
        raise ContractError(f"{name}: no metric '{RESOLUTION}'; the table has {sorted(metrics['metric'].unique())}")
    per_photon = (fluence[FLUENCE] / fluence["dose"]).groupby([fluence["split"], fluence["view"]]).mean()
    table = []
    for key, of_method in rows.groupby(["split", "view", "method"], sort=False):
        split, view, method = (str(name) for name in key)
        curves = of_method.pivot_table(index=repeats(metrics), columns="dose", values="value", dropna=False)
        for target in targets:
            price = _price(curves, target)
            photons = price["dose_photons"] * per_photon.get((split, view), np.nan)
            row = {"split": split, "view": view, "method": method, "resolution": target, **price, FLUENCE: photons}
            table.append(row)
    return pd.DataFrame(table)[list(COLUMNS)]


def _of_flaw_or_all(metrics: pd.DataFrame, flaw: str) -> pd.DataFrame:
    return metrics[(metrics["flaw"] == flaw) | metrics["flaw"].isna()].drop(columns="flaw")


def read_prices(path: StrPath, fluence: StrPath) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the prices of a study, and the fluence of its conditions.

    Parameters
    ----------
    path : path
        CSV with the columns of `price_table`.
    fluence : path
        CSV with the columns of `ptycho.reporting.summary.fluence_table`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If one is no such table, a row is there twice, a dose that is reached is missing, or a view of a split has no
        fluence.
    """
    prices, fluences = read_table(path, *COLUMNS), read_table(fluence, *CONDITION, FLUENCE)
    flaw = [name for name in ("flaw",) if name in prices]
    check_unique(prices, [*flaw, "split", "view", "method", "resolution"], str(path))
    unsaid = prices["status"].isin((REACHED, PARTLY, AT_LOWEST)) & prices[["dose_photons", FLUENCE]].isna().any(axis=1)
    if unsaid.any():
        line, status = int(np.argmax(unsaid)) + 2, prices["status"][unsaid].iloc[0]
        raise ContractError(f"{path}, line {line}: status is '{status}' without dose and fluence; wanted both")
    known = fluences.dropna(subset=[FLUENCE])
    for split, view in itertools.product(prices["split"].unique(), prices["view"].unique()):
        if not ((known["split"] == split) & (known["view"] == view)).any():
            raise ContractError(f"{fluence}: no fluence of view {view}, split {split}; {path} has both")
    return prices, fluences


def _price(curves: pd.DataFrame, target: float) -> dict[str, Any]:
    """Summarize the doses at which the repetitions, a row each, reach a resolution; columns are ascending doses."""
    found = [first_crossing(curves.columns, resolutions, target) for resolutions in curves.to_numpy(np.float64)]
    found = [crossing for crossing in found if not np.isnan(crossing.log_dose)]
    reached = [crossing.log_dose for crossing in found if crossing.log_dose < np.inf]
    limit = any(crossing.at_lowest for crossing in found)
    return {
        "status": _status(found),
        "dose_photons": float(10 ** np.mean(reached)) if reached else np.nan,
        "upper_limit": limit,
        "sd_factor": float(10 ** np.std(reached, ddof=1)) if len(reached) > 1 and not limit else np.nan,
        "n_reached": len(reached),
        "n": len(found),
    }


def _status(found: Sequence[Crossing]) -> str:
    if not found:
        return NO_VALUE
    missing = [crossing.log_dose == np.inf for crossing in found]
    if any(missing):
        return NOT_REACHED if all(missing) else PARTLY
    return AT_LOWEST if all(crossing.at_lowest for crossing in found) else REACHED
