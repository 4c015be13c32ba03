"""Figures. Every function returns a matplotlib `Figure` that no window or global state knows of; `save` writes it.

Color maps are perceptually uniform: gray for amplitude, viridis for phase, the cyclic twilight where it wraps, berlin
for signed errors. Lines have Okabe and Ito's colors, and a marker and a dash each.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ptycho.methods import method_name
from ptycho.scoring.metrics import amplitude_images, phase_images
from ptycho.workflow.files import replacing

_ROLES = (("fit", "#56B4E9", "o"), ("validation", "#E69F00", "s"), ("holdout", "#000000", "^"))
_SPLITS = {"train": ("#0072B2", "o"), "test": ("#D55E00", "s")}
_CYCLIC = {"cmap": "twilight", "vmin": -np.pi, "vmax": np.pi}
_LIT = 1e-2  # of the probe's peak intensity; below, its phase is not shown
_WAVE = ("amplitude", "phase [rad]")
DPI = 120


def save(figure: Figure, path, provenance: dict | None = None) -> None:
    """Write a figure as PNG, PDF or SVG, by the name's ending; the same figure gives the same bytes.

    A PNG carries the record of what made it, if there is one.
    """
    path = Path(path)
    record = {} if provenance is None else {"provenance": json.dumps(provenance)}
    undated = {".png": {"Software": None, **record}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with rc_context({"svg.hashsalt": "ptycho"}), replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata=undated.get(path.suffix))


def plot_comparison(truth, aligned: Mapping, metrics: Mapping, title: str, *, origin_px=(0, 0), warnings=()) -> Figure:
    """Truth and every method: amplitude, phase, and what is wrong with them.

    Parameters
    ----------
    truth : (h, w) complex
        Truth on the scored region.
    aligned : dict of (h, w) complex
        Method -> its object without gauge, in the order of the columns.
    metrics : dict of dict
        Method -> metric -> value; `ssim_amplitude`, `ssim_phase` and `error` are shown where present.
    title : str
        Title of the figure.
    origin_px : (int, int)
        Row and column of the region's first pixel, where the axes start.
    warnings : sequence of str
        What must not be overlooked: a line each below the panels.

    Returns
    -------
    Figure
        4 rows × (1 + methods) columns; colors of a row are common, and those of the truth's 0.5 to 99.5 % quantiles
        (errors: half that range either way).
    """
    columns = {"truth": truth, **aligned}
    figure = new_figure(2.5 * len(columns) + 1.0, 4 * np.clip(2.3 * truth.shape[0] / truth.shape[1], 1.3, 6) + 1.5)
    figure.suptitle(title)
    if warnings:
        figure.supxlabel("\n".join(f"WARNING: {text}" for text in warnings), color="#D55E00", fontsize="medium")
    axes = figure.subplots(4, len(columns), sharex=True, sharey=True, squeeze=False)
    for row, (name, images) in enumerate((("amplitude", amplitude_images), ("phase", phase_images))):
        colors = _colors(name, images(truth, truth)[1])
        half = max((colors["vmax"] - colors["vmin"]) / 2, 1e-6)
        for (method, obj), panel, below in zip(columns.items(), axes[row], axes[row + 2], strict=True):
            image, reference = images(obj, truth)
            shown = _show(panel, image, origin_px, **colors)
            wrong = _show(below, image - reference, origin_px, vmin=-half, vmax=half, cmap="berlin")
            label = method_name(method)
            panel.set_title(_caption(label, metrics.get(method, {}), name), fontsize="medium")
        unit = " [rad]" if name == "phase" else ""
        figure.colorbar(shown, ax=axes[row], label=name + unit, extend="both", aspect=15)
        figure.colorbar(wrong, ax=axes[row + 2], label="error" + unit, extend="both", aspect=15)
        axes[row + 2, 0].clear()
        axes[row + 2, 0].set_axis_off()
        axes[row + 2, 0].text(
            0.95, 0.5, f"{name}:\nmethod - truth", transform=axes[row + 2, 0].transAxes, ha="right", va="center"
        )
    for panel in (*axes[:2, 0], *axes[2:, min(1, len(aligned))]):
        panel.set_ylabel("y [px]")
        panel.tick_params(labelleft=True)
    for panel in (axes[1, 0], *axes[-1, 1:]):
        panel.set_xlabel("x [px]")
        panel.tick_params(labelbottom=True)
    return figure


def plot_sample(obj, probe, positions: Mapping, *, guard_px=None) -> Figure:
    """Draw the sample and where it was exposed, and the probe.

    Parameters
    ----------
    obj : (H, W) complex
        Object, pixel [0, 0] at coordinate 0.
    probe : (n, n) or (modes, n, n) complex
        Probe [sqrt(photon)]; the lambda_max mode is shown.
    positions : dict of ((M,), (M,)) float
        Split -> xcoords, ycoords of its patch centers [px].
    guard_px : (float, float), optional
        First and last row of the guard band between the splits.
    """
    modes = np.reshape(probe, (-1, *np.shape(probe)[-2:]))
    mode = modes[np.argmax(np.sum(np.abs(modes) ** 2, axis=(1, 2)))]
    ratio = min(max(obj.shape[0] / obj.shape[1], 0.6), 2.4)
    figure = new_figure(13.0, 3.5 * ratio + 1.1)
    panels = figure.subplot_mosaic(
        [["amplitude", "phase", "probe"], ["amplitude", "phase", "wave"]], width_ratios=[3, 3, 2]
    )
    for name, image, colors, label in (
        ("amplitude", np.abs(obj), _colors("amplitude", np.abs(obj)), "object amplitude"),
        ("phase", np.angle(obj), _colors("phase", np.angle(obj)), "object phase [rad]"),
        ("probe", np.abs(mode), {"cmap": "magma", "vmin": 0}, "probe amplitude [√photon]"),
        ("wave", _lit_phase(mode), _CYCLIC, "probe phase [rad]"),
    ):
        _bar(panels[name], _show(panels[name], image, **colors), label)
    panels["wave"].set_facecolor("0.6")
    for split, (x, y) in positions.items():
        color, marker = _SPLITS.get(split, ("#000000", "^"))
        label = f"{split}: {len(x)} exposures"
        panels["phase"].plot(
            x, y, marker, color=color, markeredgecolor="w", markeredgewidth=0.5, markersize=4, label=label
        )
    if guard_px is not None:
        band = {"facecolor": "none", "edgecolor": "w", "hatch": "//", "linewidth": 0, "label": "guard band"}
        corner = (-0.5, guard_px[0] - 0.5)
        panels["phase"].add_patch(Rectangle(corner, obj.shape[1], guard_px[1] - guard_px[0] + 1, **band))
    figure.legend(*panels["phase"].get_legend_handles_labels(), loc="outside upper center", ncols=4, facecolor="0.6")
    for axes in panels.values():
        axes.set(xlabel="x [px]", ylabel="y [px]")
    return figure


def plot_waves(images: Mapping, title: str, *, figure: Figure | None = None) -> Figure:
    """Draw complex images side by side: amplitude, phase of one or two; amplitudes above phases of more.

    Parameters
    ----------
    images : dict of ((h, w) float, (h, w) float, (int, int))
        Label -> amplitude, phase [rad], NaN where there is nothing to show (hatched), and row and column of the first
        pixel. Neighbors of one size and origin are zoomed together and have the first one's colors.
    title : str
        Title of the figure.
    figure : Figure, optional
        An empty one to draw in, such as a window's.
    """
    places = [(amplitude.shape, origin) for amplitude, _, origin in images.values()]
    count, tall = len(images), min(max(height / width for (height, width), _ in places), 2.0)
    rows = 1 if count <= 2 else 2
    figure = figure or new_figure(1, 1)
    figure.set_layout_engine("constrained")
    figure.set_size_inches(3.9 * 2 * count if rows == 1 else 2.8 * count + 1.2, rows * (2.6 * tall + 0.7) + 0.4)
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots(rows, 2 * count // rows, squeeze=False)
    axes, like = axes.reshape(-1, 2) if rows == 1 else axes.T, {}
    for number, (label, (amplitude, phase, origin_px)) in enumerate(images.items()):
        place, panels = places[number], axes[number]
        robust = _colors("amplitude", amplitude), _colors("phase", phase)
        first, colors = like.setdefault(place, (panels[0], robust))
        for panel, name, image, options in zip(panels, _WAVE, (amplitude, phase), colors, strict=True):
            shown = _show(panel, image, origin_px, **options)
            panel.set(xlabel="x [px]", ylabel="" if panel is not first and rows == 2 and number else "y [px]")
            panel.patch.set(facecolor="w", edgecolor="0.8", hatch="///")
            if panel is not first:
                panel.sharex(first)
                panel.sharey(first)
            if place not in places[number + 1 :]:
                _bar(panel, shown, name)
        panels[0].set_title(label)
    return figure


def plot_view(positions, role, illumination, overlaps, *, origin_px=(0, 0)) -> Figure:
    """Draw an overlap view: exposures by role, light on the sample, and overlap with the nearest neighbor.

    Parameters
    ----------
    positions : ((m,), (m,)) float
        xcoords, ycoords of the exposures kept [px].
    role : (m,) int
        0 fit, 1 validation, 2 holdout.
    illumination : (H, W) float
        Photons per object pixel.
    overlaps : (m,) float
        Linear overlap of each exposure with its nearest neighbor.
    origin_px : (int, int)
        Row and column of the illumination's first pixel.
    """
    figure = new_figure(14.0, 4.4)
    where, light, histogram = figure.subplots(1, 3)
    _bar(light, _show(light, illumination, origin_px, cmap="cividis", vmin=0), "photons per pixel")
    for code, (name, color, marker) in enumerate(_ROLES):
        chosen = np.asarray(role) == code
        x, y = (np.asarray(axis)[chosen] for axis in positions)
        where.plot(x, y, marker, color=color, markersize=5, label=f"{name}: {chosen.sum()}")
    where.set(xlim=light.get_xlim(), ylim=light.get_ylim(), aspect="equal", title="exposures")
    figure.legend(loc="outside upper left", ncols=3)
    light.set_title("illumination")
    median = float(np.median(overlaps))
    histogram.hist(overlaps, bins=30, color="#0072B2")
    histogram.axvline(median, color="#000000", linestyle="--", label=f"median {median:.2f}")
    histogram.set(xlabel="linear overlap with the nearest exposure", ylabel="exposures", title="overlap")
    histogram.xaxis.set_major_locator(MaxNLocator(5))
    histogram.yaxis.set_major_locator(MaxNLocator(integer=True))
    histogram.legend()
    for axes in (where, light):
        axes.set(xlabel="x [px]", ylabel="y [px]")
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure [inch]."""
    return Figure(figsize=(width, height), layout="constrained")


