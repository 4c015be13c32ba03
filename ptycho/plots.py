"""Figures. Every function returns a matplotlib `Figure` that no window or global state knows of; `save` writes it.

Colour maps are perceptually uniform: grey for amplitude, viridis for phase, the cyclic twilight where it wraps, berlin
for signed errors. Lines have Okabe and Ito's colours, and a marker and a dash each.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ptycho.metrics import amplitude_images, phase_images

METHODS = {
    "pinn": {"label": "PINN", "color": "#0072B2", "marker": "o", "linestyle": "-"},
    "baseline": {"label": "baseline", "color": "#D55E00", "marker": "s", "linestyle": "--"},
    "lsqml": {"label": "LSQML", "color": "#009E73", "marker": "^", "linestyle": "-."},
    "tv": {"label": "TV-MAP", "color": "#CC79A7", "marker": "D", "linestyle": ":"},
}
"""How a method is drawn, in every figure."""

_OTHERS = (("#E69F00", "v"), ("#56B4E9", "P"))  # methods that METHODS does not list
_ROLES = (("fit", "#56B4E9", "o"), ("stop", "#E69F00", "s"), ("holdout", "#000000", "^"))
_SPLITS = {"train": ("#0072B2", "o"), "test": ("#D55E00", "s")}
_CYCLIC = {"cmap": "twilight", "vmin": -np.pi, "vmax": np.pi}
_LIT = 1e-2  # of the probe's peak intensity; below, its phase is not shown
DPI = 120
FLUENCE = "fluence_photons_per_px"


def save(figure: Figure, path) -> None:
    """Write a figure as PNG, PDF or SVG, by the name's ending; the same figure gives the same bytes."""
    path = Path(path)
    undated = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with rc_context({"svg.hashsalt": "ptycho"}):
        figure.savefig(path, dpi=DPI, metadata=undated.get(path.suffix))


