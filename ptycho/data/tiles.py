"""Tiles of large scans: exposures of a core and of a halo around it, and weights that blend tiles into one canvas.

Tiles depend on the positions and a size only, so that any partition of the work, in any order, gives the same object.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.canvas import Canvas
from ptycho.data.contract import check_exposures
from ptycho.data.npz import Npz, save_arrays
from ptycho.data.scan import Scan
from ptycho.workflow.files import ContractError, StrPath, save_text

WHOLE_PLANE = ((-np.inf, np.inf), (-np.inf, np.inf))
"""Core of a tile that has the weight 1 everywhere."""
_KEYS = ("exposures", "starts", "cores", "halo_px")


@dataclass(frozen=True, kw_only=True)
class TilingOptions:
    """How a view is cut into tiles."""

    tile_px: float
    """Largest extent of a core's patch centers along an axis [px]; 0: a tile for each exposure, see `single_tiles`."""
    halo_px: float | None
    """Width of the halo [px]; None: N, the side of a pattern."""


@dataclass(frozen=True)
class Tile:
    """A part of a scan."""

    exposures: NDArray[np.int64]
    """(m,) exposures of core and halo, ascending: in a view, indices into its scan."""
    core: tuple[tuple[float, float], tuple[float, float]]
    """(low, high) of the core's patch centers along y and along x [px]; infinite at the border of the scan."""
    halo_px: float
    """Width of the halo around the core [px]."""

    def has_in_core(self, xcoords: NDArray[np.float64], ycoords: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which of (m,) patch centers [px] are in the core."""
        (top, bottom), (left, right) = self.core
        return (ycoords >= top) & (ycoords < bottom) & (xcoords >= left) & (xcoords < right)

    def weight(self, shape: tuple[int, int], origin_px: tuple[int, int]) -> NDArray[np.float64]:
        """Return (H, W) weights of a canvas: 1 in the core, falling linearly to 0 across the halo.

        Parameters
        ----------
        shape, origin_px : (int, int)
            Size of the canvas, and row and column of its first pixel.
        """
        return np.outer(*(self._profile(*axis) for axis in zip(self.core, shape, origin_px, strict=True)))

    def _profile(self, core: tuple[float, float], size: int, first: int) -> NDArray[np.float64]:
        position = first + np.arange(size)
        outside = np.maximum(np.maximum(core[0] - position, position - core[1]), 0)
        return np.clip(1 - outside / max(self.halo_px, 1), 0, 1)


def cut_tiles(xcoords: NDArray[np.float64], ycoords: NDArray[np.float64], tile_px: float, halo_px: float) -> list[Tile]:
    """Cut a scan into tiles of equal cores, at most `tile_px` wide; empty tiles are left out.

    Parameters
    ----------
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    tile_px : float
        Largest extent of a core's patch centers along an axis.
    halo_px : float
        Width of the halo: at least the reach of one exposure, or of the network.

    Returns
    -------
    list of Tile
        Every exposure is in exactly one core. From top to bottom and left to right, except that each tile of a
        connected scan is adjacent to one before it: in this order their phases are matched.
    """
    edges = []
    for axis in (ycoords, xcoords):
        count = max(int(np.ceil(np.ptp(axis) / tile_px)), 1)
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
    return [tiles[cell] for cell in _adjacent_order(list(tiles))]


def cut_view(scan: Scan, exposures: NDArray[np.int64], options: TilingOptions) -> list[Tile]:
    """Cut some exposures of a scan into tiles, see `cut_tiles`; their indices are those of the scan.

    Parameters
    ----------
    scan : Scan
        Where the exposures come from.
    exposures : (m,) int64
        Exposures that are used, ascending: of a view all but the holdout exposures.
    options : TilingOptions
        Size of tiles and halo.
    """
    if not options.tile_px:
        return single_tiles(exposures)
    halo_px = float(scan.n_pixels if options.halo_px is None else options.halo_px)
    tiles = cut_tiles(scan.xcoords[exposures], scan.ycoords[exposures], options.tile_px, halo_px)
    return [replace(tile, exposures=exposures[tile.exposures]) for tile in tiles]


def single_tiles(exposures: NDArray[np.int64]) -> list[Tile]:
    """Make a tile of each exposure alone: no pattern informs another, and the illumination alone weights their objects.

    Parameters
    ----------
    exposures : (m,) int64
        Exposures that are used, in the order in which phases are matched: neighbors in a scan should follow each other.
    """
    return [Tile(exposure, WHOLE_PLANE, 0.0) for exposure in exposures[:, None]]


def borders_of(tiles: Sequence[Tile]) -> tuple[list[float], list[float]]:
    """Return where the cores of tiles meet: along y and along x [px], ascending."""
    y, x = ({edge for tile in tiles for edge in tile.core[axis] if np.isfinite(edge)} for axis in (0, 1))
    return sorted(y), sorted(x)


def redundancy(tiles: Sequence[Tile]) -> float:
    """Return how often an exposure is reconstructed: exposures of all tiles over those of the view that are used."""
    exposures = np.concatenate([tile.exposures for tile in tiles])
    return len(exposures) / len(np.unique(exposures))


def tile_numbers(tiles: Sequence[Tile]) -> dict[str, Any]:
    """Return what there is to know of the tiles of a view: `tiles`, `largest_tile` [exposures], `redundancy`."""
    sizes = [len(tile.exposures) for tile in tiles]
    return {"tiles": len(tiles), "largest_tile": max(sizes), "redundancy": redundancy(tiles)}


def halo_warning(tiles: Sequence[Tile], n_pixels: int) -> str | None:
    """Return a warning if cores have pixels that exposures beyond the halo illuminate; else None.

    Parameters
    ----------
    tiles : sequence of Tile
        At least one.
    n_pixels : int
        N, side of a pattern [px]: the window of an exposure reaches N/2 beyond its patch center.
    """
    halo_px = min(tile.halo_px for tile in tiles)
    if halo_px >= n_pixels / 2 or not any(borders_of(tiles)):
        return None
    return (
        f"the halo of the tiles, {halo_px:g} px, is narrower than half a pattern, N/2 = {n_pixels / 2:g} px: pixels "
        "near the seams of tiles are reconstructed without some of the exposures that illuminate them"
    )


def save_tiles(path: StrPath, tiles: Sequence[Tile], **metadata: Any) -> None:
    """Write T tiles as NPZ, and what there is to know of them as JSON beside it.

    Parameters
    ----------
    path : path
        NPZ with `exposures` (sum,) int64: those of one tile after the other; `starts` (T + 1,) int64: where each
        begins, and the end; `cores` (T, 2, 2) float64 [px]; `halo_px` (T,) float64; `metadata`.
    tiles : sequence of Tile
        At least one.
    **metadata
        Further numbers beside those of `tile_numbers`; JSON-serializable.
    """
    exposures = [tile.exposures for tile in tiles]
    text = json.dumps({**tile_numbers(tiles), **metadata}, indent=2)
    save_arrays(
        path,
        exposures=np.concatenate(exposures),
        starts=np.cumsum([0, *map(len, exposures)]),
        cores=np.array([tile.core for tile in tiles], np.float64),
        halo_px=np.array([tile.halo_px for tile in tiles], np.float64),
        metadata=np.array(text),
    )
    save_text(Path(path).with_suffix(".json"), text + "\n")


def load_tiles(path: StrPath, scan: Scan | None = None) -> list[Tile]:
    """Read the tiles of a view.

    Parameters
    ----------
    path : path
        NPZ that `save_tiles` wrote.
    scan : Scan, optional
        What they are tiles of: exposures that the scan does not have are refused.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing, damaged, holds no tiles, or none of the scan.
    """
    with Npz(path) as file:
        exposures, starts, cores, halos = (file.array(key) for key in _KEYS)
    _check_tiles(path, exposures, starts, cores, halos)
    parts = np.split(exposures, starts[1:-1])
    for part in parts:
        check_exposures(path, "exposures", part, scan)
    return [
        Tile(part, ((float(top), float(bottom)), (float(left), float(right))), float(halo))
        for part, ((top, bottom), (left, right)), halo in zip(parts, cores, halos, strict=True)
    ]


def _check_tiles(
    path: StrPath, exposures: NDArray[Any], starts: NDArray[Any], cores: NDArray[Any], halos: NDArray[Any]
) -> None:
    """Refuse arrays of other types and shapes, and tiles that are empty or leave exposures over."""
    count = max(starts.size - 1, 0)
    wanted = {
        "exposures": (exposures, "i", exposures.ndim == 1),
        "starts": (starts, "i", starts.shape == (count + 1,)),
        "cores": (cores, "f", cores.shape == (count, 2, 2)),
        "halo_px": (halos, "f", halos.shape == (count,)),
    }
    for key, (array, kind, fits) in wanted.items():
        if array.dtype.kind != kind or not fits or not count:
            raise ContractError(
                f"{path}: '{key}' is {array.dtype} with shape {array.shape}; wanted that of {count} tiles, one at least"
            )
    if starts[0] != 0 or starts[-1] != len(exposures) or (np.diff(starts) <= 0).any():
        raise ContractError(
            f"{path}: 'starts' goes from {starts[0]} to {starts[-1]}; wanted ascending from 0 to {len(exposures)}"
        )
    if np.isnan(cores).any() or not (np.isfinite(halos) & (halos >= 0)).all():
        raise ContractError(f"{path}: 'cores' or 'halo_px' holds a number that is none, or below 0")


def _adjacent_order(cells: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Order cells of a grid so that each is adjacent to one before it, as far as possible; else keep their order."""
    ordered, left = cells[:1], cells[1:]
    while left:
        adjacent = {(row + y, column + x) for row, column in ordered for y, x in ((0, 1), (1, 0), (0, -1), (-1, 0))}
        ordered.append(next((cell for cell in left if cell in adjacent), left[0]))
        left.remove(ordered[-1])
    return ordered


def fullest(tiles: Sequence[Tile]) -> int:
    """Return the index of the tile with the most exposures, where what holds for the whole scan is chosen."""
    return max(range(len(tiles)), key=lambda number: len(tiles[number].exposures))


def canvas_of(
    tile: Tile, obj: NDArray[np.complexfloating], illumination: NDArray[np.floating], origin_px: tuple[int, int]
) -> Canvas:
    """Weight a tile's object by its illumination and by the distance from the core.

    Parameters
    ----------
    tile : Tile
        Part of the scan that was reconstructed.
    obj : (H, W) complex64
        Its global phase is arbitrary: synchronize the canvases of tiles when they are merged.
    illumination : (H, W) float64
        Incident photons [photon/px].
    origin_px : (int, int)
        Row and column of the first pixel.
    """
    weight = tile.weight((obj.shape[0], obj.shape[1]), origin_px) * illumination
    return Canvas(weight * obj, weight, (int(origin_px[0]), int(origin_px[1])))
