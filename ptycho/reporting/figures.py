"""Figures of samples, views and reconstructions. Every function returns a Matplotlib `Figure`; `save` writes it.

No figure is known to pyplot or any other global state. Lines have the colors of Okabe and Ito, and one marker and dash
each; for images see `ptycho.reporting.image_panels`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ptycho.methods import method_name
from ptycho.reporting.figure_files import check_complete, check_name
from ptycho.reporting.headlines import ReferenceName
from ptycho.reporting.image_panels import CYCLIC, ERROR_MAP, add_colorbar, color_scale, show_image
from ptycho.scoring.metrics import PARTS
from ptycho.workflow.files import StrPath, replacing

DPI = 120
"""Resolution of saved figures [dots/inch]."""

_ROLE_STYLES = {"fit": ("#56B4E9", "o"), "validation": ("#E69F00", "s"), "holdout": ("#000000", "^")}
_SPLIT_STYLES = {"train": ("#0072B2", "o"), "test": ("#D55E00", "s")}
_DARK = 1e-2  # of the probe's peak intensity; the phase of darker pixels is not shown
_WAVE_LABELS = ("amplitude", "phase [rad]")
_UNITS = {"amplitude": "", "phase": " [rad]"}


def save(figure: Figure, path: StrPath, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a figure; the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
        What to write.
    path : path
        PNG, PDF or SVG, by its suffix; complete or absent.
    provenance : dict, optional
        Record of what made the figure; stored in a PNG.

    Raises
    ------
    ContractError, WriteError
        If the name has another suffix; if the file could not be written completely: what was there before, still is.
    """
    path = Path(path)
    check_name(path)
    record = {} if provenance is None else {"provenance": json.dumps(provenance)}
    undated = {".png": {"Software": None, **record}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with rc_context({"svg.hashsalt": "ptycho"}), replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata=undated.get(path.suffix))
        check_complete(temporary, path)


def plot_comparison(
    arrays: Mapping[str, NDArray[np.complexfloating]],
    metrics: Mapping[str, Mapping[str, float]],
    title: str,
    *,
    origin_px: Sequence[int] = (0, 0),
    warnings: Sequence[str] = (),
    reference_name: ReferenceName = "truth",
) -> Figure:
    """Plot truth or reference and methods side by side: amplitude, phase, and their errors.

    Parameters
    ----------
    arrays : dict of (h, w) complex
        "truth" (in a measured study the reference), and method -> its object without gauge, as
        `ptycho.scoring.evaluate.compare` returns them; columns are in this order.
    metrics : dict of dict
        Method -> metric -> value; `ssim_amplitude`, `ssim_phase` and `error` are shown where present.
    title : str
        Title of the figure.
    origin_px : (int, int)
        Row and column of the region's first pixel, where the axes start.
    warnings : sequence of str
        Warnings, shown below the panels, one line each.
    reference_name : {"truth", "reference"}
        What the methods are scored against, and its name in the figure.

    Returns
    -------
    Figure
        4 rows × (1 + methods) columns. A row shares one color scale, from the 0.5 to the 99.5 % quantile of the truth;
        errors have half that range on either side of 0.
    """
    truth = arrays["truth"]
    columns = {"truth": truth, **arrays}  # the truth comes first
    figure = new_figure(2.5 * len(columns) + 1.0, 4 * np.clip(2.3 * truth.shape[0] / truth.shape[1], 1.3, 6) + 1.5)
    figure.suptitle(title)
    if warnings:
        figure.supxlabel("\n".join(f"WARNING: {text}" for text in warnings), color="#D55E00", fontsize="medium")
    axes = figure.subplots(4, len(columns), sharex=True, sharey=True, squeeze=False)
    for row, (part, images) in enumerate(PARTS.items()):
        colors = color_scale(part, images(truth, truth)[1])
        half = max((colors["vmax"] - colors["vmin"]) / 2, 1e-6)
        for (method, obj), panel, below in zip(columns.items(), axes[row], axes[row + 2], strict=True):
            image, true_image = images(obj, truth)
            value_map = show_image(panel, image, origin_px, **colors)
            error_map = show_image(below, image - true_image, origin_px, vmin=-half, vmax=half, cmap=ERROR_MAP)
            name = reference_name if method == "truth" else method_name(method)
            panel.set_title(_panel_title(name, metrics.get(method, {}), part), fontsize="medium")
        figure.colorbar(value_map, ax=axes[row], label=part + _UNITS[part], extend="both", aspect=15)
        figure.colorbar(error_map, ax=axes[row + 2], label="error" + _UNITS[part], extend="both", aspect=15)
        axes[row + 2, 0].clear()
        _write_beside(axes[row + 2, 0], f"{part}:\nmethod − {reference_name}")
    for panel in (*axes[:2, 0], *axes[2:, min(1, len(columns) - 1)]):
        panel.set_ylabel("y [px]")
        panel.tick_params(labelleft=True)
    for panel in (axes[1, 0], *axes[-1, 1:]):
        panel.set_xlabel("x [px]")
        panel.tick_params(labelbottom=True)
    return figure


