"""Figures of misfits: where on the sample and where on the detector a reconstruction does not predict the counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from ptycho.inspection.judgment import Judgment
from ptycho.reporting.figures import new_figure
from ptycho.reporting.image_panels import add_colorbar, color_scale, show_image
from ptycho.reporting.misfits import short_names
from ptycho.scoring.half_frc import WARNING

MIN_EXPECTED = 1.0
"""Expected deviance, summed over all exposures, below which a detector pixel is not shown: shot noise alone."""
_CURVES = {"amplitude": "#0072B2", "phase": "#D55E00"}


def plot_judgments(judgments: Sequence[Judgment], title: str, *, history: pd.DataFrame | None = None) -> Figure:
    """Plot every judged object, its misfit by exposure and by detector pixel, and the FRC of half scans where asked.

    Parameters
    ----------
    judgments : sequence of Judgment
        One row each; at least one.
    title : str
        Title of the figure.
    history : DataFrame, optional
        Columns `epoch` and `loss` of the first, for a panel more.
    """
    with_frc = any(judgment.curves is not None for judgment in judgments)
    columns = 4 + with_frc + (history is not None)
    figure = new_figure(3.9 * columns + 0.6, 3.4 * len(judgments) + 0.6)
    figure.suptitle(title)
    if with_frc:
        figure.supxlabel(WARNING, fontsize="small")
    rows = figure.subplots(len(judgments), columns, squeeze=False)
    names = short_names([judgment.candidate.path for judgment in judgments])
    for name, judgment, panels in zip(names, judgments, rows, strict=True):
        candidate, misfit = judgment.candidate, judgment.misfit
        box, origin = _scanned(judgment)
        for panel, part, image in (
            (panels[0], "amplitude", np.abs(candidate.object[box])),
            (panels[1], "phase", np.angle(candidate.object[box])),
        ):
            drawn = show_image(panel, image, origin, **color_scale(part, image))
            add_colorbar(panel, drawn, "amplitude" if part == "amplitude" else "phase [rad]")
            panel.set(xlabel="x [px]")
        panels[0].set(ylabel="y [px]", title=name)
        panels[1].set(title=f"misfit {misfit.ratio:.3g}, explained {judgment.explained:.3g}")
        plot_misfit_by_exposure(panels[2], candidate.xcoords, candidate.ycoords, misfit.by_exposure)
        shown = np.where(misfit.pixel_expected >= MIN_EXPECTED, misfit.by_pixel, np.nan)
        plot_misfit_by_pixel(panels[3], shown)
        if with_frc:
            _plot_half_frc(panels[4], judgment)
    if history is not None:
        rows[0, -1].plot(history["epoch"], history["loss"], color="#0072B2")
        rows[0, -1].set(title="loss", xlabel="epoch", yscale="log")
    return figure


def plot_misfit_by_exposure(
    axes: Axes, xcoords: NDArray[np.floating], ycoords: NDArray[np.floating], misfit: NDArray[np.floating]
) -> None:
    """Draw (m,) misfits at the (m,) positions of their exposures [px]."""
    points = axes.scatter(xcoords, ycoords, c=misfit, s=12, **_scale(misfit))
    axes.set(title="misfit by exposure", xlabel="x [px]", aspect="equal")
    axes.invert_yaxis()
    _add_misfit_bar(axes, points)


def plot_misfit_by_pixel(axes: Axes, misfit: NDArray[np.floating]) -> None:
    """Draw the (N, N) misfit of every detector pixel; NaN, where nothing is expected, is gray."""
    axes.set_facecolor("0.8")
    drawn = show_image(axes, misfit, **_scale(misfit))
    axes.set(title="misfit by detector pixel", xlabel="column", ylabel="row")
    _add_misfit_bar(axes, drawn)


def _add_misfit_bar(axes: Axes, drawn: AxesImage | PathCollection) -> None:
    """Draw a color bar with plain numbers at 1, 2 and 5 of every decade."""
    add_colorbar(axes, drawn, "deviance / expected")
    assert drawn.colorbar is not None
    drawn.colorbar.set_ticks(LogLocator(subs=(0.5, 1, 2, 5)), minor=False)
    drawn.colorbar.ax.yaxis.set_major_formatter("{x:g}")
    drawn.colorbar.ax.yaxis.set_minor_locator(NullLocator())


def _scale(misfit: NDArray[np.floating]) -> dict[str, Any]:
    """Logarithmic scale of misfits around 1; at most to the 99.5 % quantile."""
    finite = misfit[np.isfinite(misfit)]
    high = max(float(np.quantile(finite, 0.995)) if finite.size else 2.0, 2.0)
    return {"cmap": "cividis", "norm": LogNorm(0.5, high)}


def _scanned(judgment: Judgment) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """Return the box of the object around the patch centers, with a margin of a quarter window, and its first pixel."""
    candidate, margin = judgment.candidate, judgment.candidate.probe.shape[-1] // 4
    slices = []
    edges = zip((candidate.ycoords, candidate.xcoords), candidate.origin_px, candidate.object.shape, strict=True)
    for axis, origin, size in edges:
        low = int(np.clip(axis.min() - margin - origin, 0, size - 1))
        slices.append(slice(low, int(np.clip(axis.max() + margin - origin, low + 1, size))))
    y, x = slices
    return (y, x), (candidate.origin_px[0] + y.start, candidate.origin_px[1] + x.start)


def _plot_half_frc(axes: Axes, judgment: Judgment) -> None:
    axes.set(title="FRC of half scans", xlabel="spatial frequency / Nyquist", ylim=(-0.2, 1.03))
    if judgment.curves is None:
        return
    for part, color in _CURVES.items():
        curve = judgment.curves[judgment.curves["part"] == part]
        axes.plot(curve["frequency"], curve["frc"], color=color, label=part)
    axes.plot(curve["frequency"], curve["half-bit"], "k--", linewidth=1, label="½ bit")
    axes.legend(fontsize="small")
