"""Images as panels of a figure: pixel coordinates on the axes, robust color scales, color bars of the image's height.

Color maps are perceptually uniform: gray for amplitude, viridis for phase, the cyclic twilight where the phase wraps,
berlin for signed errors.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

CYCLIC: dict[str, Any] = {"cmap": "twilight", "vmin": -np.pi, "vmax": np.pi}
"""Color scale of a phase that wraps [rad]."""

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


def add_colorbar(axes: Axes, image: AxesImage, label: str) -> None:
    """Draw a color bar of the image's height to the right of its axes."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.05, 1)), label=label)
