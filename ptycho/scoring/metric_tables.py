"""Metrics of conditions as a table, and the warnings about them."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from ptycho.data.tables import read_table, read_tables
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.paths import condition_of, wildcards_of

PHOTON_LIMIT = "photon limit"
"""What the bound is called in the column `method` of tables."""
FLUENCE = "fluence_photons_per_px"
"""Column of the fluence, incident photons per object pixel."""

CONDITION = ("split", "view", "dose")
"""Columns of a condition, without those of its repetitions; where methods are told wrong, `flaw` is one more."""
COLUMNS = (*CONDITION, "method", "seed", "metric", "value")
"""Columns of a table of metrics; `object`, where there are several, is one more."""
LEARNED_NOTHING = "orientation, positions, their unit or the probe are wrong, or photons are too few for this method"
"""Why a reconstruction predicts no exposure better than the mean pattern does."""

KNOWN_PROBE_LIMITS = {
    "shift_px": (0.1, "shifted by {:#.3g} px"),
    "ramp_rad_per_px": (0.005, "tilted by a phase ramp of {:#.3g} rad/px"),
}
"""Part of the gauge that a known probe fixes -> largest value without a warning, and the warning's text."""


KNOWLEDGE_ERRORS, EXACTLY = ("position_rms_px", "probe_error"), 1.0e-6
"""Metrics of how far what a method took for known is from the scan's own, and how small they are where it is that."""


def repeats(metrics: pd.DataFrame) -> list[str]:
    """List the columns that distinguish repetitions of a condition: seed and, where there are several, object."""
    return [name for name in ("object", "seed") if name in metrics]


def conditions(metrics: pd.DataFrame) -> list[str]:
    """List the columns of a condition that a table has, flaw first."""
    return [*(["flaw"] if "flaw" in metrics else []), *CONDITION]


def of_flaw(metrics: pd.DataFrame, flaw: str | None = None) -> pd.DataFrame:
    """Return the rows of one flaw, without that column; of a table without flaws all rows.

    Parameters
    ----------
    metrics : DataFrame
        With or without a column `flaw`.
    flaw : str, optional
        Its name; default: the first of the table, as figures against dose and the report show it.
    """
    if "flaw" not in metrics:
        return metrics
    chosen = metrics["flaw"].iloc[0] if flaw is None else flaw
    return metrics[metrics["flaw"] == chosen].drop(columns="flaw")


def flaw_note(metrics: pd.DataFrame) -> str:
    """Name the flaw that `of_flaw` chooses: 'flaw exact, ', for a figure's caption; nothing without flaws."""
    return f"flaw {metrics['flaw'].iloc[0]}, " if "flaw" in metrics else ""


def with_condition(metrics: pd.DataFrame, **condition: Any) -> pd.DataFrame:
    """Add the condition to a table of metrics.

    Parameters
    ----------
    metrics : DataFrame
        Columns method, metric, value.
    **condition
        dose, view, split, seed, and object and flaw where there are several.

    Returns
    -------
    DataFrame
        Columns dose, view, split, method, object, flaw (where there are several), seed, metric, value.
    """
    more = [name for name in ("object", "flaw") if name in condition]
    columns = ["dose", "view", "split", "method", *more, "seed"]
    return metrics.assign(**condition)[[*columns, "metric", "value"]]


def read_metrics(paths: Iterable[StrPath]) -> pd.DataFrame:
    """Read the metrics of conditions as one table; every row must be of its file's condition, and there once.

    Parameters
    ----------
    paths : iterable of path
        Files …/dose_{dose}/{view}/seed_{seed}/{split}/….csv, each with the columns of `with_condition`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If a file is no such table, has no rows, or one of another condition, or one twice.
    """
    paths = list(paths)
    for path in paths:
        table, wanted = read_table(path, *COLUMNS), condition_of(path) | {"split": wildcards_of(path).get("split")}
        found = table[list(wanted)].drop_duplicates().to_dict("records") if set(wanted) <= set(table) else []
        if found != [wanted]:
            raise ContractError(f"{path}: has rows of {found or 'no condition'}; wanted those of {wanted} alone")
    metrics = read_tables(paths, *COLUMNS)
    check_unique(metrics, [*conditions(metrics), *repeats(metrics), "method", "metric"], "metrics")
    return metrics