def plot_sample(
    obj: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    positions: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    guard_px: tuple[float, float] | None = None,
    reference_name: ReferenceName = "truth",
) -> Figure:
    """Plot the sample with the exposures of both splits, and the probe.

    Parameters
    ----------
    obj : (H, W) complex
        Object, pixel [0, 0] at coordinate 0.
    probe : (n, n) or (modes, n, n) complex
        Probe [sqrt(photon)]; its strongest mode is shown.
    positions : dict of ((M,), (M,)) float
        Split -> xcoords, ycoords of its patch centers [px].
    guard_px : (float, float), optional
        Guard band between the splits: y of the last train and of the first test exposure [px].
    reference_name : {"truth", "reference"}
        What the object is; only a reference is labeled as such.
    """
    modes = np.reshape(probe, (-1, *np.shape(probe)[-2:]))
    mode = modes[np.argmax(np.sum(np.abs(modes) ** 2, axis=(1, 2)))]
    object_name = "object" if reference_name == "truth" else reference_name
    ratio = min(max(obj.shape[0] / obj.shape[1], 0.6), 2.4)
    figure = new_figure(13.0, 3.5 * ratio + 1.1)
    panels = figure.subplot_mosaic(
        [["amplitude", "phase", "probe"], ["amplitude", "phase", "probe phase"]], width_ratios=[3, 3, 2]
    )
    for panel, image, colors, label in (
        ("amplitude", np.abs(obj), color_scale("amplitude", np.abs(obj)), f"{object_name} amplitude"),
        ("phase", np.angle(obj), color_scale("phase", np.angle(obj)), f"{object_name} phase [rad]"),
        ("probe", np.abs(mode), {"cmap": "magma", "vmin": 0}, "probe amplitude [√photon]"),
        ("probe phase", _illuminated_phase(mode), CYCLIC, "probe phase [rad]"),
    ):
        add_colorbar(panels[panel], show_image(panels[panel], image, **colors), label)
    panels["probe phase"].set_facecolor("0.6")
    for split, (x, y) in positions.items():
        color, marker = _SPLIT_STYLES.get(split, ("#000000", "^"))
        label = f"{split}: {len(np.asarray(x))} exposures"
        panels["phase"].plot(
            x, y, marker, color=color, markeredgecolor="w", markeredgewidth=0.5, markersize=4, label=label
        )
    if guard_px is not None:
        size = obj.shape[1], guard_px[1] - guard_px[0]
        band = Rectangle(
            (-0.5, guard_px[0]),
            *size,
            facecolor="none",
            edgecolor="w",
            hatch="//",
            linewidth=0,
            label="guard band",
        )
        panels["phase"].add_patch(band)
    figure.legend(*panels["phase"].get_legend_handles_labels(), loc="outside upper center", ncols=4, facecolor="0.6")
    for axes in panels.values():
        axes.set(xlabel="x [px]", ylabel="y [px]")
    return figure