def comparison(truth, aligned: Mapping, metrics: Mapping, title: str, *, origin_px=(0, 0)) -> Figure:
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

    Returns
    -------
    Figure
        4 rows × (1 + methods) columns; colours of a row are common, and those of the truth's 0.5 to 99.5 % quantiles
        (errors: half that range either way).
    """
    columns = {"truth": truth, **aligned}
    figure = _figure(2.5 * len(columns) + 1.0, 4 * np.clip(2.3 * truth.shape[0] / truth.shape[1], 1.3, 6) + 1.5)
    figure.suptitle(title)
    axes = figure.subplots(4, len(columns), sharex=True, sharey=True, squeeze=False)
    for row, (name, images) in enumerate((("amplitude", amplitude_images), ("phase", phase_images))):
        colours = _colours(name, images(truth, truth)[1])
        half = max((colours["vmax"] - colours["vmin"]) / 2, 1e-6)
        for (method, obj), panel, below in zip(columns.items(), axes[row], axes[row + 2], strict=True):
            image, reference = images(obj, truth)
            shown = _show(panel, image, origin_px, **colours)
            wrong = _show(below, image - reference, origin_px, vmin=-half, vmax=half, cmap="berlin")
            label = METHODS.get(method, {}).get("label", method)
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


def learning_curve(history) -> Figure:
    """Loss against epoch, the learning rate below it.

    Parameters
    ----------
    history : DataFrame
        Columns `epoch`, `loss`, `learning_rate`, and `val_loss` if there is one.
    """
    figure = _figure(6.4, 4.8)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for column, label, colour, style in (
        ("loss", "training", "#0072B2", "-"),
        ("val_loss", "validation", "#D55E00", "--"),
    ):
        if column in history:
            top.plot(history["epoch"], history[column], style, color=colour, label=label)
    losses = history[[c for c in ("loss", "val_loss") if c in history]].to_numpy()
    top.set(ylabel="loss", yscale="log" if np.nanmin(losses) > 0 else "linear")
    top.legend()
    bottom.plot(history["epoch"], history["learning_rate"], color="#000000", drawstyle="steps-post")
    bottom.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    _finish_curves([top, bottom])
    return figure


def stopping_curve(history, chosen_epoch: int) -> Figure:
    """Misfit of the exposures fitted, and of those held back to stop on, against epoch.

    Parameters
    ----------
    history : DataFrame
        Columns `epoch`, `loss` (what the solver minimises) and `stop_deviance` (Poisson misfit of the `stop` exposures,
        lower is better); where one was not evaluated it is NaN.
    chosen_epoch : int
        Epoch whose object is kept.
    """
    figure = _figure(6.4, 4.8)
    top, bottom = figure.subplots(2, 1, sharex=True)
    for axes, column, label, colour in (
        (top, "stop_deviance", "stop exposures:\nPoisson misfit", "#D55E00"),
        (bottom, "loss", "training loss", "#0072B2"),
    ):
        rows = history.dropna(subset=[column])
        axes.plot(rows["epoch"], rows[column], ".-", color=colour)
        axes.axvline(chosen_epoch, color="#000000", linestyle=":", label=f"kept: epoch {chosen_epoch}")
        axes.set_ylabel(label)
    top.legend()
    bottom.set_xlabel("epoch")
    _finish_curves([top, bottom])
    return figure


def strength_curve(history, chosen: float) -> Figure:
    """Deviance of the photons set apart against the strength of a prior.

    Parameters
    ----------
    history : DataFrame
        Columns `strength` and `deviance_apart`; NaN where it was not evaluated.
    chosen : float
        Strength that is used.
    """
    figure = _figure(6.4, 3.6)
    axes = figure.subplots()
    rows = history.dropna(subset=["deviance_apart"]).sort_values("strength")
    axes.semilogx(rows["strength"], rows["deviance_apart"], ".-", color="#D55E00")
    axes.axvline(chosen, color="#000000", linestyle=":", label=f"chosen: {chosen:.3g}")
    axes.set(xlabel="strength of the prior", ylabel="photons set apart:\nPoisson misfit")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def sample(obj, probe, positions: Mapping, *, guard_px=None) -> Figure:
    """Draw the sample and where it was exposed, and the probe.

    Parameters
    ----------
    obj : (H, W) complex
        Object, pixel [0, 0] at coordinate 0.
    probe : (n, n) or (modes, n, n) complex
        Probe [sqrt(photon)]; the strongest mode is shown.
    positions : dict of ((M,), (M,)) float
        Split -> xcoords, ycoords of its patch centres [px].
    guard_px : (float, float), optional
        First and last row of the guard band between the splits.
    """
    modes = np.reshape(probe, (-1, *np.shape(probe)[-2:]))
    mode = modes[np.argmax(np.sum(np.abs(modes) ** 2, axis=(1, 2)))]
    ratio = min(max(obj.shape[0] / obj.shape[1], 0.6), 2.4)
    figure = _figure(13.0, 3.5 * ratio + 1.1)
    panels = figure.subplot_mosaic(
        [["amplitude", "phase", "probe"], ["amplitude", "phase", "wave"]], width_ratios=[3, 3, 2]
    )
    for name, image, colours, label in (
        ("amplitude", np.abs(obj), _colours("amplitude", np.abs(obj)), "object amplitude"),
        ("phase", np.angle(obj), _colours("phase", np.angle(obj)), "object phase [rad]"),
        ("probe", np.abs(mode), {"cmap": "magma", "vmin": 0}, "probe amplitude [√photon]"),
        ("wave", _lit_phase(mode), _CYCLIC, "probe phase [rad]"),
    ):
        _bar(panels[name], _show(panels[name], image, **colours), label)
    panels["wave"].set_facecolor("0.6")
    for split, (x, y) in positions.items():
        colour, marker = _SPLITS.get(split, ("#000000", "^"))
        label = f"{split}: {len(x)} exposures"
        panels["phase"].plot(
            x, y, marker, color=colour, markeredgecolor="w", markeredgewidth=0.5, markersize=4, label=label
        )
    if guard_px is not None:
        band = {"facecolor": "none", "edgecolor": "w", "hatch": "//", "linewidth": 0, "label": "guard band"}
        corner = (-0.5, guard_px[0] - 0.5)
        panels["phase"].add_patch(Rectangle(corner, obj.shape[1], guard_px[1] - guard_px[0] + 1, **band))
    figure.legend(*panels["phase"].get_legend_handles_labels(), loc="outside upper center", ncols=4, facecolor="0.6")
    for axes in panels.values():
        axes.set(xlabel="x [px]", ylabel="y [px]")
    return figure


def view(positions, role, illumination, overlaps, *, origin_px=(0, 0)) -> Figure:
    """Draw an overlap view: exposures by role, light on the sample, and overlap with the nearest neighbour.

    Parameters
    ----------
    positions : ((m,), (m,)) float
        xcoords, ycoords of the exposures kept [px].
    role : (m,) int
        0 fit, 1 stop, 2 holdout.
    illumination : (H, W) float
        Photons per object pixel.
    overlaps : (m,) float
        Linear overlap of each exposure with its nearest neighbour.
    origin_px : (int, int)
        Row and column of the illumination's first pixel.
    """
    figure = _figure(14.0, 4.4)
    where, light, histogram = figure.subplots(1, 3)
    _bar(light, _show(light, illumination, origin_px, cmap="cividis", vmin=0), "photons per pixel")
    for code, (name, colour, marker) in enumerate(_ROLES):
        chosen = np.asarray(role) == code
        x, y = (np.asarray(axis)[chosen] for axis in positions)
        where.plot(x, y, marker, color=colour, markersize=5, label=f"{name}: {chosen.sum()}")
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


def study(metrics, fluence, *, metric: str = "ssim_phase", split: str = "test") -> Figure:
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
    condition = ["dose", "view", "split", "seed"]
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
    figure = _figure(4.2 * len(views) + 0.6, 7.0)
    panels = figure.subplots(2, len(views), sharex="row", sharey=True, squeeze=False)
    for column, name in enumerate(views):
        for (other, method), line in table.groupby(["view", "method"], sort=False):
            style = _style(method, methods)
            if other == name:
                _draw_line(panels[0, column], line, "dose", style)
                _draw_line(panels[1, column], line, FLUENCE, style)
            else:
                panels[1, column].plot(line[FLUENCE], line["mean"], color=style["color"], alpha=0.25)
        panels[0, column].set(title=f"{name} view", xlabel="dose [photons per exposure]")
        panels[1, column].set(xlabel="fluence [photons per object pixel]" + (len(views) > 1) * "; faint: other views")
    for axes in panels.ravel():
        axes.set_xscale("log")
        axes.grid(alpha=0.3)
    for axes in panels[:, 0]:
        axes.set_ylabel(_pretty(metric))
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(methods))
    figure.supxlabel(_samples(table["count"], split), fontsize="small")
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _show(axes, image, origin_px=(0, 0), **options):
    """Draw an image with its pixels' coordinates on the axes, row 0 at the top."""
    (top, left), (height, width) = origin_px, np.shape(image)
    if options.get("cmap") == _CYCLIC["cmap"]:
        image = np.angle(np.exp(1j * image))
    edges = (left - 0.5, left + width - 0.5, top + height - 0.5, top - 0.5)
    return axes.imshow(image, extent=edges, interpolation="nearest", **options)