def _show(axes, image, origin_px=(0, 0), **options):
    """Draw an image with its pixels' coordinates on the axes, row 0 at the top."""
    (top, left), (height, width) = origin_px, np.shape(image)
    if options.get("cmap") == _CYCLIC["cmap"]:
        image = np.angle(np.exp(1j * image))
    edges = (left - 0.5, left + width - 0.5, top + height - 0.5, top - 0.5)
    return axes.imshow(image, extent=edges, interpolation="nearest", **options)


def _bar(axes, image, label: str) -> None:
    """Color bar as high as the image."""
    axes.figure.colorbar(image, cax=axes.inset_axes([1.03, 0, 0.05, 1]), label=label)


def _colors(name: str, image) -> dict:
    """Map and robust limits for the images of a row; the whole circle where phase wraps."""
    low, high = np.nanquantile(image, [0.005, 0.995])
    if name == "phase" and high - low > np.pi:
        return _CYCLIC
    return {"cmap": "gray" if name == "amplitude" else "viridis", "vmin": low, "vmax": high}


def _caption(label: str, metrics: Mapping, name: str) -> str:
    numbers = [("SSIM", f"ssim_{name}"), ("error", "error")]
    return "\n".join(
        [label, ", ".join(f"{word} {metrics[key]:.3f}" for word, key in numbers if key in metrics)]
    ).strip()


def _lit_phase(wave):
    """Phase, NaN where there is no light."""
    intensity = np.abs(wave) ** 2
    return np.where(intensity > _LIT * intensity.max(), np.angle(wave), np.nan)
