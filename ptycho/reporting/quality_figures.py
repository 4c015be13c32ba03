"""Figures of quality: scores against dose and fluence, error against CPU time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ptycho.reporting.figures import new_figure
from ptycho.reporting.headlines import HEADLINES
from ptycho.reporting.line_styles import BOUND_STYLE, line_style
from ptycho.reporting.tables import varied
from ptycho.scoring.metric_tables import FLUENCE, flaw_note, of_flaw, repeats
from ptycho.workflow.files import ContractError, StrPath


def plot_quality(
    metrics: pd.DataFrame,
    fluence: pd.DataFrame,
    bound: pd.DataFrame | None = None,
    *,
    metric: str = "ssim_phase",
    split: str = "test",
    name: StrPath = "metrics",
) -> Figure:
    """Plot quality against dose (top) and fluence (bottom): a panel per view, a line per method.

    Parameters
    ----------
    metrics : DataFrame
        Columns dose, view, split, method, object and flaw (where there are several), seed, metric, value. Of several
        flaws, the first is shown.
    fluence : DataFrame
        Columns dose, view, split, object (where there are several), seed, fluence_photons_per_px.
    bound : DataFrame, optional
        The photon limit, columns as in `metrics`; its mean is drawn if it has the metric.
    metric, split : str
        What to plot.
    name : str or path
        The table of metrics, in messages.

    Returns
    -------
    Figure
        Mean over the repetitions, ± one standard deviation where there is more than one; their number is stated.
        The lower panels repeat the lines of the other views faintly, to compare views at equal fluence. Axes end where
        the methods do; the photon limit may lie above.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the table has no such metric in that split, or no fluence for a condition.
    """
    note, metrics = flaw_note(metrics), of_flaw(metrics)
    rows = metrics[(metrics["metric"] == metric) & (metrics["split"] == split)]
    if rows.empty:
        raise ContractError(
            f"{name}: no metric '{metric}' in split '{split}'; the table has {sorted(metrics['metric'].unique())}"
        )
    condition = ["dose", "view", "split", *repeats(metrics)]
    rows = rows.merge(fluence[[*condition, FLUENCE]], on=condition, how="left", validate="many_to_one")
    if rows[FLUENCE].isna().any():
        missing = rows.loc[rows[FLUENCE].isna(), ["dose", "view"]].drop_duplicates().to_dict("records")
        raise ContractError(f"{name}: no fluence for {missing} in split '{split}'")
    statistics = _statistics(rows, "value", FLUENCE).sort_values("dose")
    limit = metrics.iloc[:0] if bound is None else bound[(bound["metric"] == metric) & (bound["split"] == split)]
    views, methods = list(dict.fromkeys(rows["view"])), list(dict.fromkeys(rows["method"]))
    figure = new_figure(4.2 * len(views) + 0.6, 7.0)
    panels = figure.subplots(2, len(views), sharex="row", sharey=True, squeeze=False)
    lines = [
        (view, line_style(method, methods), statistics[(statistics["view"] == view) & (statistics["method"] == method)])
        for view, method in dict.fromkeys(zip(statistics["view"], statistics["method"], strict=True))
    ]
    for (top, bottom), view in zip(panels.T, views, strict=True):
        for other_view, style, line in lines:
            if other_view == view:
                _draw_line(top, line, "dose", style)
                _draw_line(bottom, line, FLUENCE, style)
            else:
                bottom.plot(line[FLUENCE], line["mean"], color=style["color"], alpha=0.25)
        top.set(title=f"{view} view", xlabel="dose [photons per exposure]")
        bottom.set(xlabel="fluence [photons per object pixel]" + (len(views) > 1) * "; faint: other views")
    for axes in panels.ravel():  # the deviance grows with the dose
        axes.set(xscale="log", yscale="log" if metric in ("heldout_deviance", "heldout_misfit") else "linear")
        axes.grid(alpha=0.3)
    _draw_bound(panels, views, limit, statistics)
    for axes in panels[:, 0]:
        axes.set_ylabel(_metric_label(metric))
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.supxlabel(note + _sample_size(rows, statistics["count"], split), fontsize="small")
    return figure


def plot_cost(metrics: pd.DataFrame, *, split: str = "test", name: StrPath = "metrics") -> Figure:
    """Plot the error against the CPU time of a reconstruction: a panel per view, a marker per method and dose.

    Parameters
    ----------
    metrics : DataFrame
        As for `plot_quality`, with the metrics `error` and `cpu_s`.
    split : str
        What to plot.
    name : str or path
        The table, in messages.

    Returns
    -------
    Figure
        Means over the repetitions, ± one standard deviation where there is more than one. Training is not included.
        A gray line per dose shows the lowest error within a time.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If no method has both metrics, finite and above 0, in that split.
    """
    note, metrics = flaw_note(metrics), of_flaw(metrics)
    rows = metrics[metrics["metric"].isin(["error", "cpu_s"]) & (metrics["split"] == split)]
    measured = rows.pivot_table(index=["view", "method", "dose", *repeats(metrics)], columns="metric", values="value")
    measured = measured.reindex(columns=["error", "cpu_s"]).dropna().reset_index()
    known = measured[["error", "cpu_s"]]
    measured = measured[((known > 0) & np.isfinite(known)).all(axis=1)]
    if measured.empty:
        raise ContractError(
            f"{name}: no method with 'error' and 'cpu_s' above 0 in split '{split}'; wanted one at least"
        )
    statistics = _statistics(measured, "error", "cpu_s")
    views, methods = list(dict.fromkeys(rows["view"])), list(dict.fromkeys(rows["method"]))
    figure = new_figure(4.2 * len(views) + 0.6, 4.4)
    panels = figure.subplots(1, len(views), sharex=True, sharey=True, squeeze=False)[0]
    for axes, view in zip(panels, views, strict=True):
        of_view = statistics[statistics["view"] == view]
        _draw_best_within_time(axes, of_view)
        for method in methods:
            style = {**line_style(method, methods), "linestyle": "none"}
            _draw_line(axes, of_view[of_view["method"] == method], "cpu_s", style)
        axes.set(title=f"{view} view", xlabel="CPU time of a scan, without training [s]", xscale="log", yscale="log")
        axes.margins(x=0.25)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel(f"{_metric_label('error')}; lower is better")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(methods))
    sample_size = note + _sample_size(rows, statistics["count"], split)
    figure.supxlabel(
        f"gray: lowest error within a time, one line per dose [photons per exposure]\n{sample_size}", fontsize="small"
    )
    return figure


def _statistics(rows: pd.DataFrame, value: str, abscissa: str) -> pd.DataFrame:
    """Mean, std and count of a column and mean of another over the repetitions of each view, method and dose."""
    columns = {"mean": (value, "mean"), "std": (value, "std"), "count": (value, "count"), abscissa: (abscissa, "mean")}
    return rows.groupby(["view", "method", "dose"], sort=False).agg(**columns).reset_index()


def _draw_line(axes: Axes, line: pd.DataFrame, abscissa: str, style: dict[str, Any]) -> None:
    axes.plot(line[abscissa], line["mean"], **style)
    repeated = line[line["count"] > 1]
    if len(repeated):
        axes.errorbar(
            repeated[abscissa], repeated["mean"], repeated["std"], fmt="none", color=style["color"], capsize=3
        )


def _draw_bound(panels: np.ndarray, views: Sequence[str], bound: pd.DataFrame, statistics: pd.DataFrame) -> None:
    """Draw the photon limit in the panels of its view, against dose and against fluence; the axes' limits stay.

    Between doses it is a power law, as it is in theory.
    """
    style = {**BOUND_STYLE, "marker": "", "linestyle": "-", "linewidth": 1.2, "zorder": 0}
    for (top, bottom), view in zip(panels.T, views, strict=True):
        line = bound[bound["view"] == view].groupby("dose")["value"].mean()
        if line.empty:
            continue
        of_view = statistics[statistics["view"] == view]
        per_photon = float((of_view[FLUENCE] / of_view["dose"]).mean())
        doses = np.geomspace(line.index.min(), line.index.max(), 100 if len(line) > 1 else 1)
        values = np.exp(np.interp(np.log(doses), np.log(line.index), np.log(line)))
        for axes, factor in ((top, 1.0), (bottom, per_photon)):
            axes.set_ylim(axes.get_ylim())
            axes.plot(doses * factor, values, **(style if len(line) > 1 else {**style, "marker": "_"}))


def _draw_best_within_time(axes: Axes, statistics: pd.DataFrame) -> None:
    """Draw the lowest error within a time, a step line per dose."""
    for dose, line in statistics.groupby("dose"):
        line = line.sort_values("cpu_s")
        lowest = line["mean"].cummin()
        axes.plot(line["cpu_s"], lowest, color="#BBBBBB", drawstyle="steps-post", zorder=0)
        axes.annotate(
            f"{dose:,}",
            (line["cpu_s"].iloc[-1], lowest.iloc[-1]),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color="#666666",
        )


def _metric_label(metric: str) -> str:
    """Name of a metric on an axis, with its unit."""
    if metric in HEADLINES:
        return HEADLINES[metric].label
    kind, _, part = metric.rpartition("_")
    units = {"psnr": " [dB]", "frc50": " [Nyquist]"}
    unit = " [rad]" if part == "phase" and kind in ("mae", "rmse") else units.get(kind, "")
    names = {"ms_ssim": "MS-SSIM", "psnr": "PSNR", "mae": "MAE", "rmse": "RMSE", "frc50": "FRC = 0.5"}
    return f"{names[kind]} of {part}{unit}" if kind in names else metric.replace("_", " ")


def _sample_size(rows: pd.DataFrame, count: pd.Series, split: str) -> str:
    n = f"{count.min()}" if count.min() == count.max() else f"{count.min()} to {count.max()}"
    spread = "mean ± standard deviation over" if count.max() > 1 else "no error bar;"
    return f"{split} split, n = {n}: {spread} {varied(rows)}"
