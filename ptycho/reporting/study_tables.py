"""A study's numbers as rows for the page: quality, pairwise wins, design, cost."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from ptycho.methods import method_name
from ptycho.reporting.headlines import HEADLINES
from ptycho.reporting.tables import paired_differences
from ptycho.scoring.metric_tables import FLUENCE
from ptycho.workflow.damage import CHECKSUM
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.job import checksum_of
from ptycho.workflow.paths import condition_of, wildcards_of

BOTH_SPLITS = ("simulate_scan", "view")
"""Rules with jobs of both splits, whatever is scored."""
ONE_JOB = ("tv", "tv_half")
"""Rules that do all of TV-MAP; where `tv.chunks` divides it, others have its jobs."""

MOST = 1e15
"""Larger than any number of seconds or megabytes that a job takes."""


def metric_table(metrics: pd.DataFrame, fluence: pd.DataFrame, metric: str, split: str) -> dict[str, Any]:
    """Lay out one headline metric: a row per condition, a column per method, mean ± sd over the repetitions.

    Parameters
    ----------
    metrics, fluence : DataFrame
        As for `ptycho.reporting.tables.summary_table`.
    metric, split : str
        What to show.

    Returns
    -------
    dict
        `name` and `better` of the metric, `methods` (labels), `best_counts` (how often each method is best, as texts),
        and `rows` of `view`, `dose`, `fluence` and `cells`, each with `text` and `best`.
    """
    headline = HEADLINES[metric]
    selected = metrics[(metrics["metric"] == metric) & (metrics["split"] == split)]
    methods = list(dict.fromkeys(selected["method"]))
    fluences = fluence[fluence["split"] == split].groupby(["view", "dose"])[FLUENCE].mean()
    statistics = selected.groupby(["view", "dose", "method"])["value"].agg(["mean", "std", "count"])
    digits = 3 if statistics["mean"].max() < 10 else 1
    rows = []
    wins: Counter[str] = Counter()
    for key, of_condition in statistics.groupby(["view", "dose"]):
        view, dose = cast(tuple[str, int], key)
        by_method = of_condition.droplevel(["view", "dose"]).reindex(methods)
        means = by_method["mean"].dropna()
        best = None if means.empty else str(means.idxmax() if headline.better == "higher" else means.idxmin())
        if best:
            wins[method_name(best)] += 1
        cells = [
            {"text": _spread(mean, std, count, digits), "best": method == best}
            for method, (mean, std, count) in zip(methods, by_method.itertuples(index=False, name=None), strict=True)
        ]
        rows.append({"view": view, "dose": int(dose), "fluence": fluences[view, dose], "cells": cells})
    return {
        "name": headline.label,
        "better": headline.better,
        "methods": [method_name(method) for method in methods],
        "best_counts": [f"{method} in {count}" for method, count in wins.most_common()] or ["none"],
        "rows": rows,
    }


def metric_tables(metrics: pd.DataFrame, fluence: pd.DataFrame, split: str) -> list[dict[str, Any]]:
    """Lay out all headline metrics that a study has for a split, see `metric_table`."""
    present = set(metrics.loc[metrics["split"] == split, "metric"])
    return [metric_table(metrics, fluence, metric, split) for metric in HEADLINES if metric in present]


def pairwise_wins(metrics: pd.DataFrame, split: str, metric: str) -> dict[str, Any]:
    """List for every pair of methods the conditions under which the first is better.

    Better means: by the mean of the paired differences, which must exceed twice their standard deviation if there are
    several repetitions.

    Parameters
    ----------
    metrics : DataFrame
        As for `ptycho.reporting.tables.spread_table`.
    split, metric : str
        What to compare; a headline metric.

    Returns
    -------
    dict
        `name` and `better` of the metric, `methods` (labels), `conditions` (their number), and `rows` of `method` and
        `cells`: lists of `view`, `doses` and their number `n`, None for a method against itself.
    """
    headline = HEADLINES[metric]
    selected = metrics[(metrics["metric"] == metric) & (metrics["split"] == split)]
    pairs = paired_differences(selected)
    sign = 1 if headline.better == "higher" else -1
    wins: dict[tuple[str, str], dict[str, list[int]]] = {}
    for row in pairs[pairs["mean"].abs() > 2 * pairs["sd"].fillna(0)].to_dict("records"):
        pair = row["method"], row["versus"]
        winner_first = pair if sign * row["mean"] > 0 else pair[::-1]
        wins.setdefault(winner_first, {}).setdefault(row["view"], []).append(int(row["dose"]))
    methods = list(dict.fromkeys(selected["method"]))
    rows = [
        {
            "method": method_name(first),
            "cells": [_doses_of(wins.get((first, second), {}), first, second) for second in methods],
        }
        for first in methods
    ]
    return {
        "name": headline.label,
        "better": headline.better,
        "methods": [method_name(method) for method in methods],
        "conditions": len(selected[["view", "dose"]].drop_duplicates()),
        "rows": rows,
    }


def design(
    views: Mapping[StrPath, Mapping[str, Any]], tiles: Mapping[StrPath, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """List the measured numbers of every view and dose.

    Parameters
    ----------
    views : dict of dict
        Path of a view's JSON -> its content.
    tiles : dict of dict
        Path of the JSON of a view's tiles -> its content; of none where no trained network is applied.

    Returns
    -------
    list of dict
        split, view, dose [photons per exposure], wanted and measured linear overlap, median spacing [px], numbers of
        exposures and holdout exposures, fluence [photons per object pixel], detected [photons per exposure], number of
        tiles and their redundancy (None without tiles), valid (fraction of the detector's pixels).
    """
    rows, tilings = [], {tuple(wildcards_of(path).items()): numbers for path, numbers in tiles.items()}
    for path, numbers in views.items():
        wildcards, counts = wildcards_of(path), numbers["counts"]
        tiling = tilings.get(tuple(wildcards.items()), {})
        rows.append(
            {"split": wildcards["split"], "view": wildcards["view"], "dose": int(wildcards["dose"])}
            | {"wanted": numbers["target_overlap"], "overlap": numbers["overlap"]["between_exposures"]["linear"]}
            | {"spacing": numbers["spacing_px"]["q50"]}
            | {key: counts[key] for key in ("exposures", "holdout")}
            | {"fluence": numbers[FLUENCE], "detected": numbers["mean_detected_photons"]}
            | {key: tiling.get(key) for key in ("tiles", "redundancy")}
            | {"valid": numbers.get("valid_pixel_fraction", 1.0)}
        )
    return sorted(rows, key=lambda row: (row["split"], row["view"], row["dose"]))


def read_cost(path: StrPath) -> dict[str, float]:
    """Read what a job took, see `ptycho.workflow.job.measure`.

    Parameters
    ----------
    path : path
        Tab-separated values; the last line counts.

    Returns
    -------
    dict
        Column -> value: s (wall time) and cpu_time [s], max_rss [MB]; NaN for "-" or "NA", which Snakemake's
        `benchmark:` writes of a job that was too short to be measured.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it is no such table.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            *_, last = csv.DictReader(file, delimiter="\t")
        stated = last.pop(CHECKSUM, None)
        if stated is not None and stated != checksum_of(last.values()):
            raise ValueError(f"'{CHECKSUM}' is {stated}, that of the line {checksum_of(last.values())}")
        cells = {name: value for name, value in last.items() if name != "h:m:s"}
        numbers = {name: np.nan if value in ("-", "NA") else float(value) for name, value in cells.items()}
        for name in ("cpu_time", "max_rss"):
            if not 0 <= np.nan_to_num(numbers.get(name, -1.0)) < MOST:
                raise ValueError(f"{name} is {cells.get(name, 'missing')}; wanted a number, at least 0")
        return numbers
    except (ValueError, TypeError, csv.Error) as error:
        raise ContractError(f"{path}: not a table of what a job took ({error}); delete it") from None


def costs(folder: StrPath, config: Mapping[str, Any]) -> pd.DataFrame:
    """Add up the cost of a study's jobs.

    Parameters
    ----------
    folder : path
        Files {rule}/dose_{dose}/….tsv and photon_bound/{view}/{split}.tsv, as the jobs write them.
    config : dict
        Configuration of the study. Jobs of objects, flaws, doses, views, splits, seeds and methods that it does not
        name are left out.

    Returns
    -------
    DataFrame
        Columns rule, method, jobs, cpu_s (median of a job), least_s, most_s, total_s, peak_mb; NaN where a job was too
        short to be measured.
    """
    rows = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        inside = path.relative_to(folder)
        if _is_of_study(inside, config):
            numbers = read_cost(path)
            job = {"rule": inside.with_suffix("").parts[0], "method": wildcards_of(inside).get("method", "")}
            rows.append({**job, "cpu_s": numbers["cpu_time"], "peak_mb": numbers["max_rss"]})
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


def training_cost(benchmarks: Iterable[StrPath]) -> pd.DataFrame:
    """Collect the cost of trainings.

    Parameters
    ----------
    benchmarks : iterable of path
        Files …/dose_{dose}/{view}/seed_{seed}/{method}.tsv, as the jobs write them.

    Returns
    -------
    DataFrame
        Columns dose, view, object, flaw (where there are several), seed, method, cpu_s, peak_mb.
    """
    rows = []
    for path in map(Path, benchmarks):
        numbers = read_cost(path)
        cost = {"cpu_s": numbers["cpu_time"], "peak_mb": numbers["max_rss"]}
        rows.append({**condition_of(path), "method": path.stem, **cost})
    repetition = [name for name in ("object", "flaw", "seed") if any(name in row for row in rows)]
    return pd.DataFrame(rows, columns=["dose", "view", *repetition, "method", "cpu_s", "peak_mb"])


def significant(value: float | None, digits: int = 3) -> str:
    """Write a number with some significant digits and thousands separators; a dash for NaN or None."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = max(digits - 1 - int(np.floor(np.log10(abs(value)))), 0)
    return f"{value:,.{decimals}f}"


def _is_of_study(path: Path, config: Mapping[str, Any]) -> bool:
    """Tell whether the job of a benchmark file belongs to the study as it is configured now."""
    wildcards, chunk = wildcards_of(path), re.fullmatch(r"\d+of(\d+)", path.stem)
    splits = config["splits"] if path.parts[0] not in BOTH_SPLITS else ("train", "test")
    if wildcards.get("split", splits[0]) not in splits:
        return False
    is_tv = wildcards.get("method") == "tv"
    n_chunks = config["tv" if is_tv else "inference"]["chunks"]
    if (chunk and int(chunk[1]) != n_chunks) or (is_tv and (path.parts[0] in ONE_JOB) != (n_chunks == 1)):
        return False
    allowed = {
        "dose": set(map(str, config["doses"])),
        "seed": set(map(str, config["seeds"])),
        "view": set(config["views"]),
        "method": set(config["methods"]) | ({"tv"} if "refined" in config["methods"] else set()),
        "object": set(config.get("objects", [])),
        "flaw": set(config.get("flaws", [])),
    }
    return all(wildcards.get(key) in (None, *values) for key, values in allowed.items())


def _doses_of(views: Mapping[str, list[int]], first: str, second: str) -> list[dict[str, Any]] | None:
    if first == second:
        return None
    return [{"view": view, "doses": sorted(doses), "n": len(doses)} for view, doses in views.items()]


def _spread(mean: float, std: float, count: float, digits: int) -> str:
    if not np.isfinite(mean):
        return "–"
    return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if count > 1 else "")
