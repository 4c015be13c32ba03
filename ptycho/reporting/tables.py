"""Tables as text: the study's headline metrics, what parts of methods give, and paired differences of methods."""

import itertools

import numpy as np
import pandas as pd

HEADLINES = ["ssim_amplitude", "ssim_phase", "error", "frc50_phase", "heldout_deviance", "cpu_s"]
LIGHT = "fluence_photons_per_px"


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
    light = fluence.groupby(["split", "view", "dose"], as_index=False)[["overlap", LIGHT]].mean()
    light = light.rename(columns={LIGHT: "photons/px"})[["split", "view", "overlap", "dose", "photons/px"]]
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
