"""Large scans in tiles: exposures of a core and of a halo around it, and weights by which tiles become one canvas.

Tiles are cut from the positions and a size alone, so that whoever works on which of them, in whatever order, adds up
to the same object.
"""

from dataclasses import dataclass

import numpy as np

from ptycho.data.canvas import Canvas


@dataclass(frozen=True)
class Tile:
    """A part of a scan."""

    exposures: np.ndarray
    """(m,) int64 exposures of core and halo, ascending."""
    core: tuple[tuple[float, float], tuple[float, float]]
    """Where its patch centers lie, without the halo: (low, high) along y and along x [px]; infinite at the border."""
    halo_px: float

    def weight(self, shape, origin_px):
        """Return (H, W) float64 weights of its canvas: 1 in the core, falling to 0 across the halo."""
        return np.outer(*(self._ramp(*axis) for axis in zip(self.core, shape, origin_px, strict=True)))

    def _ramp(self, core, size: int, first: int):
        place = first + np.arange(size)
        outside = np.maximum(np.maximum(core[0] - place, place - core[1]), 0)
        return np.clip(1 - outside / max(self.halo_px, 1), 0, 1)


def cut_tiles(xcoords, ycoords, size_px: float, halo_px: float) -> list[Tile]:
    """Cut a scan into tiles of equal cores, at most `size_px` wide, none of them empty.

    Parameters
    ----------
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    size_px : float
        Largest extent of a core's patch centers along an axis.
    halo_px : float
        How far beyond its core a tile takes exposures too: at least what one exposure, or the network, sees.

    Returns
    -------
    list of Tile
        From top to bottom and left to right, but each beside one before it if the scan hangs together: their phases are
        turned to one another in this order. Every exposure is in the core of one of them.
    """
    edges = []
    for axis in (ycoords, xcoords):
        count = max(int(np.ceil(np.ptp(axis) / size_px)), 1)
        edges.append(np.concatenate([[-np.inf], np.linspace(axis.min(), axis.max(), count + 1)[1:-1], [np.inf]]))
    tiles = {}
    for row, y in enumerate(zip(edges[0][:-1], edges[0][1:], strict=True)):
        for column, x in enumerate(zip(edges[1][:-1], edges[1][1:], strict=True)):
            inside = [(axis >= low) & (axis < high) for axis, (low, high) in ((ycoords, y), (xcoords, x))]
            near = [
                (axis >= low - halo_px) & (axis < high + halo_px) for axis, (low, high) in ((ycoords, y), (xcoords, x))
            ]
            if (inside[0] & inside[1]).any():
                tiles[row, column] = Tile(np.flatnonzero(near[0] & near[1]), (y, x), halo_px)
    return [tiles[place] for place in _in_touch(list(tiles))]


def _in_touch(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Order places of a grid so that each is beside one before it, where there is such a one; else as they are."""
    ordered, left = places[:1], places[1:]
    while left:
        beside = {(row + y, column + x) for row, column in ordered for y, x in ((0, 1), (1, 0), (0, -1), (-1, 0))}
        ordered.append(next((place for place in left if place in beside), left[0]))
        left.remove(ordered[-1])
    return ordered


def fullest(tiles: list[Tile]) -> int:
    """Return which tile has the most exposures: what is chosen once for a scan is chosen there."""
    return max(range(len(tiles)), key=lambda number: len(tiles[number].exposures))


def canvas_of(tile: Tile, obj, light, origin_px) -> Canvas:
    """Weight a tile's object by its illumination, and by its distance from the core: a canvas to be merged.

    Its global phase is its own: canvases of tiles are to be synchronized when they are put together.

    Parameters
    ----------
    obj : (H, W) complex64
    light : (H, W) float64
        Illumination [photons per pixel].
    origin_px : (int, int)
        Row and column of the first pixel.
    """
    weight = tile.weight(obj.shape, origin_px) * light
    return Canvas(weight * obj, weight, tuple(map(int, origin_px)))
