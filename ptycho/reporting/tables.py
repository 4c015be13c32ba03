"""Tables as text: the study's headline metrics, what parts of methods give, and paired differences of methods."""

import itertools

import numpy as np
import pandas as pd

from ptycho.reporting.headlines import HEADLINES

FLUENCE = "fluence_photons_per_px"


def repeats(metrics: pd.DataFrame) -> list[str]:
    """Name the columns that tell repetitions of one condition apart: seeds and, where they vary, objects."""
    return [name for name in ("object", "seed") if name in metrics]


def varied(metrics: pd.DataFrame) -> str:
    """Say what the repetitions are: '3 seeds of noise and training × 2 objects'."""
    names = {"seed": ("seed of noise and training", "seeds of noise and training"), "object": ("object", "objects")}
    counts = {name: metrics[name].nunique() for name in reversed(repeats(metrics))}
    return " × ".join(f"{count} {names[name][count > 1]}" for name, count in counts.items())


def spread_table(metrics: pd.DataFrame, names=tuple(HEADLINES), beside: pd.DataFrame | None = None) -> str:
    """Lay out some metrics, one line a condition and method: mean ± standard deviation over the repetitions.

    Parameters
    ----------
    metrics : DataFrame
        Tidy: dose, view, split, method, object (where it varies), seed, metric, value.
    names : sequence of str
        Metrics, a column each; those that the table does not have are left out.
    beside : DataFrame, optional
        Further columns, for each split, view and dose.
    """
    keys = ["split", "view", "dose", "method"]
    order = {method: place for place, method in enumerate(dict.fromkeys(metrics["method"]))}
    grouped = metrics[metrics["metric"].isin(names)].groupby([*keys, "metric"])["value"]
    cells = grouped.agg(["mean", "std", "count"]).apply(_cell, axis=1).unstack("metric").fillna("-").reset_index()
    if beside is not None:
        cells = beside.merge(cells, on=keys[:-1])
    cells = cells.sort_values(keys, key=lambda column: column.map(order) if column.name == "method" else column)
    columns = [*cells.columns.difference([*names, "method"], sort=False), "method"]
    lines = cells[[*columns, *(name for name in names if name in cells)]]
    return lines.to_string(index=False, float_format=lambda value: f"{value:.3g}")


def _cell(numbers) -> str:
    spread = "" if numbers["count"] < 2 else f" ±{numbers['std']:.1g}"
    return f"{numbers['mean']:.3g}{spread}"


def summary_table(metrics: pd.DataFrame, fluence: pd.DataFrame) -> str:
    """Lay out the headline metrics, with overlap and fluence beside them."""
    light = fluence.groupby(["split", "view", "dose"], as_index=False)[["overlap", FLUENCE]].mean()
    light = light.rename(columns={FLUENCE: "photons/px"})[["split", "view", "overlap", "dose", "photons/px"]]
    return spread_table(metrics, beside=light)


def paired_differences(metrics: pd.DataFrame) -> pd.DataFrame:
    """Compare methods repetition by repetition: what they share, sample and noise, does not blur the difference.

    Returns
    -------
    DataFrame
        split, view, dose, metric, method, versus, mean and sd (NaN for one repetition) of the difference
        method - versus, and n; every pair of methods once.
    """
    keys = ["split", "view", "dose", "metric"]
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
    """Lay out the paired differences of one metric, one line a condition and pair: mean ± standard deviation."""
    rows = differences[differences["metric"] == metric]
    found = np.abs(rows["mean"]) > 2 * rows["sd"]
    shown = pd.DataFrame(
        {
            **{key: rows[key] for key in ("split", "view", "dose")},
            "pair": rows["method"] + " - " + rows["versus"],
            metric: [f"{mean:+.3g} ±{sd:.1g}" for mean, sd in zip(rows["mean"], rows["sd"], strict=True)],
            "n": rows["n"],
            "": np.where(found, "beyond 2 sd", ""),
        }
    )
    return shown.to_string(index=False)


def with_condition(metrics: pd.DataFrame, **condition) -> pd.DataFrame:
    """Say of which condition the numbers are.

    Returns
    -------
    DataFrame
        dose, view, split, method, object (where there are several), seed, metric, value.
    """
    columns = ["dose", "view", "split", "method", *(["object"] if "object" in condition else []), "seed"]
    return metrics.assign(**condition)[[*columns, "metric", "value"]]


KNOWN_PROBE_LIMITS = {
    "shift_px": (0.1, "shifted by {:.2f} px"),
    "ramp_rad_per_px": (0.005, "tilted by a phase ramp of {:.4f} rad/px"),
}
"""What a known probe leaves no room for, and how much of it is no warning."""


def warnings_of(metrics: pd.DataFrame) -> list[str]:
    """Say which methods were shifted or tilted by more than a known probe allows, no gauge then, or not registered.

    A shift is a bug; a ramp is slow phase that a method has not recovered.

    Parameters
    ----------
    metrics : DataFrame
        As `with_condition` returns it, of any number of conditions; repetitions of one share a line.
    """
    several, found, lost = metrics["split"].nunique() > 1, [], []
    for metric, (limit, words) in KNOWN_PROBE_LIMITS.items():
        chosen = metrics[metrics["metric"] == metric]
        for (split, view, dose, method), rows in chosen.groupby(["split", "view", "dose", "method"], sort=False):
            where = f"{method}, {view} {dose}" + (f", {split} split" if several else "")
            far, nowhere = rows["value"] > limit, rows["value"].isna()
            if far.any():
                much = words.format(rows["value"].max()) + " at most" * (len(rows) > 1)
                found.append(f"{where}: {much}{_share(far)}; a known probe allows {limit} {words.split()[-1]}")
            if nowhere.any() and metric == "shift_px":
                lost.append(f"{where}: could not be registered{_share(nowhere)}: the log of compare says why")
    return found + lost


def _share(which) -> str:
    return f", {which.sum()} of {len(which)}" if len(which) > 1 else ""