def _bar(axes, image, label: str) -> None:
    """Colour bar as high as the image."""
    axes.figure.colorbar(image, cax=axes.inset_axes([1.03, 0, 0.05, 1]), label=label)


def _colours(name: str, image) -> dict:
    """Map and robust limits for the images of a row; the whole circle where phase wraps."""
    low, high = np.quantile(image, [0.005, 0.995])
    if name == "phase" and high - low > np.pi:
        return _CYCLIC
    return {"cmap": "gray" if name == "amplitude" else "viridis", "vmin": low, "vmax": high}


def _caption(label: str, metrics: Mapping, name: str) -> str:
    numbers = [("SSIM", f"ssim_{name}"), ("error", "error")]
    return "\n".join(
        [label, ", ".join(f"{word} {metrics[key]:.3f}" for word, key in numbers if key in metrics)]
    ).strip()


def _finish_curves(panels) -> None:
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for axes in panels:
        axes.grid(alpha=0.3)


def _lit_phase(wave):
    """Phase, NaN where there is no light."""
    intensity = np.abs(wave) ** 2
    return np.where(intensity > _LIT * intensity.max(), np.angle(wave), np.nan)


def _style(method: str, methods) -> dict:
    if method in METHODS:
        return METHODS[method]
    colour, marker = _OTHERS[[m for m in methods if m not in METHODS].index(method) % len(_OTHERS)]
    return {"label": method, "color": colour, "marker": marker, "linestyle": ":"}


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
    names = {"ssim": "SSIM", "ms_ssim": "MS-SSIM", "psnr": "PSNR", "mae": "MAE", "rmse": "RMSE", "frc50": "FRC = 0.5"}
    return f"{names[kind]} of {of}{unit}" if kind in names else metric.replace("_", " ")


def _samples(count, split: str) -> str:
    n = f"{count.min()}" if count.min() == count.max() else f"{count.min()} to {count.max()}"
    spread = "seeds of noise and training: mean ± standard deviation" if count.max() > 1 else "seed: no error bar"
    return f"{split} split, n = {n} {spread}"
