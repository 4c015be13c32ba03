"""Figures of Fourier ring correlations: with the truth or reference, and between halves."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ptycho.data.tables import read_table
from ptycho.reporting.figures import new_figure
from ptycho.reporting.headlines import ReferenceName
from ptycho.reporting.line_styles import line_style
from ptycho.scoring.frc import TABLE_COLUMNS, TRUTH_THRESHOLD, frc_crossing, ssnr_of_truth
from ptycho.scoring.metrics import PARTS
from ptycho.workflow.files import ContractError, StrPath

_MIN_SSNR, _MAX_SSNR = 1e-2, 1e4
_THRESHOLDS = {
    "1/7": ("#999999", ":", "threshold 1/7"),
    "half-bit": ("#000000", "--", "threshold ½ bit"),
    "1-bit": ("#666666", "-.", "threshold 1 bit"),
}


def read_frc(path: StrPath) -> pd.DataFrame:
    """Read the FRC of several methods with the truth.

    Parameters
    ----------
    path : path
        CSV of `ptycho.scoring.evaluate.frc_table`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it is no such table, or a method has no rows of a part.
    """
    curves = read_table(path, *TABLE_COLUMNS)
    for method, rows in curves.groupby("method"):
        if missing := set(PARTS) - set(rows["part"]):
            raise ContractError(f"{path}: no rows of {method}, {missing.pop()}; wanted {' and '.join(PARTS)} of each")
    return curves


def plot_frc(curves: pd.DataFrame, title: str, *, reference_name: ReferenceName = "truth") -> Figure:
    """Plot every method's FRC with the truth or reference, and below it the signal-to-noise ratio that it implies.

    Parameters
    ----------
    curves : DataFrame
        Columns `method`, `part`, `frequency`, `frc`, `ssnr`, as `ptycho.scoring.evaluate.frc_table` returns them.
    title : str
        Title of the figure.
    reference_name : {"truth", "reference"}
        What the methods are scored against, and its name in the figure.

    Returns
    -------
    Figure
        A large marker shows where a curve first falls below `TRUTH_THRESHOLD`; the legend gives the frequency.
    """
    figure = new_figure(11.5, 7.2)
    figure.suptitle(title)
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    ssnr = float(ssnr_of_truth(TRUTH_THRESHOLD))
    for limit, row in zip((TRUTH_THRESHOLD, ssnr), panels, strict=True):
        for axes in row:
            axes.axhline(limit, color="#000000", linestyle="--", linewidth=1)
    methods = list(curves["method"].unique())
    for method in methods:
        style, crossings = line_style(method, methods), []
        for part, (top, bottom) in zip(PARTS, panels.T, strict=True):
            curve = curves[(curves["method"] == method) & (curves["part"] == part)]
            crossing = frc_crossing(curve["frequency"].to_numpy(), curve["frc"].to_numpy())
            crossings.append(_crossing_text(crossing))
            _draw(top, curve, "frc", style, (crossing, TRUTH_THRESHOLD))
            _draw(bottom, curve, "ssnr", style, (crossing, ssnr))
        panels[0, 0].lines[-1].set_label(f"{style['label']}: {', '.join(crossings)}")
    for part, (top, bottom) in zip(PARTS, panels.T, strict=True):
        top.set(title=part, ylim=(-0.2, 1.03))
        bottom.set(yscale="log", ylim=(_MIN_SSNR, _MAX_SSNR), xlabel="spatial frequency / Nyquist")
    panels[0, 0].set_ylabel(f"FRC with the {reference_name}")
    panels[1, 0].set_ylabel("spectral signal-to-noise ratio")
    _finish(figure, panels, f"first below {TRUTH_THRESHOLD} at\n(amplitude, phase)")
    figure.supxlabel(f"dashed: FRC = {TRUTH_THRESHOLD}, a signal-to-noise ratio of {ssnr:.3g}", fontsize="small")
    return figure


def plot_half_frc(curves: pd.DataFrame, title: str, warning: str) -> Figure:
    """Plot every method's FRC between two independent halves, amplitude beside phase, with its thresholds.

    Parameters
    ----------
    curves : DataFrame
        Columns `method`, `part`, `frequency`, `frc`, and the thresholds `1/7`, `half-bit`, `1-bit`, as
        `ptycho.scoring.half_frc.half_frc` returns them.
    title, warning : str
        Title of the figure, and what a reader must know, shown below it.

    Returns
    -------
    Figure
        The legend gives the frequencies at which each curve first falls below each threshold.
    """
    figure = new_figure(13.0, 5.0)
    figure.suptitle(f"{title}\n{warning}", fontsize="medium")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    methods = list(curves["method"].unique())
    for method in methods:
        style, legend = line_style(method, methods), []
        for part, axes in zip(PARTS, panels, strict=True):
            curve = curves[(curves["method"] == method) & (curves["part"] == part)]
            frequency, correlation = curve["frequency"].to_numpy(), curve["frc"].to_numpy()
            crossings = (frc_crossing(frequency, correlation, curve[name].to_numpy()) for name in _THRESHOLDS)
            legend.append(f"{part} {', '.join(map(_crossing_text, crossings))}")
            _draw(axes, curve, "frc", style)
        panels[0].lines[-1].set_label("\n".join([style["label"], *legend]))
    for part, axes in zip(PARTS, panels, strict=True):
        curve = curves[(curves["method"] == methods[0]) & (curves["part"] == part)]  # thresholds are common
        for name, (color, dash, label) in _THRESHOLDS.items():
            axes.plot(curve["frequency"], curve[name], color=color, linestyle=dash, linewidth=1, label=label)
        axes.set(title=part, ylim=(-0.2, 1.03), xlabel="spatial frequency / Nyquist")
    panels[0].set_ylabel("FRC between two halves of the photons")
    _finish(figure, panels, "first below 1/7, ½ bit, 1 bit at")
    return figure


def _draw(
    axes: Axes, curve: pd.DataFrame, column: str, style: dict[str, Any], crossing: tuple[float, float] | None = None
) -> None:
    """Draw a curve, and a large marker at its crossing unless it never crosses."""
    if crossing is not None and crossing[0] < 1:
        axes.plot(
            *crossing, marker=style["marker"], color=style["color"], markersize=9, markeredgecolor="#000000", label="_"
        )
    values = curve[column].clip(upper=_MAX_SSNR)  # an SSNR may be infinite
    axes.plot(curve["frequency"], values, **{**style, "label": "_"}, markevery=0.12, markersize=5)


def _crossing_text(crossing: float) -> str:
    """Frequency of a crossing with three digits; 'never' for a curve that stays above."""
    return "never" if crossing == 1 else f"{crossing:.2f}" if crossing >= 0.1 else f"{crossing:.3f}"


def _finish(figure: Figure, panels: NDArray[np.object_], legend_title: str) -> None:
    for axes in panels.ravel():
        axes.set_xlim(0, 1)
        axes.grid(alpha=0.3)
    figure.legend(*panels.ravel()[0].get_legend_handles_labels(), loc="outside right upper", title=legend_title)
