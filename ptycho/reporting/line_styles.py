"""How figures draw the methods: color, marker and line of each."""

from collections.abc import Sequence
from typing import Any

from ptycho.methods import METHODS
from ptycho.scoring.metric_tables import PHOTON_LIMIT

BOUND_STYLE = {"label": "photon limit (unbiased)", "color": "#777777", "marker": "h", "linestyle": (0, (1, 1))}
"""Matplotlib's options for the line of `ptycho.scoring.photon_bound`."""

_OTHER_STYLES = (("#000000", "X"), ("#999999", "*"))  # of methods that METHODS does not list


def line_style(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """Return Matplotlib's options for the line of a method.

    Parameters
    ----------
    method : str
    methods : sequence of str
        All methods of the figure; those that `ptycho.methods.METHODS` does not list share a few styles.
    """
    if method in METHODS:
        return METHODS[method].style
    if method == PHOTON_LIMIT:
        return BOUND_STYLE
    color, marker = _OTHER_STYLES[[m for m in methods if m not in METHODS].index(method) % len(_OTHER_STYLES)]
    return {"label": method, "color": color, "marker": marker, "linestyle": ":"}
