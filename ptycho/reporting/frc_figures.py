"""Figures of Fourier ring correlations: with the truth, and between halves."""

from matplotlib.figure import Figure

from ptycho.reporting.curves import line_style
from ptycho.reporting.figures import new_figure
from ptycho.scoring.frc import frc_crossing

PARTS = ("amplitude", "phase")
_LOWEST_SSNR, _HIGHEST_SSNR = 1e-2, 1e4
_THRESHOLDS = {
    "1/7": ("#999999", ":", "threshold 1/7"),
    "half-bit": ("#000000", "--", "threshold ½ bit"),
    "1-bit": ("#666666", "-.", "threshold 1 bit"),
}


def plot_frc(curves, title: str) -> Figure:
    """FRC of every method with the truth, amplitude beside phase, and below it the signal-to-noise ratio it means.

    Parameters
    ----------
    curves : DataFrame
        Columns `method`, `part`, `frequency`, `frc`, `ssnr`.
    title : str
        Title of the figure.

    Returns
    -------
    Figure
        A mark where a curve first falls below 0.5, an SSNR of 1/3; the number is in the legend.
    """
    figure = new_figure(11.5, 7.2)
    figure.suptitle(title)
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    for level, axes in ((0.5, panels[0]), (1 / 3, panels[1])):
        for panel in axes:
            panel.axhline(level, color="#000000", linestyle="--", linewidth=1)
    for method in curves["method"].unique():
        style, found = line_style(method, list(curves["method"].unique())), []
        for part, (top, bottom) in zip(PARTS, panels.T, strict=True):
            curve = curves[(curves["method"] == method) & (curves["part"] == part)]
            found.append(frc_crossing(curve["frequency"].to_numpy(), curve["frc"].to_numpy()))
            _draw(top, curve, "frc", style, (found[-1], 0.5))
            _draw(bottom, curve, "ssnr", style, (found[-1], 1 / 3))
        panels[0, 0].lines[-1].set_label(f"{style['label']}: " + ", ".join(map(_said, found)))
    for part, (top, bottom) in zip(PARTS, panels.T, strict=True):
        top.set(title=part, ylim=(-0.2, 1.03))
        bottom.set(yscale="log", ylim=(_LOWEST_SSNR, _HIGHEST_SSNR), xlabel="spatial frequency / Nyquist")
    panels[0, 0].set_ylabel("FRC with the truth")
    panels[1, 0].set_ylabel("spectral signal-to-noise ratio")
    _finish(figure, panels, "first below 0.5 at\n(amplitude, phase)")
    figure.supxlabel("dashed: FRC = 0.5, a signal-to-noise ratio of 1/3", fontsize="small")
    return figure


def plot_half_frc(curves, title: str, warning: str) -> Figure:
    """FRC between the reconstructions of two independent halves, amplitude beside phase, with its thresholds.

    Parameters
    ----------
    curves : DataFrame
        Columns `method`, `part`, `frequency`, `frc`, and the thresholds `1/7`, `half-bit`, `1-bit`.
    title, warning : str
        Title of the figure; what must be known to read it, shown below the title.

    Returns
    -------
    Figure
        The legend says where each curve first falls below each threshold.
    """
    figure = new_figure(13.0, 5.0)
    figure.suptitle(f"{title}\n{warning}")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for method in curves["method"].unique():
        style, said = line_style(method, list(curves["method"].unique())), []
        for part, axes in zip(PARTS, panels, strict=True):
            curve = curves[(curves["method"] == method) & (curves["part"] == part)]
            arrays = curve["frequency"].to_numpy(), curve["frc"].to_numpy()
            found = [frc_crossing(*arrays, curve[name].to_numpy()) for name in _THRESHOLDS]
            said.append(f"{part} " + ", ".join(map(_said, found)))
            _draw(axes, curve, "frc", style)
        panels[0].lines[-1].set_label("\n".join([style["label"], *said]))
    for part, axes in zip(PARTS, panels, strict=True):
        for name, (color, dash, label) in _THRESHOLDS.items():
            axes.plot(curve["frequency"], curve[name], color=color, linestyle=dash, linewidth=1, label=label)
        axes.set(title=part, ylim=(-0.2, 1.03), xlabel="spatial frequency / Nyquist")
    panels[0].set_ylabel("FRC between two halves of the photons")
    _finish(figure, panels, "first below 1/7, ½ bit, 1 bit at")
    return figure


def _draw(axes, curve, column: str, style: dict, mark=None) -> None:
    if mark is not None and mark[0] < 1:
        large = {"markersize": 9, "markeredgecolor": "#000000", "label": "_"}
        axes.plot(*mark, marker=style["marker"], color=style["color"], **large)
    values = curve[column].clip(upper=_HIGHEST_SSNR)  # an SSNR may be infinite
    axes.plot(curve["frequency"], values, **{**style, "label": "_"}, markevery=0.12, markersize=5)


def _said(crossing: float) -> str:
    """Frequency of a crossing in three digits; a curve that stays above crosses nowhere."""
    return "never" if crossing == 1 else f"{crossing:.2f}" if crossing >= 0.1 else f"{crossing:.3f}"


def _finish(figure, panels, title: str) -> None:
    for axes in panels.ravel():
        axes.set_xlim(0, 1)
        axes.grid(alpha=0.3)
    figure.legend(*panels.ravel()[0].get_legend_handles_labels(), loc="outside right upper", title=title)