def plot_waves(
    images: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating], tuple[int, int]]],
    title: str,
    *,
    figure: Figure | None = None,
) -> Figure:
    """Plot complex images side by side: one or two in a row, more with their amplitudes above their phases.

    Parameters
    ----------
    images : dict of ((h, w) float, (h, w) float, (int, int))
        Label -> amplitude, phase [rad], and row and column of the first pixel. NaN is hatched. Images of the same shape
        and origin are zoomed together and share the color scale of the first.
    title : str
        Title of the figure.
    figure : Figure, optional
        An empty figure to draw in, such as that of a window.
    """
    frames = [(amplitude.shape, origin) for amplitude, _, origin in images.values()]
    count, ratio = len(images), min(max(height / width for (height, width), _ in frames), 2.0)
    rows = 1 if count <= 2 else 2
    figure = figure or new_figure(1, 1)
    figure.set_layout_engine("constrained")
    figure.set_size_inches(3.9 * 2 * count if rows == 1 else 2.8 * count + 1.2, rows * (2.6 * ratio + 0.7) + 0.4)
    figure.suptitle(title, fontsize="medium")
    grid = figure.subplots(rows, 2 * count // rows, squeeze=False)
    pairs = grid.reshape(-1, 2) if rows == 1 else grid.T
    leaders: dict[tuple, tuple[Axes, tuple[dict[str, Any], dict[str, Any]]]] = {}
    for number, (label, (amplitude, phase, origin_px)) in enumerate(images.items()):
        frame, panels = frames[number], pairs[number]
        own_colors = color_scale("amplitude", amplitude), color_scale("phase", phase)
        leader, colors = leaders.setdefault(frame, (panels[0], own_colors))
        for panel, name, image, options in zip(panels, _WAVE_LABELS, (amplitude, phase), colors, strict=True):
            drawn = show_image(panel, image, origin_px, **options)
            panel.set(xlabel="x [px]", ylabel="" if panel is not leader and rows == 2 and number else "y [px]")
            panel.patch.set(facecolor="w", edgecolor="0.8", hatch="///")
            if panel is not leader:
                panel.sharex(leader)
                panel.sharey(leader)
            if frame not in frames[number + 1 :]:
                add_colorbar(panel, drawn, name)
        panels[0].set_title(label)
    return figure


def plot_view(
    positions: Mapping[str, tuple[ArrayLike, ArrayLike]],
    illumination: NDArray[np.floating],
    overlaps: NDArray[np.floating],
    *,
    origin_px: Sequence[int] = (0, 0),
    borders_px: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> Figure:
    """Plot an overlap view: exposures by role, illumination, and overlap with the nearest neighbor.

    Parameters
    ----------
    positions : dict of ((m,), (m,)) float
        Role -> xcoords, ycoords of its exposures [px].
    illumination : (H, W) float
        Incident photons per object pixel.
    overlaps : (M,) float
        Linear overlap of each exposure with its nearest neighbor.
    origin_px : (int, int)
        Row and column of the illumination's first pixel.
    borders_px : (sequence of float, sequence of float)
        Where the cores of tiles meet: along y and along x.
    """
    figure = new_figure(14.0, 4.4)
    scatter, image, histogram = figure.subplots(1, 3)
    add_colorbar(image, show_image(image, illumination, origin_px, cmap="cividis", vmin=0), "photons per object pixel")
    for role, (x, y) in positions.items():
        color, marker = _ROLE_STYLES[role]
        scatter.plot(x, y, marker, color=color, markersize=5, label=f"{role}: {len(np.asarray(x))}")
    for draw, borders in zip((scatter.axhline, scatter.axvline), borders_px, strict=True):
        for border in borders:
            draw(border, color="#999999", linewidth=0.6, zorder=0)
    scatter.set(xlim=image.get_xlim(), ylim=image.get_ylim(), aspect="equal", title="exposures")
    figure.legend(loc="outside upper left", ncols=3)
    image.set_title("illumination")
    median = float(np.median(overlaps))
    histogram.hist(overlaps, bins=30, color="#0072B2")
    histogram.axvline(median, color="#000000", linestyle="--", label=f"median {median:.2f}")
    histogram.set(xlabel="linear overlap with the nearest exposure", ylabel="exposures", title="overlap")
    histogram.xaxis.set_major_locator(MaxNLocator(5))
    histogram.yaxis.set_major_locator(MaxNLocator(integer=True))
    histogram.legend()
    for axes in (scatter, image):
        axes.set(xlabel="x [px]", ylabel="y [px]")
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a width and height [inch]."""
    return Figure(figsize=(width, height), layout="constrained")


def _write_beside(axes: Axes, text: str) -> None:
    """Turn empty axes into a label of the panels to their right."""
    axes.set_axis_off()
    axes.text(0.95, 0.5, text, transform=axes.transAxes, ha="right", va="center")


def _panel_title(name: str, metrics: Mapping[str, float], part: str) -> str:
    numbers = [("SSIM", f"ssim_{part}"), ("error", "error")]
    scores = ", ".join(f"{label} {metrics[key]:.3f}" for label, key in numbers if key in metrics)
    return f"{name}\n{scores}".strip()


def _illuminated_phase(wave: NDArray[np.complexfloating]) -> NDArray[np.floating]:
    """Phase of a wave [rad], NaN where it is dark."""
    intensity = np.abs(wave) ** 2
    return np.where(intensity > _DARK * intensity.max(), np.angle(wave), np.nan)
