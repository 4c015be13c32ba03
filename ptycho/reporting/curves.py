"""Curves: progress of training and iteration, choice of a prior's tv_weight, and the study's quality against dose."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from ptycho.methods import METHODS
from ptycho.reporting.figures import new_figure
from ptycho.reporting.tables import FLUENCE, repeats, varied

MOST_NAMED = 8
"""Tiles whose best rows are named in a learning curve."""
_OTHERS = (("#000000", "X"), ("#999999", "*"))  # methods that METHODS does not list


def plot_training(history) -> Figure:
    """Loss against epoch, the learning rate below it, and between them what decides which weights are kept.

    Parameters
    ----------
    history : DataFrame
        Columns `epoch`, `loss`, `learning_rate`, and `validation_deviance` (Poisson misfit of photons held out, lower is
        better) if there is one: its best row is marked, of every `tile` if there is such a column.
    """
    judged = "validation_deviance" in history
    figure = new_figure(6.4, 6.4 if judged else 4.8)
    panels = figure.subplots(2 + judged, 1, sharex=True, height_ratios=[3, *[3] * judged, 1])
    top, bottom = panels[0], panels[-1]
    top.plot(history["epoch"], history["loss"], ".-", color="#0072B2")
    top.set(ylabel="training loss", yscale="log" if np.nanmin(history["loss"]) > 0 else "linear")
    bottom.plot(history["epoch"], history["learning_rate"], color="#000000", drawstyle="steps-pre")
    bottom.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    if judged:
        panels[1].set_ylabel("held out:\nPoisson misfit")
        tiles = history.groupby("tile", sort=False) if "tile" in history else [("", history)]
        for tile, rows in tiles:
            panels[1].plot(rows["epoch"], rows["validation_deviance"], ".-", color="#D55E00")
            kept = rows["epoch"][rows["validation_deviance"].idxmin()]
            name = f"kept: epoch {kept:.2f}" + (f" (tile {tile})" if tile else "")
            for axes in panels:
                axes.axvline(kept, color="#000000", linestyle=":", label=name)
        if len(tiles) <= MOST_NAMED:
            panels[1].legend()
    _finish_curves(panels)
    return figure


def plot_early_stopping(history, chosen_epoch: int) -> Figure:
    """Misfit of the exposures fitted, and of those held back to stop on, against epoch.

    Parameters
    ----------
    history : DataFrame
        Columns `epoch`, `loss` (what the solver minimizes) and `validation_deviance` (Poisson misfit of the `stop` exposures,
        lower is better); where one was not evaluated it is NaN.
    chosen_epoch : int
        Epoch whose object is kept.
    """
    figure = new_figure(6.4, 4.8)
    top, bottom = figure.subplots(2, 1, sharex=True)
    for axes, column, label, color in (
        (top, "validation_deviance", "stop exposures:\nPoisson misfit", "#D55E00"),
        (bottom, "loss", "training loss", "#0072B2"),
    ):
        rows = history.dropna(subset=[column])
        axes.plot(rows["epoch"], rows[column], ".-", color=color)
        axes.axvline(chosen_epoch, color="#000000", linestyle=":", label=f"kept: epoch {chosen_epoch}")
        axes.set_ylabel(label)
    top.legend()
    bottom.set_xlabel("epoch")
    _finish_curves([top, bottom])
    return figure


def plot_tv_weight(history, chosen: float) -> Figure:
    """Deviance of the photons set apart against the tv_weight of a prior.

    Parameters
    ----------
    history : DataFrame
        Columns `tv_weight` and `validation_deviance`; NaN where it was not evaluated.
    chosen : float
        Strength that is used.
    """
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    rows = history.dropna(subset=["validation_deviance"]).sort_values("tv_weight")
    axes.semilogx(rows["tv_weight"], rows["validation_deviance"], ".-", color="#D55E00")
    axes.axvline(chosen, color="#000000", linestyle=":", label=f"chosen: {chosen:.3g}")
    axes.set(xlabel="tv_weight of the prior", ylabel="photons set apart:\nPoisson misfit")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def plot_quality(metrics, fluence, *, metric: str = "ssim_phase", split: str = "test") -> Figure:
    """Quality against dose (above) and fluence (below): a panel a view, a line a method.

    Parameters
    ----------
    metrics : DataFrame
        Tidy: columns `dose`, `view`, `split`, `method`, `seed`, `metric`, `value`.
    fluence : DataFrame
        Columns `dose`, `view`, `split`, `seed`, `fluence_photons_per_px`.
    metric, split : str
        What is drawn.

    Returns
    -------
    Figure
        Mean over seeds (of noise and training), ± one standard deviation where there is more than one; n is stated.
        The lower panels repeat the other views' lines, faintly: at equal fluence the views can be compared.

    Raises
    ------
    ValueError
        If the table has no such metric in that split, or no fluence for a condition.
    """
    rows = metrics[(metrics["metric"] == metric) & (metrics["split"] == split)]
    if rows.empty:
        raise ValueError(f"no metric '{metric}' in split '{split}'; the table has {sorted(metrics['metric'].unique())}")
    condition = ["dose", "view", "split", *repeats(metrics)]
    rows = rows.merge(fluence[[*condition, FLUENCE]], on=condition, how="left", validate="many_to_one")
    if rows[FLUENCE].isna().any():
        missing = rows.loc[rows[FLUENCE].isna(), ["dose", "view"]].drop_duplicates().to_dict("records")
        raise ValueError(f"no fluence for {missing} in split '{split}'")
    found = rows.groupby(["view", "method", "dose"], sort=False)
    table = found.agg(
        **{"mean": ("value", "mean"), "std": ("value", "std"), "count": ("value", "count"), FLUENCE: (FLUENCE, "mean")}
    )
    table = table.reset_index().sort_values("dose")
    views, methods = list(dict.fromkeys(rows["view"])), list(dict.fromkeys(rows["method"]))
    figure = new_figure(4.2 * len(views) + 0.6, 7.0)
    panels = figure.subplots(2, len(views), sharex="row", sharey=True, squeeze=False)
    for column, name in enumerate(views):
        for (other, method), line in table.groupby(["view", "method"], sort=False):
            style = line_style(method, methods)
            if other == name:
                _draw_line(panels[0, column], line, "dose", style)
                _draw_line(panels[1, column], line, FLUENCE, style)
            else:
                panels[1, column].plot(line[FLUENCE], line["mean"], color=style["color"], alpha=0.25)
        panels[0, column].set(title=f"{name} view", xlabel="dose [photons per exposure]")
        panels[1, column].set(xlabel="fluence [photons per object pixel]" + (len(views) > 1) * "; faint: other views")
    for axes in panels.ravel():
        axes.set(xscale="log", yscale="log" if metric == "heldout_deviance" else "linear")  # it grows with the dose
        axes.grid(alpha=0.3)
    for axes in panels[:, 0]:
        axes.set_ylabel(_pretty(metric))
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(methods))
    figure.supxlabel(_samples(rows, table["count"], split), fontsize="small")
    return figure


def plot_cost(metrics, *, split: str = "test") -> Figure:
    """Error against the CPU time of a reconstruction: a panel a view, a mark a method, a curve of the best a dose.

    Parameters
    ----------
    metrics : DataFrame
        As of `plot_quality`, with the metrics `error` and `cpu_s`.
    split : str
        What is drawn.

    Returns
    -------
    Figure
        Means over seeds, ± one standard deviation where there is more than one. Training is not in it.
    """
    rows = metrics[metrics["metric"].isin(["error", "cpu_s"]) & (metrics["split"] == split)]
    found = rows.pivot_table(index=["view", "method", "dose", *repeats(metrics)], columns="metric", values="value")
    found = found.reindex(columns=["error", "cpu_s"]).dropna().reset_index()  # of what was measured
    table = found.groupby(["view", "method", "dose"], sort=False, as_index=False).agg(
        **{"mean": ("error", "mean"), "std": ("error", "std"), "count": ("error", "count"), "cpu_s": ("cpu_s", "mean")}
    )
    views, methods = list(dict.fromkeys(rows["view"])), list(dict.fromkeys(rows["method"]))
    figure = new_figure(4.2 * len(views) + 0.6, 4.4)
    panels = figure.subplots(1, len(views), sharex=True, sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, views, strict=True):
        of_view = table[table["view"] == name]
        for dose, line in of_view.groupby("dose"):
            line = line.sort_values("cpu_s")
            best = line["mean"].cummin()
            axes.plot(line["cpu_s"], best, color="#BBBBBB", drawstyle="steps-post", zorder=0)
            where = {"textcoords": "offset points", "xytext": (8, 0), "va": "center"}
            axes.annotate(
                f"{dose:,}", (line["cpu_s"].iloc[-1], best.iloc[-1]), fontsize="small", color="#666666", **where
            )
        for method in methods:
            style = {**line_style(method, methods), "linestyle": "none"}
            _draw_line(axes, of_view[of_view["method"] == method], "cpu_s", style)
        axes.set(title=f"{name} view", xlabel="CPU time of a scan [s], training left out", xscale="log", yscale="log")
        axes.margins(x=0.25)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("error; lower is better")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(methods))
    figure.supxlabel(
        f"gray: the best within that time at a dose [photons per exposure]\n{_samples(rows, table['count'], split)}",
        fontsize="small",
    )
    return figure


def _finish_curves(panels) -> None:
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for axes in panels:
        axes.grid(alpha=0.3)


def _draw_line(axes, line, abscissa: str, style: dict) -> None:
    axes.plot(line[abscissa], line["mean"], **style)
    repeated = line[line["count"] > 1]
    if len(repeated):
        axes.errorbar(
            repeated[abscissa], repeated["mean"], repeated["std"], fmt="none", color=style["color"], capsize=3
        )


def _pretty(metric: str) -> str:
    kind, _, of = metric.rpartition("_")
    unit = {"psnr": " [dB]", "frc50": " [Nyquist]"}.get(
        kind, " [rad]" if of == "phase" and kind in ("mae", "rmse") else ""
    )
    if metric == "heldout_deviance":
        return "deviance per pixel of held-out exposures"
    names = {"ssim": "SSIM", "ms_ssim": "MS-SSIM", "psnr": "PSNR", "mae": "MAE", "rmse": "RMSE", "frc50": "FRC = 0.5"}
    return f"{names[kind]} of {of}{unit}" if kind in names else metric.replace("_", " ")


def _samples(rows, count, split: str) -> str:
    n = f"{count.min()}" if count.min() == count.max() else f"{count.min()} to {count.max()}"
    spread = "mean ± standard deviation over" if count.max() > 1 else "no error bar;"
    return f"{split} split, n = {n}: {spread} {varied(rows)}"


def line_style(method: str, methods) -> dict:
    """Return how a method of a figure is drawn; those that `METHODS` does not list share a few styles."""
    if method in METHODS:
        return METHODS[method].style
    color, marker = _OTHERS[[m for m in methods if m not in METHODS].index(method) % len(_OTHERS)]
    return {"label": method, "color": color, "marker": marker, "linestyle": ":"}
