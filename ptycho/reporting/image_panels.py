"""Images as panels of a figure: pixel coordinates on the axes, robust color scales, color bars of the image's height.

Color maps are perceptually uniform: gray for amplitude, viridis for phase, the cyclic twilight where the phase wraps,
berlin for signed errors.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray

CYCLIC: dict[str, Any] = {"cmap": "twilight", "vmin": -np.pi, "vmax": np.pi}
"""Color scale of a phase that wraps [rad]."""

BAR_FRACTION = 0.3
"""Longest scale bar, as a fraction of the width of its image."""
LENGTHS = {"nm": 1e-9, "μm": 1e-6, "mm": 1e-3, "m": 1.0}
"""Units of scale bars [m]."""

ERROR_MAP = "berlin"
"""Color map of signed errors."""


def show_image(axes: Axes, image: NDArray[np.floating], origin_px: Sequence[int] = (0, 0), **options: Any) -> AxesImage:
    """Draw an image, row 0 at the top.

    Parameters
    ----------
    axes : Axes
    image : (h, w) float
        A phase on the scale `CYCLIC` is wrapped.
    origin_px : (int, int)
        Row and column of the first pixel, where the axes start.
    **options
        cmap, vmin and vmax, as `color_scale` returns them.
    """
    (top, left), (height, width) = origin_px, np.shape(image)
    if options.get("cmap") == CYCLIC["cmap"]:
        image = np.angle(np.exp(1j * image))
    edges = (left - 0.5, left + width - 0.5, top + height - 0.5, top - 0.5)
    return axes.imshow(image, extent=edges, interpolation="nearest", **options)


def color_scale(part: str, image: NDArray[np.floating]) -> dict[str, Any]:
    """Return the color map and robust limits of an image; the whole circle where a phase wraps.

    Parameters
    ----------
    part : {"amplitude", "phase"}
    image : (h, w) float
        NaN is left out. The limits are its 0.5 and 99.5 % quantiles.
    """
    low, high = np.nanquantile(image, [0.005, 0.995])
    if part == "phase" and high - low > np.pi:
        return CYCLIC
    return {"cmap": "gray" if part == "amplitude" else "viridis", "vmin": low, "vmax": high}


def add_colorbar(axes: Axes, image: AxesImage | PathCollection, label: str) -> None:
    """Draw a color bar of an image, or of points, to the right of its axes and of their height."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.05, 1)), label=label)


def scale_bar_length(width_m: float) -> tuple[float, str]:
    """Return the length of the scale bar of an image [m], 1, 2 or 5 times a power of ten, and its label."""
    power = 10.0 ** np.floor(np.log10(BAR_FRACTION * width_m))
    length = power * max(factor for factor in (1, 2, 5) if factor * power <= BAR_FRACTION * width_m * (1 + 1e-9))
    unit = next((name for name, meters in LENGTHS.items() if length < 999.5 * meters), "m")
    return float(length), f"{length / LENGTHS[unit]:.3g} {unit}"


def add_scale_bars(figure: Figure, pixel_m: float | None) -> None:
    """Draw a scale bar on the first image of every row, the one whose y axis has a label.

    Parameters
    ----------
    figure : Figure
        With images whose axes count pixels.
    pixel_m : float or None
        Size of a pixel [m]; None: nothing is drawn.
    """
    for axes in figure.axes:
        if pixel_m is None or not axes.images or not axes.get_ylabel():
            continue
        left, right, *_ = axes.images[0].get_extent()
        length, label = scale_bar_length((right - left) * pixel_m)
        style = {"color": "white", "frameon": False, "size_vertical": 0, "pad": 0.4}
        bar = AnchoredSizeBar(axes.transData, length / pixel_m, label, "lower right", **style)
        for artist in (*bar.size_bar.get_children(), bar.txt_label.get_children()[0]):
            artist.set_path_effects([withStroke(linewidth=2.5, foreground="black")])
        bar.set_gid("scale bar")
        axes.add_artist(bar)
