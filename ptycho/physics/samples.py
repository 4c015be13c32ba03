"""Simulated samples: structured at several scales, |O| in [0.5, 1], phase within ±0.8 rad."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from skimage.draw import disk, line, polygon

AMPLITUDE = (0.5, 1.0)
"""Smallest and largest transmittance."""
PHASE_RAD = 0.8
"""Largest phase, of either sign."""

Images = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Density, which lowers the amplitude, and thickness, which turns the phase: (H, W) each, any range."""


def dead_leaves(shape: tuple[int, int], rng: np.random.Generator) -> Images:
    """Draw dead leaves: opaque discs and polygons of power-law size in random order.

    Matheron, Modèle séquentiel de partition aléatoire, CMM, 1968; Lee, Mumford and Huang, Int. J. Comput. Vis. 41, 35,
    2001.
    """
    density, thickness = np.full(shape, 0.5), np.full(shape, 0.5)
    for radius in np.sort(3.0 * (1 - rng.random(shape[0] * shape[1] // 120)) ** (-1 / 1.2))[::-1]:
        radius = min(radius, min(shape) / 5)
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        if rng.random() < 0.5:
            inside = disk((y, x), radius, shape=shape)
        else:
            angle = np.sort(rng.uniform(0, 2 * np.pi, 5))
            inside = polygon(y + radius * np.sin(angle), x + radius * np.cos(angle), shape=shape)
        density[inside], thickness[inside] = rng.random(2)
    return density, thickness


def lines(shape: tuple[int, int], rng: np.random.Generator) -> Images:
    """Draw straight lines of several widths that add up, independent in the two images."""

    def drawing() -> NDArray[np.float64]:
        image = np.zeros(shape)
        for width in (0.7, 1.5, 3.0):
            layer = np.zeros(shape)
            for _ in range(int(np.sqrt(shape[0] * shape[1]) / (2 * width))):
                start, angle = rng.uniform(0, shape), rng.uniform(0, np.pi)
                reach = rng.uniform(0.1, 0.6) * max(shape)
                end = start + reach * np.array([np.sin(angle), np.cos(angle)])
                row, column = line(*np.rint([*start, *end]).astype(int))
                inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
                layer[row[inside], column[inside]] += rng.uniform(0.3, 1)
            image += gaussian_filter(layer, width) * width
        return image

    return drawing(), drawing()


def siemens(shape: tuple[int, int], rng: np.random.Generator) -> Images:
    """Draw rows of Siemens stars over a slowly varying background."""
    density = np.zeros(shape)
    pitch = max(min(shape) / 2, 48)
    y, x = np.indices(shape)
    for row in np.arange(pitch / 2, shape[0] + pitch / 2, pitch):
        for column in np.arange(pitch / 2, shape[1] + pitch / 2, pitch):
            center = np.array([row, column]) + rng.uniform(-4, 4, 2)
            radius, angle = np.hypot(y - center[0], x - center[1]), np.arctan2(y - center[0], x - center[1])
            spokes = np.sin(18 * angle + rng.uniform(0, 2 * np.pi)) > 0
            rings = (radius < 0.47 * pitch) & (np.abs(radius - 0.25 * pitch) > 2)
            density[spokes & rings] = 1
    coarse = rng.random((shape[0] // 40 + 2, shape[1] // 40 + 2))
    background = zoom(coarse, (shape[0] / (coarse.shape[0] - 1) + 1, shape[1] / (coarse.shape[1] - 1) + 1), order=3)
    return gaussian_filter(density, 0.5), gaussian_filter(density, 0.5) + 0.4 * background[: shape[0], : shape[1]]


KINDS: dict[str, Callable[[tuple[int, int], np.random.Generator], Images]] = {
    "dead_leaves": dead_leaves,
    "lines": lines,
    "siemens": siemens,
}
"""Functions that draw a kind of sample: (rows, columns) and a generator to density and thickness."""


def simulate_object(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.complex64]:
    """Simulate a sample.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    shape : (int, int)
        Rows and columns [px].

    Returns
    -------
    (H, W) complex64
        Transmittance, |O| in [0.5, 1], phase in [-0.8, 0.8] rad.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"object kind '{kind}'; wanted one of {sorted(KINDS)}")
    density, thickness = (_band_limited(image) for image in KINDS[kind](shape, rng))
    amplitude = AMPLITUDE[1] - (AMPLITUDE[1] - AMPLITUDE[0]) * density
    return (amplitude * np.exp(1j * PHASE_RAD * (2 * thickness - 1))).astype(np.complex64)


def _band_limited(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blur edges so that the pixels resolve them, and scale the values to [0, 1]."""
    blurred = gaussian_filter(image, 0.7)
    low, high = np.percentile(blurred, [0.5, 99.5])
    return np.clip((blurred - low) / (high - low), 0, 1)
