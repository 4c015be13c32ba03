"""Tables as text: metrics by condition and method, paired differences of methods."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ptycho.reporting.headlines import HEADLINES
from ptycho.scoring.metric_tables import FLUENCE, conditions, repeats


def varied(metrics: pd.DataFrame) -> str:
    """Describe the repetitions: '3 seeds of noise and training × 2 objects'."""
    names = {"seed": ("seed of noise and training", "seeds of noise and training"), "object": ("object", "objects")}
    counts = {name: metrics[name].nunique() for name in reversed(repeats(metrics))}
    return " × ".join(f"{count} {names[name][count > 1]}" for name, count in counts.items())


def spread_table(
    metrics: pd.DataFrame, names: Sequence[str] = tuple(HEADLINES), beside: pd.DataFrame | None = None
) -> str:
    """Lay out some metrics, one line per condition and method: mean ± standard deviation over the repetitions.

    Parameters
    ----------
    metrics : DataFrame
        Columns dose, view, split, method, object and flaw (where there are several), seed, metric, value.
    names : sequence of str
        Metrics, one column each; those that the table lacks are left out.
    beside : DataFrame, optional
        Further columns, one row per split, view and dose.

    Raises
    ------
    ValueError
        If `beside` has no row for a condition, or several.
    """
    keys = [*conditions(metrics), "method"]
    order = {
        key: {name: rank for rank, name in enumerate(dict.fromkeys(metrics[key]))}
        for key in keys
        if key in ("flaw", "method")
    }
    grouped = metrics[metrics["metric"].isin(names)].groupby([*keys, "metric"])["value"]
    cells = grouped.agg(["mean", "std", "count"]).apply(_cell, axis=1).unstack("metric").fillna("-").reset_index()
    if beside is not None:
        joined = beside.merge(cells, on=["split", "view", "dose"], validate="one_to_many")
        if len(joined) < len(cells):
            raise ValueError(f"{len(cells)} lines of metrics, {len(joined)} of them with {', '.join(beside.columns)}")
        cells = joined
    cells = cells.sort_values(keys, key=lambda column: column.map(order.get(str(column.name), lambda key: key)))
    columns = [*keys[:-4], *cells.columns.difference([*names, *keys[:-4], "method"], sort=False), "method"]
    lines = cells[[*columns, *(name for name in names if name in cells)]]
    return lines.to_string(index=False, float_format=lambda value: f"{value:.3g}")


def summary_table(metrics: pd.DataFrame, fluence: pd.DataFrame) -> str:
    """Lay out the headline metrics, with overlap and fluence of each condition.

    Parameters
    ----------
    metrics : DataFrame
        As for `spread_table`.
    fluence : DataFrame
        As `ptycho.reporting.summary.fluence_table` returns it.
    """
    conditions = fluence.groupby(["split", "view", "dose"], as_index=False)[["overlap", FLUENCE]].mean()
    conditions = conditions.rename(columns={FLUENCE: "photons/px"})
    return spread_table(metrics, beside=conditions[["split", "view", "overlap", "dose", "photons/px"]])


def paired_differences(metrics: pd.DataFrame) -> pd.DataFrame:
    """Compare methods repetition by repetition, so that the sample and noise they share cancel.

    Parameters
    ----------
    metrics : DataFrame
        As for `spread_table`.

    Returns
    -------
    DataFrame
        Columns flaw (where there are some), split, view, dose, metric, method, versus, mean and sd (NaN for one
        repetition) of the difference method - versus, and n, the number of repetitions; every pair of methods once.
    """
    keys = [*conditions(metrics), "metric"]
    wide = metrics.pivot_table(
        index=[*keys, *repeats(metrics)], columns="method", values="value", sort=False, dropna=False
    )
    tables = []
    for method, versus in itertools.combinations(dict.fromkeys(metrics["method"]), 2):
        difference = (wide[method] - wide[versus]).dropna().groupby(level=keys, sort=False)
        table = difference.agg(["mean", "std", "count"]).reset_index()
        tables.append(table.assign(method=method, versus=versus).rename(columns={"std": "sd", "count": "n"}))
    columns = [*keys, "method", "versus", "mean", "sd", "n"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def difference_table(differences: pd.DataFrame, metric: str = "error") -> str:
    """Lay out the paired differences of one metric, one line per condition and pair: mean ± standard deviation.

    Parameters
    ----------
    differences : DataFrame
        As `paired_differences` returns it.
    metric : str
        Metric to show. A mean beyond two standard deviations is marked.
    """
    rows = differences[differences["metric"] == metric]
    significant = np.abs(rows["mean"]) > 2 * rows["sd"]
    table = pd.DataFrame(
        {
            **{key: rows[key] for key in conditions(rows)},
            "pair": rows["method"] + " - " + rows["versus"],
            metric: [f"{mean:+.3g} ±{sd:.1g}" for mean, sd in zip(rows["mean"], rows["sd"], strict=True)],
            "n": rows["n"],
            "": np.where(significant, "beyond 2 sd", ""),
        }
    )
    return table.to_string(index=False)


def _cell(statistics: pd.Series) -> str:
    spread = "" if statistics["count"] < 2 else f" ±{statistics['std']:.1g}"
    return f"{statistics['mean']:.3g}{spread}"
