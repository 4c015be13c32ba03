"""The figure of the price of resolution: dose against resolution; `ptycho.scoring.price` computes it."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptycho.reporting.figures import new_figure
from ptycho.reporting.line_styles import line_style
from ptycho.scoring.metric_tables import FLUENCE, PHOTON_LIMIT, flaw_note, of_flaw
from ptycho.scoring.price import AT_LOWEST, NO_VALUE, NOT_REACHED, PARTLY, REACHED

_ZONE = 4.0  # factor beyond the study's doses in which the figure shows what is not reached, or reached before


def plot_price(price: pd.DataFrame, fluence: pd.DataFrame) -> Figure:
    """Plot the dose at which a resolution is reached: a row of panels per split, a panel per view, a line per method.

    Parameters
    ----------
    price : DataFrame
        As `ptycho.scoring.price.price_table` returns it; of several flaws, the first is shown.
    fluence : DataFrame
        Columns dose, view, split, fluence_photons_per_px.

    Returns
    -------
    Figure
        Geometric means with their standard deviation. Hollow markers are above the highest dose: not reached; below the
        lowest: reached there already; between: reached by some repetitions only, or at the lowest dose by some. The
        right axis is the fluence.
    """
    note, price = flaw_note(price), of_flaw(price)
    splits, views = (list(dict.fromkeys(price[name])) for name in ("split", "view"))
    methods, targets = (list(dict.fromkeys(price[name])) for name in ("method", "resolution"))
    figure = new_figure(4.6 * len(views) + 0.6, 4.2 * len(splits) + 0.8)
    panels = figure.subplots(len(splits), len(views), sharex=True, sharey=True, squeeze=False)
    low, high = fluence["dose"].min(), fluence["dose"].max()
    step = 0.5 * min(np.diff(sorted(targets)), default=0.25) / max(len(methods), 1)
    for split, row_of_panels in zip(splits, panels, strict=True):
        for view, axes in zip(views, row_of_panels, strict=True):
            here = price[(price["split"] == split) & (price["view"] == view)]
            for rank, method in enumerate(methods):
                offset = step * (rank - (len(methods) - 1) / 2)
                style = line_style(method, methods)
                _draw_prices(axes, here[here["method"] == method], offset, (low, high), style)
            _draw_zones(axes, low, high)
            title = f"{view} view" + (f", {split} split" if len(splits) > 1 else "")
            axes.set(title=title, yscale="log", ylim=(low / _ZONE, high * _ZONE), xticks=targets)
            axes.grid(alpha=0.3)
            of_view = fluence[(fluence["split"] == split) & (fluence["view"] == view)]
            per_photon = float((of_view[FLUENCE] / of_view["dose"]).mean())
            right = axes.secondary_yaxis("right", functions=_proportional(per_photon))
            if view == views[-1]:
                right.set_ylabel("photons per object pixel")
    for axes in panels[:, 0]:
        axes.set_ylabel("dose [photons per exposure]")
    for axes in panels[-1]:
        axes.set_xlabel("resolution, FRC of phase = 0.5 [Nyquist]")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=min(len(methods), 6))
    n = price.loc[price["method"] != PHOTON_LIMIT, "n"].max()
    spread = f"n = {n}: geometric mean, bars: ×/÷ standard deviation" if n > 1 else "n = 1: no error bar"
    figure.supxlabel(
        f"{note}{spread}; hollow: beyond the study's doses in some repetition, or not reached in all", fontsize="small"
    )
    return figure


def _draw_prices(
    axes: Axes, rows: pd.DataFrame, offset: float, doses: tuple[float, float], style: dict[str, Any]
) -> None:
    """Draw one method in one panel, moved sideways so that markers do not hide each other."""
    low, high = doses
    place = {NOT_REACHED: high * np.sqrt(_ZONE), AT_LOWEST: low / np.sqrt(_ZONE)}
    shown = [row for row in rows.sort_values("resolution").to_dict("records") if row["status"] != NO_VALUE]
    where = {row["resolution"]: place.get(row["status"], row["dose_photons"]) for row in shown}
    for row in shown:
        x, y, color = row["resolution"] + offset, where[row["resolution"]], style["color"]
        face = color if row["status"] == REACHED and not row["upper_limit"] else "white"
        axes.plot(x, y, marker=style["marker"], color=color, markerfacecolor=face, linestyle="none", zorder=3)
        if np.isfinite(row["sd_factor"]):
            error = [[y - y / row["sd_factor"]], [y * row["sd_factor"] - y]]
            axes.errorbar(x, y, error, fmt="none", color=color, capsize=3)
    inside = [row["resolution"] for row in shown if row["status"] in (REACHED, PARTLY)]
    axes.plot([x + offset for x in inside], [where[x] for x in inside], **style)


def _draw_zones(axes: Axes, low: float, high: float) -> None:
    for edge, end, text in ((high, high * _ZONE, "not reached"), (low, low / _ZONE, "reached at the lowest dose")):
        axes.axhspan(min(edge, end), max(edge, end), color="#EEEEEE", zorder=0)
        axes.axhline(edge, color="#999999", linewidth=0.8, zorder=0)
        at = edge * (end / edge) ** 0.85
        axes.text(0.02, at, text, transform=axes.get_yaxis_transform(), va="center", fontsize="small", color="#666666")


def _proportional(factor: float) -> tuple[Any, Any]:
    """Functions that multiply by a factor, and divide by it."""
    return (lambda value: value * factor), (lambda value: value / factor)
