"""The figure of a check: patterns, counts, positions, probe and orientation of a scan on one sheet."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ptycho.inspection.check import Check
from ptycho.inspection.findings import Verdict
from ptycho.inspection.flux import flux_of
from ptycho.inspection.orientation_search import OrientationSearch
from ptycho.physics.forward import as_modes, diffract
from ptycho.physics.probes import diameter_px
from ptycho.reporting.figures import new_figure
from ptycho.reporting.image_panels import add_colorbar, show_image

_SUSPECT, _FINE = "#D55E00", "#0072B2"


def plot_check(check: Check) -> Figure:
    """Plot what a check looked at: mean pattern and probe above, counts, positions and orientation below."""
    figure = new_figure(15.0, 8.6)
    errors = sum(finding.level == "error" for finding in check.verdict.findings)
    figure.suptitle(f"{check.scan.path.name}: {errors or 'no'} {'errors' if errors != 1 else 'error'}")
    panels = figure.subplots(2, 3)
    _plot_mean_pattern(panels[0, 0], check)
    _plot_beam_pattern(panels[0, 1], check)
    _plot_probe(panels[0, 2], check)
    _plot_counts(panels[1, 0], check)
    _plot_positions(panels[1, 1], check)
    if check.search is None:
        panels[1, 2].set_axis_off()
    else:
        _plot_orientation(panels[1, 2], check.search)
    return figure


def plot_unreadable(verdict: Verdict) -> Figure:
    """Write in a figure why a file could not be read."""
    figure = new_figure(10.0, 2.0)
    text = "\n".join(finding.text for finding in verdict.findings)
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True, color=_SUSPECT)
    return figure


def _plot_mean_pattern(axes: Axes, check: Check) -> None:
    pattern = np.where(check.bad_pixels, np.nan, check.statistics.mean_frame)
    _show_pattern(axes, pattern, "counts")
    rows, columns = np.nonzero(check.pixels.mask)
    if 0 < len(rows) <= 400:
        axes.plot(columns, rows, "o", markersize=5, markerfacecolor="none", markeredgecolor=_SUSPECT)
    axes.set_title(f"mean pattern, {int(check.bad_pixels.sum())} pixels masked or suspicious")


def _plot_beam_pattern(axes: Axes, check: Check) -> None:
    pattern = np.sum(np.abs(diffract(as_modes(check.scan.probe))) ** 2, axis=0)
    _show_pattern(axes, pattern, "photons")
    axes.set_title("pattern of the probe without a sample")


def _show_pattern(axes: Axes, pattern: np.ndarray, label: str) -> None:
    finite = pattern[np.isfinite(pattern) & (pattern > 0)]
    high = float(np.quantile(finite, 0.9999)) if finite.size else 1.0
    axes.set_facecolor("0.8")
    drawn = show_image(axes, np.maximum(pattern, 1e-6 * high), cmap="magma", norm=LogNorm(1e-5 * high, high))
    add_colorbar(axes, drawn, label)
    axes.set(xlabel="column", ylabel="row")


def _plot_probe(axes: Axes, check: Check) -> None:
    probe = as_modes(check.scan.probe)
    amplitude, n = np.sqrt(np.sum(np.abs(probe) ** 2, axis=0)), probe.shape[-1]
    add_colorbar(axes, show_image(axes, amplitude, cmap="magma", vmin=0), "√photon")
    axes.set(title=f"probe, {diameter_px(probe):.0f} of {n} px wide", xlabel="x [px]", ylabel="y [px]")


def _plot_counts(axes: Axes, check: Check) -> None:
    photons, usable = check.statistics.photons, check.usable
    numbers = np.arange(len(photons))
    axes.plot(numbers[usable], photons[usable], ".", color=_FINE, markersize=3)
    if not usable.all():
        axes.plot(numbers[~usable], photons[~usable], "x", color=_SUSPECT, label=f"{int((~usable).sum())} not usable")
    if check.jumps:
        level = np.median(photons[usable]) * flux_of(check.jumps, len(photons))
        axes.plot(numbers, level, color=_SUSPECT, label="proposed flux", linewidth=1)
    axes.set(title="counts of every exposure", xlabel="exposure", ylabel="counts", ylim=(0, None))
    if check.jumps or not usable.all():
        axes.legend(fontsize="small")


def _plot_positions(axes: Axes, check: Check) -> None:
    scan, usable = check.scan, check.usable
    points = axes.scatter(
        scan.xcoords[usable], scan.ycoords[usable], c=check.statistics.photons[usable], s=8, cmap="cividis"
    )
    axes.plot(scan.xcoords[~usable], scan.ycoords[~usable], "x", color=_SUSPECT)
    axes.set(title="positions", xlabel="x [px]", ylabel="y [px]", aspect="equal", facecolor="0.95")
    axes.invert_yaxis()
    add_colorbar(axes, points, "counts")


def _plot_orientation(axes: Axes, search: OrientationSearch) -> None:
    """Bars of the misfit of every turn with a free probe, and of the given probe in the orientations tried of it."""
    quick = {trial.orientation: trial.misfit for trial in search.quick}
    own = search.free_trial(search.as_is)
    for row, trial in enumerate(search.free):
        axes.barh(row, trial.misfit, color=_FINE if trial is search.free[0] else "#BBBBBB", height=0.6)
        same = [misfit for orientation, misfit in quick.items() if orientation.turn == trial.orientation.turn]
        axes.plot(same, [row] * len(same), "|", color="#000000", markersize=8)
    labels = [
        f"{trial.orientation.options}{' ← this scan' if trial is own else ''}".replace("(as it is) ←", "←")
        for trial in search.free
    ]
    axes.set_yticks(range(len(labels)), labels, fontsize="x-small")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="misfit (bar: free probe; strokes: probe as given, quick)", title="orientation")
