"""The summary of a study: its tables put together, and the text that `make study` prints."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ptycho.reporting.headlines import HEADLINES, ReferenceName
from ptycho.reporting.prices import price_text
from ptycho.reporting.tables import difference_table, summary_table, varied
from ptycho.scoring.metric_tables import FLUENCE
from ptycho.workflow.files import StrPath
from ptycho.workflow.paths import condition_of, wildcards_of


@dataclass(frozen=True, kw_only=True)
class StudyTables:
    """What a study measured."""

    metrics: pd.DataFrame
    """dose, view, split, method, object (where there are several), seed, metric, value."""
    differences: pd.DataFrame
    """As `ptycho.reporting.tables.paired_differences` returns it."""
    fluence: pd.DataFrame
    """As `fluence_table` returns it."""
    training: pd.DataFrame
    """As `ptycho.reporting.study_tables.training_cost` returns it."""
    bound: pd.DataFrame
    """The photon limit of `ptycho.scoring.photon_bound`, columns as in `metrics`; empty in a measured study."""
    price: pd.DataFrame
    """As `ptycho.scoring.price.price_table` returns it."""
    tiles: pd.DataFrame
    """As `tile_table` returns it."""


def fluence_table(views: Mapping[StrPath, Mapping[str, Any]]) -> pd.DataFrame:
    """Collect overlap and fluence of all conditions.

    Parameters
    ----------
    views : dict of dict
        Path of a view's JSON, …/dose_{dose}/{view}/seed_{seed}/{split}.json -> its content.

    Returns
    -------
    DataFrame
        Columns object (where there are several), dose, view, seed, split, overlap (linear, between exposures),
        fluence_photons_per_px, mean_detected_photons.
    """
    rows = [
        {**condition_of(path), "split": Path(path).stem}
        | {"overlap": numbers["overlap"]["between_exposures"]["linear"]}
        | {key: numbers[key] for key in (FLUENCE, "mean_detected_photons")}
        for path, numbers in views.items()
    ]
    return pd.DataFrame(rows)


def tile_table(tiles: Mapping[StrPath, Mapping[str, Any]]) -> pd.DataFrame:
    """Collect the numbers of the tiles that trained networks are applied to; all doses and seeds have the same.

    Parameters
    ----------
    tiles : dict of dict
        Path of the JSON of a view's tiles, …/dose_{dose}/{view}/seed_{seed}/{split}_tiles.json -> its content.

    Returns
    -------
    DataFrame
        Columns split, view, tiles, redundancy; one row per split and view.
    """
    columns = ["split", "view", "tiles", "redundancy"]
    rows = [{**wildcards_of(path), **numbers} for path, numbers in tiles.items()]
    return pd.DataFrame(rows, columns=columns).drop_duplicates(ignore_index=True)


def view_warnings(views: Mapping[StrPath, Mapping[str, Any]]) -> list[str]:
    """List the views with fewer groups to train on than requested, or with exposures that have no photons.

    Parameters
    ----------
    views : dict of dict
        As for `fluence_table`.
    """
    warnings = []
    for path, numbers in views.items():
        condition, counts = condition_of(path), numbers["counts"]
        where = f"{Path(path).stem}, {condition['view']} {condition['dose']}"
        if counts.get("groups", 0) < counts.get("groups_wanted", 0):
            warnings.append(
                f"{where}: only {counts['groups']} of {counts['groups_wanted']} requested groups were found"
            )
        if empty := counts.get("exposures_without_photons"):
            warnings.append(
                f"{where}: {empty} of {counts['exposures']} exposures have no photons; was the shutter open?"
            )
    return warnings


def tile_warnings(tiles: Mapping[StrPath, Mapping[str, Any]]) -> list[str]:
    """List the warnings that tiles were cut with, see `ptycho.data.tiles.halo_warning`, once for each split and view.

    Parameters
    ----------
    tiles : dict of dict
        As for `tile_table`.
    """
    warned = [(wildcards_of(path), numbers["warning"]) for path, numbers in tiles.items() if numbers.get("warning")]
    return list(dict.fromkeys(f"{place['split']}, {place['view']}: {warning}" for place, warning in warned))


def detector_notes(views: Mapping[StrPath, Mapping[str, Any]]) -> list[str]:
    """Say which fraction of the detector's pixels is bad, if any is; `views` as for `fluence_table`."""
    valid = min((numbers.get("valid_pixel_fraction", 1.0) for numbers in views.values()), default=1.0)
    if valid == 1:
        return []
    return [f"{1 - valid:.1%} of the detector's pixels are bad: photons and deviances are those of the valid ones."]


def summary_text(
    study: str,
    tables: StudyTables,
    warnings: Iterable[str],
    *,
    results: StrPath,
    reference_name: ReferenceName = "truth",
    notes: Iterable[str] = (),
) -> str:
    """Write the summary of a study.

    Parameters
    ----------
    study : str
        Name of the study.
    tables : StudyTables
        What it measured.
    warnings : iterable of str
        Warnings, one line each; `ptycho.reporting.page.warnings_in` finds them again.
    results : path
        Folder of its results.
    reference_name : {"truth", "reference"}
        What the methods were scored against.
    notes : iterable of str
        What else a reader has to know, one line each.
    """
    repeated = bool((tables.differences["n"] > 1).any())
    spread = "Mean ± standard deviation over" if repeated else "One repetition, no error bars:"
    higher, lower = (_improving(direction, tables.metrics) for direction in ("higher", "lower"))
    training = tables.training.groupby("method", sort=False)["cpu_s"]
    lines = [
        f"Study '{study}': aligned to the {reference_name}, scored on one shared rectangle per split.",
        f"{spread} {varied(tables.metrics)}.",
        f"Higher is better: {higher}; lower is better: {lower}.",
        "cpu_s: CPU time of a reconstruction, without training [s].",
        *notes,
        "",
        summary_table(tables.metrics, tables.fluence),
        "",
        *(("Error, paired differences of methods:", difference_table(tables.differences), "") if repeated else ()),
        *_price_lines(tables.price),
        *(
            f"Training of {method}: {seconds.min():.0f} to {seconds.max():.0f} CPU-seconds per condition"
            for method, seconds in training
        ),
        *_tile_lines(tables.tiles),
        *(f"WARNING: {warning}" for warning in warnings),
        "",
        f"Files in {results}/:",
        "  metrics.csv, differences.csv           every metric; paired differences of methods",
        "  price.csv, price.png                   dose at which each method reaches a resolution; also: ptycho plan",
        "  quality_*.png, cost_*.png              quality against dose and fluence; error against CPU time",
        f"  **/comparison.png                      {reference_name} and every method under one condition",
        "  report.html                            all of this on one page: append -- report to the study's command",
    ]
    return "\n".join(lines) + "\n"


def _price_lines(price: pd.DataFrame) -> list[str]:
    if price.empty:
        return []
    title = "Dose [photons per exposure] at which the FRC of phase falls to 0.5 at a resolution [Nyquist]:"
    return [title, price_text(price), ""]


def _tile_lines(tiles: pd.DataFrame) -> list[str]:
    return [
        f"Tiles of trained networks, {row['split']} split, {row['view']} view: {row['tiles']}, redundancy "
        f"{row['redundancy']:.2f} (how often an exposure is reconstructed)"
        for row in tiles.to_dict("records")
    ]


def _improving(direction: str, metrics: pd.DataFrame) -> str:
    """Headline metrics of a table that improve in a direction."""
    present = set(metrics["metric"])
    names = [name for name, headline in HEADLINES.items() if headline.better == direction and name in present]
    return ", ".join(names) or "none"
