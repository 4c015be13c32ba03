"""Scores against what methods were told wrong: a table by flaw, and figures of the error against its size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ptycho.reporting.figures import new_figure
from ptycho.reporting.headlines import HEADLINES
from ptycho.reporting.line_styles import line_style
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.knowledge import EXACT

METRICS = (*HEADLINES, "error_affine", "position_rms_px", "position_rms_affine_px", "probe_error")
"""Metrics of the table of flaws."""
KEYS = ("flaw", "kind", "size", "refined", "dose", "view", "split", "method", "metric")
COLUMNS = (*KEYS, "mean", "sd", "n")
"""Columns of the table of flaws, see `flaw_table`."""
NOTHING = "nothing"
"""In the column `refined`: the method took everything for exact."""
UNITS = {
    "positions": "rms error of positions [px]",
    "drift": "rms drift of positions [px]",
    "defocus": "error of the defocus, as a fraction",
    "modes": "missing modes of the probe",
    "flux": "standard deviation of the untold flux",
    "background": "untold background [photon/px]",
}
"""Kind of a flaw -> its size on an axis."""
DASHES = {"-": "refined", "--": "as told"}
"""Line of what is refined, and of what nothing is refined of."""
LABELS = {"error": HEADLINES["error"].label, "error_affine": "Relative error, affine map removed"}
"""Metric that is plotted -> its name on an axis."""


def flaw_table(
    metrics: pd.DataFrame, kinds: Mapping[str, Mapping[str, Any]], refined: Mapping[str, Mapping[str, Sequence[str]]]
) -> pd.DataFrame:
    """Tabulate the scores of every method under every flaw: mean and standard deviation over the repetitions.

    Parameters
    ----------
    metrics : DataFrame
        Columns dose, view, split, method, object (where there are several), flaw, seed, metric, value.
    kinds : dict of dict
        Flaw -> its `kind` and `size`, see `ptycho.workflow.knowledge.flaw_kind`.
    refined : dict of dict
        Flaw -> method -> what was refined for it, or by it.

    Returns
    -------
    DataFrame
        `COLUMNS`: `refined` is a text, `NOTHING` or names joined by +; `sd` is NaN for one repetition; metrics are
        those of `METRICS` that there are. Flaws and methods have the order of the study.
    """
    rows = metrics[metrics["metric"].isin(METRICS)]
    keys = ["flaw", "dose", "view", "split", "method", "metric"]
    table = rows.groupby(keys, sort=False)["value"].agg(["mean", "std", "count"]).reset_index()
    table = table.rename(columns={"std": "sd", "count": "n"})
    pairs = zip(table["flaw"], table["method"], strict=True)
    table["refined"] = ["+".join(refined[flaw][method]) or NOTHING for flaw, method in pairs]
    for column in ("kind", "size"):
        table[column] = [kinds[flaw][column] for flaw in table["flaw"]]
    order = table["flaw"].map({flaw: rank for rank, flaw in enumerate(kinds)})
    return table.iloc[np.argsort(order, kind="stable")][list(COLUMNS)].reset_index(drop=True)


def plot_flaws(table: pd.DataFrame, *, metric: str = "error", split: str = "test", name: StrPath = "flaws") -> Figure:
    """Plot an error against the size of flaws: a row of panels per kind, a panel per view and dose, a line per method.

    Parameters
    ----------
    table : DataFrame
        As `flaw_table` returns it.
    metric : str
        "error" or "error_affine".
    split : str
        What to plot.
    name : str or path
        The table, in messages.

    Returns
    -------
    Figure
        Means, ± one standard deviation where there are repetitions. Solid: something is refined; dashed: nothing is.
        What the study has of no error at all is at size 0. Flaws of several kinds have no size, and are left out.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the table has no such metric of a flaw with a size in that split.
    """
    rows = table[(table["metric"] == metric) & (table["split"] == split)]
    sized = rows[rows["size"].notna() & (rows["kind"] != EXACT)]
    if sized.empty:
        raise ContractError(f"{name}: no metric '{metric}' of a flaw with a size in split '{split}'; wanted one")
    kinds, methods = list(dict.fromkeys(sized["kind"])), list(dict.fromkeys(rows["method"]))
    conditions = list(dict.fromkeys(zip(sized["view"], sized["dose"], strict=True)))
    figure = new_figure(3.3 * len(conditions) + 0.6, 2.9 * len(kinds) + 1.0)
    panels = figure.subplots(len(kinds), len(conditions), sharey=True, sharex="row", squeeze=False)
    for kind, row in zip(kinds, panels, strict=True):
        for (view, dose), axes in zip(conditions, row, strict=True):
            here = rows[(rows["view"] == view) & (rows["dose"] == dose) & rows["kind"].isin((kind, EXACT))]
            for method in methods:
                _draw_method(axes, here[here["method"] == method], kind, line_style(method, methods))
            axes.set(xlabel=UNITS.get(kind, kind), yscale="log")
            axes.grid(alpha=0.3, which="both")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        row[0].set_ylabel(LABELS.get(metric, metric), fontsize="small")
    for (view, dose), axes in zip(conditions, panels[0], strict=True):
        axes.set_title(f"{view} view, {dose:,} photons per exposure", fontsize="medium")
    _add_legend(figure, methods, columns=3 * len(conditions))
    n = sorted(set(rows["n"]))
    spread = "mean ± standard deviation" if n[-1] > 1 else "no error bar"
    figure.supxlabel(f"{split} split, n = {n[0]}{f' to {n[-1]}' * (len(n) > 1)}: {spread}", fontsize="small")
    return figure


def _draw_method(axes: Axes, rows: pd.DataFrame, kind: str, style: Mapping[str, Any]) -> None:
    """Draw the lines of a method in one panel, one for each choice of what is refined; they start where it is exact."""
    for refined in dict.fromkeys(rows.loc[rows["kind"] == kind, "refined"]):
        line = rows[rows["refined"] == refined].sort_values("size", kind="stable")
        options: dict[str, Any] = {**style, "linestyle": "--" if refined == NOTHING else "-"}
        if refined == NOTHING:
            options["markerfacecolor"] = "white"
        axes.plot(line["size"], line["mean"], **options)
        repeated = line[line["n"] > 1]
        if len(repeated):
            axes.errorbar(
                repeated["size"], repeated["mean"], repeated["sd"], fmt="none", color=style["color"], capsize=3
            )


def _add_legend(figure: Figure, methods: Sequence[str], columns: int) -> None:
    """Explain colors and markers of the methods, and the two kinds of line."""
    styles: list[dict[str, Any]] = [{**line_style(method, methods), "linestyle": "none"} for method in methods]
    styles += [{"linestyle": dash, "label": text, "color": "#555555"} for dash, text in DASHES.items()]
    handles = [Line2D([], [], **style) for style in styles]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), columns))
