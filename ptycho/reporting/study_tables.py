"""A study's numbers laid out as tables: quality, who beats whom, design, cost. Plain rows, for a page to show."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ptycho.methods import method_name
from ptycho.reporting.headlines import HEADLINES
from ptycho.reporting.tables import FLUENCE, paired_differences
from ptycho.workflow.paths import condition_of, wildcards_of


def metric_table(metrics: pd.DataFrame, fluence: pd.DataFrame, metric: str, split: str) -> dict:
    """Lay out one metric: a row a condition, a column a method, mean ± sd where something varies.

    Returns
    -------
    dict
        `name`, `better`, `methods` (labels), `best_counts` (who is best how often, as text), and `rows` of `view`, `dose`,
        `fluence` and `cells`, each with `text` and `best`.
    """
    headline = HEADLINES[metric]
    chosen = metrics[(metrics["metric"] == metric) & (metrics["split"] == split)]
    methods = list(dict.fromkeys(chosen["method"]))
    light = fluence[fluence["split"] == split].groupby(["view", "dose"])[FLUENCE].mean()
    means = chosen.groupby(["view", "dose", "method"])["value"].agg(["mean", "std", "count"])
    places = 3 if means["mean"].max() < 10 else 1
    rows, wins = [], Counter()
    for (view, dose), found in means.groupby(["view", "dose"]):
        found = found.droplevel(["view", "dose"]).reindex(methods)
        known = found["mean"].dropna()
        best = None if known.empty else known.idxmax() if headline.better == "higher" else known.idxmin()
        if best:
            wins[method_name(best)] += 1
        cells = [
            {"text": _spread(row.mean, row.std, row.count, places), "best": row.Index == best}
            for row in found.itertuples()
        ]
        rows.append({"view": view, "dose": int(dose), "fluence": light[view, dose], "cells": cells})
    best_counts = [f"{method} in {count}" for method, count in wins.most_common()] or ["none"]
    names = [method_name(method) for method in methods]
    return {
        "name": headline.label,
        "better": headline.better,
        "methods": names,
        "best_counts": best_counts,
        "rows": rows,
    }


def metric_tables(metrics: pd.DataFrame, fluence: pd.DataFrame, split: str) -> list[dict]:
    """Lay out all headline metrics that a study has in a split."""
    found = set(metrics.loc[metrics["split"] == split, "metric"])
    return [metric_table(metrics, fluence, metric, split) for metric in HEADLINES if metric in found]


def pairwise_wins(metrics: pd.DataFrame, split: str, metric: str) -> dict:
    """Say for every pair of methods under which conditions the first is better.

    Better means: by the mean of the paired differences, and where there are several, by more than twice their
    standard deviation.

    Returns
    -------
    dict
        `name` and `better` of the metric, `methods` (labels), `conditions` (how many), and `rows` of `method` and
        `cells`: lists of `view`, `doses` and how many (`n`), None for a method against itself.
    """
    chosen = metrics[(metrics["metric"] == metric) & (metrics["split"] == split)]
    pairs = paired_differences(chosen)
    headline = HEADLINES[metric]
    sign = 1 if headline.better == "higher" else -1
    wins: dict[tuple[str, str], dict[str, list[int]]] = {}
    for row in pairs[pairs["mean"].abs() > 2 * pairs["sd"].fillna(0)].itertuples():
        pair = (row.method, row.versus) if sign * row.mean > 0 else (row.versus, row.method)
        wins.setdefault(pair, {}).setdefault(row.view, []).append(int(row.dose))
    methods = list(dict.fromkeys(chosen["method"]))
    rows = [
        {
            "method": method_name(first),
            "cells": [_doses_of(wins.get((first, second), {}), first, second) for second in methods],
        }
        for first in methods
    ]
    conditions = len(chosen[["view", "dose"]].drop_duplicates())
    methods = [method_name(method) for method in methods]
    return {
        "name": headline.label,
        "better": headline.better,
        "methods": methods,
        "conditions": conditions,
        "rows": rows,
    }


def design(views: Mapping[str, Mapping]) -> list[dict]:
    """Put the measured numbers of every view and dose in rows.

    Parameters
    ----------
    views : dict of dict
        Path of a view's JSON -> its content.
    """
    rows = []
    for path, numbers in views.items():
        place, counts = wildcards_of(path), numbers["counts"]
        rows.append(
            {
                "split": place["split"],
                "view": place["view"],
                "dose": int(place["dose"]),
                "wanted": numbers["target_overlap"],
            }
            | {"overlap": numbers["overlap"]["between_exposures"]["linear"], "spacing": numbers["spacing_px"]["q50"]}
            | {key: counts[key] for key in ("exposures", "holdout", "groups")}
            | {"fluence": numbers["fluence_photons_per_px"], "detected": numbers["mean_detected_photons"]}
        )
    return sorted(rows, key=lambda row: (row["split"], row["view"], row["dose"]))


def costs(folder, config: Mapping) -> pd.DataFrame:
    """Add up what the jobs of a study cost, from Snakemake's own measurements.

    Parameters
    ----------
    folder : path
        …/{rule}/dose_{dose}/….tsv, as the rules' `benchmark` writes them.
    config : dict
        Of the study: jobs of objects, doses, views, seeds and methods that it no longer names are not counted.

    Returns
    -------
    DataFrame
        rule, method, jobs, cpu_s (median of a job), least_s, most_s, total_s, peak_mb; NaN where a job was too short.
    """
    allowed = {"dose": map(str, config["doses"]), "seed": map(str, config["seeds"])}
    allowed |= {"view": config["views"], "method": config["methods"], "object": config.get("objects", [])}
    allowed = {key: set(values) for key, values in allowed.items()}
    allowed["method"] |= {"tv"} if "refined" in allowed["method"] else set()
    chunks = {"unrolled": config["inference"]["tile_chunks"]}
    rows = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        inside = path.relative_to(folder)
        place, chunk = wildcards_of(inside), re.fullmatch(r"\d+of(\d+)", path.stem)
        if "infer" in inside.parts[0] and "split" in place and place["split"] not in config["splits"]:
            continue
        if chunk and int(chunk[1]) != chunks.get(place.get("method"), config["inference"]["chunks"]):
            continue
        if all(place.get(key) in (None, *values) for key, values in allowed.items()):
            numbers = pd.read_csv(path, sep="\t", na_values="-").iloc[-1]
            where = {"rule": inside.with_suffix("").parts[0], "method": place.get("method", "")}
            rows.append(where | {"cpu_s": numbers["cpu_time"], "peak_mb": numbers["max_rss"]})
    table = pd.DataFrame(rows, columns=["rule", "method", "cpu_s", "peak_mb"])
    summed = table.groupby(["rule", "method"], as_index=False).agg(
        jobs=("cpu_s", "size"),
        cpu_s=("cpu_s", "median"),
        least_s=("cpu_s", "min"),
        most_s=("cpu_s", "max"),
        total_s=("cpu_s", "sum"),
        peak_mb=("peak_mb", "max"),
    )
    return summed.sort_values("total_s", ascending=False)


def significant(value, digits: int = 3) -> str:
    """Write a number with so many significant digits and its thousands apart; a dash for NaN."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    places = max(digits - 1 - int(np.floor(np.log10(abs(value)))), 0)
    return f"{value:,.{places}f}"


def _doses_of(views: Mapping[str, list[int]], first: str, second: str) -> list[dict] | None:
    if first == second:
        return None
    return [{"view": view, "doses": sorted(doses), "n": len(doses)} for view, doses in views.items()]


def _spread(mean: float, std: float, count: int, places: int) -> str:
    if not np.isfinite(mean):
        return "–"
    return f"{mean:.{places}f}" + (f" ± {std:.{places}f}" if count > 1 else "")


def training_cost(benchmarks) -> pd.DataFrame:
    """What trainings cost, from Snakemake's own measurements: dose, view, (object,) seed, method, cpu_s, peak_mb.

    Parameters
    ----------
    benchmarks : iterable of path
        …/dose_{dose}/{view}/seed_{seed}/{method}.tsv
    """
    rows = []
    for path in map(Path, benchmarks):
        numbers = pd.read_csv(path, sep="\t", na_values="-").iloc[0]
        cost = {"cpu_s": numbers["cpu_time"], "peak_mb": numbers["max_rss"]}
        rows.append({**condition_of(path), "method": path.stem, **cost})
    places = [name for name in ("object", "seed") if any(name in row for row in rows)]
    return pd.DataFrame(rows, columns=["dose", "view", *places, "method", "cpu_s", "peak_mb"])