def read_scores(metrics: StrPath, fluence: StrPath) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the metrics of a study and the fluence of its conditions, and hold them against each other.

    Parameters
    ----------
    metrics : path
        CSV with the columns of `with_condition`.
    fluence : path
        CSV with the columns of `ptycho.reporting.summary.fluence_table`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If one is no such table or has no rows, a row is there twice, or as for `check_fluence`.
    """
    scores = read_study_metrics(metrics)
    fluences = read_table(fluence, *CONDITION, *repeats(scores), FLUENCE)
    check_fluence(scores, fluences, str(metrics), str(fluence))
    return scores, fluences


def read_study_metrics(path: StrPath) -> pd.DataFrame:
    """Read the metrics of a study.

    Parameters
    ----------
    path : path
        CSV with the columns of `with_condition`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it is no such table, has no rows, a row is there twice, or one condition has other methods and metrics than
        another.
    """
    table = read_table(path, *COLUMNS)
    keys = [*conditions(table), *repeats(table)]
    check_unique(table, [*keys, "method", "metric"], str(path))
    names = table["method"] + "\n" + table["metric"]
    counts = names.groupby([table[key] for key in keys], sort=False).nunique()
    if counts.min() < names.nunique():
        fewest = _first(counts.sort_values(kind="stable").reset_index()[keys])
        raise ContractError(
            f"{path}: {counts.min()} rows of {fewest}; wanted {names.nunique()}, one for each method and metric"
        )
    return table


def check_fluence(
    metrics: pd.DataFrame, fluence: pd.DataFrame, name: str = "metrics", fluence_name: str = "fluence"
) -> None:
    """Check that every condition of a study's metrics has one fluence.

    Parameters
    ----------
    metrics : DataFrame
        As `with_condition` returns it, of any number of conditions.
    fluence : DataFrame
        As `ptycho.reporting.summary.fluence_table` returns it.
    name, fluence_name : str
        The tables, in messages.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If a condition has none, or several.
    """
    keys = [*CONDITION, *(name for name in repeats(metrics) if name in fluence)]
    check_unique(fluence, keys, fluence_name)
    wanted = metrics[keys].drop_duplicates()
    known = pd.MultiIndex.from_frame(fluence[keys])
    missing = wanted[~pd.MultiIndex.from_frame(wanted).isin(known)]
    if len(missing):
        raise ContractError(
            f"{fluence_name}: no fluence for {len(missing)} conditions of {name}, {_first(missing)} among them"
        )


def check_unique(table: pd.DataFrame, keys: list[str], what: str) -> None:
    """Raise a `ptycho.workflow.files.ContractError` if two rows of a table have the same keys."""
    doubled = table[table.duplicated(keys)]
    if len(doubled):
        raise ContractError(f"{what}: {len(doubled)} rows twice, {_first(doubled[keys])} among them")


def _first(table: pd.DataFrame) -> str:
    """Name the first row of a table: 'view dense, dose 1000'."""
    return ", ".join(f"{name} {value}" for name, value in table.iloc[0].items())


def warnings_of(metrics: pd.DataFrame) -> list[str]:
    """List the methods that were not registered, or whose shift or ramp exceeds what a known probe allows.

    With a known probe, neither is a gauge: a shift is a bug, a ramp is slow phase that the method did not recover.
    Where probe or positions were told wrong or refined, nothing is said of them.

    Parameters
    ----------
    metrics : DataFrame
        As `with_condition` returns it, of any number of conditions; repetitions of one share a line.
    """
    several_splits, exceeded, unregistered = metrics["split"].nunique() > 1, [], []
    keys = [*conditions(metrics), "method"]
    free = _free(metrics, [*keys, *repeats(metrics)])
    for metric, (limit, text) in KNOWN_PROBE_LIMITS.items():
        selected = metrics[metrics["metric"] == metric]
        is_free = pd.MultiIndex.from_frame(selected[[*keys, *repeats(metrics)]]).isin(free)
        for (*flaw, split, view, dose, method), rows in selected.assign(is_free=is_free).groupby(keys, sort=False):
            place = [method, *flaw, f"{view} {dose}", *([f"{split} split"] if several_splits else [])]
            where = ", ".join(map(str, place))
            beyond, missing = (rows["value"] > limit) & ~rows["is_free"], rows["value"].isna()
            if beyond.any():
                amount = text.format(rows["value"].max()) + " at most" * (len(rows) > 1)
                unit = text.split()[-1]
                exceeded.append(f"{where}: {amount}{_count_of(beyond)}; a known probe allows {limit} {unit}")
            if missing.any() and metric == "shift_px":
                count = _count_of(missing)
                unregistered.append(f"{where}: could not be registered{count}: the log of compare says why")
    return exceeded + unregistered


def _free(metrics: pd.DataFrame, keys: list[str]) -> pd.MultiIndex:
    """Return the methods and repetitions of conditions whose probe or positions were not those of the scan."""
    wrong = metrics["metric"].isin(KNOWLEDGE_ERRORS) & (metrics["value"] > EXACTLY)
    return pd.MultiIndex.from_frame(metrics.loc[wrong, keys])


def misfit_warnings(metrics: pd.DataFrame) -> list[str]:
    """List the methods whose misfit of holdout exposures exceeds what shot noise explains, a line each.

    Parameters
    ----------
    metrics : DataFrame
        As `with_condition` returns it, of any number of conditions.
    """
    wide = _side_by_side(metrics, "heldout_misfit", "explained_misfit")
    warnings = []
    for method, rows in wide.groupby("method", sort=False):
        beyond = rows[rows["heldout_misfit"] > rows["explained_misfit"]]
        if len(beyond):
            ends = dict.fromkeys(f"{beyond['heldout_misfit'].agg(end):.3g}" for end in ("min", "max"))
            warnings.append(
                f"{method}: misfit of holdout exposures {' to '.join(ends)} in {len(beyond)} of {len(rows)} "
                f"conditions; shot noise explains at most {beyond['explained_misfit'].max():.3g}: probe, positions, "
                "detector or reconstruction are not exact"
            )
    return warnings


def mean_pattern_warnings(metrics: pd.DataFrame) -> list[str]:
    """List the methods that predict holdout exposures no better than the mean pattern does, a line each.

    Parameters
    ----------
    metrics : DataFrame
        As `with_condition` returns it, of any number of conditions.
    """
    wide = _side_by_side(metrics, "heldout_deviance", "mean_pattern_deviance")
    warnings = []
    for method, rows in wide.groupby("method", sort=False):
        ratio = rows["heldout_deviance"] / rows["mean_pattern_deviance"]
        useless = ratio[~(ratio < 1)]  # those that are not a number, too
        if len(useless):
            warnings.append(
                f"{method}: predicts holdout exposures no better than their mean pattern in {len(useless)} of "
                f"{len(rows)} conditions: up to {useless.max():.3g} times its deviance; {LEARNED_NOTHING}"
            )
    return warnings


def _side_by_side(metrics: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Return some metrics as columns, a row for every method and condition that has any; no rows if one is missing."""
    keys = [*conditions(metrics), *repeats(metrics)]
    chosen = metrics[metrics["metric"].isin(names)]
    wide = chosen.set_index(["method", *keys, "metric"])["value"].unstack("metric")
    if not set(names) <= set(wide):
        return wide.reindex(columns=list(names)).iloc[:0]
    return wide.reindex(list(dict.fromkeys(chosen["method"])), level="method")


def _count_of(flags: pd.Series) -> str:
    """', 2 of 4' of several repetitions; nothing of a single one."""
    return f", {flags.sum()} of {len(flags)}" if len(flags) > 1 else ""
