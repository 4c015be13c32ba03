"""Simulated scans: raster positions, and Poisson counts of a sample at a dose."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.detector import SimulatedDetector
from ptycho.physics.forward import blocks, predict_intensity

IDEAL = SimulatedDetector()
"""Detector that counts every photon and nothing else."""


@dataclass(frozen=True, kw_only=True)
class RasterOptions:
    """Jittered raster scan: train rows, a guard band, test rows."""

    columns: int
    """Exposures per row."""
    train_rows: int
    """Rows of the train split."""
    test_rows: int
    """Rows of the test split."""
    spacing_px: float
    """Distance between neighbors before jitter [px]."""
    jitter_px: float
    """Largest random offset along either axis [px]."""


def raster_positions(
    raster: RasterOptions, n: int, guard_px: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int]]:
    """Lay out the positions of a scan, half a window and a pixel from the object's edge.

    Parameters
    ----------
    raster : RasterOptions
        Rows, columns, spacing and jitter.
    n : int
        Side of the window [px].
    guard_px : float
        Smallest distance in y between a train and a test center [px].

    Returns
    -------
    xcoords, ycoords : (M,) float64
        Patch centers [px], row by row; the first `columns * train_rows` are train.
    shape : (int, int)
        Rows and columns, both even, of the smallest object that holds every window.
    """
    margin = _margin(raster, n)
    train_y = np.arange(raster.train_rows) * raster.spacing_px
    test_y = np.arange(raster.test_rows) * raster.spacing_px + train_y[-1] + guard_px + 2 * raster.jitter_px
    y, x = np.meshgrid(np.concatenate([train_y, test_y]), np.arange(raster.columns) * raster.spacing_px, indexing="ij")
    jitter = rng.uniform(-raster.jitter_px, raster.jitter_px, (2, *y.shape))
    ycoords, xcoords = (y + jitter[0]).ravel() + margin, (x + jitter[1]).ravel() + margin
    return xcoords, ycoords, raster_shape(raster, n, guard_px)


def _margin(raster: RasterOptions, n: int) -> float:
    """Distance of the outermost positions before jitter from the object's edge [px]."""
    return n // 2 + 1 + raster.jitter_px


def raster_shape(raster: RasterOptions, n: int, guard_px: float) -> tuple[int, int]:
    """Return rows and columns, both even, of the smallest object that holds every window.

    Parameters
    ----------
    raster, n, guard_px
        As of `raster_positions`.
    """
    spacing = raster.spacing_px
    y = (raster.test_rows - 1) * spacing + (raster.train_rows - 1) * spacing + guard_px + 2 * raster.jitter_px
    extents = y, (raster.columns - 1) * spacing
    height, width = (math.ceil(extent + 2 * _margin(raster, n)) for extent in extents)
    return height + height % 2, width + width % 2


def simulate_scan(
    obj: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    positions: tuple[NDArray[np.float64], NDArray[np.float64]],
    rng: np.random.Generator,
    block_size: int = 64,
    detector: SimulatedDetector = IDEAL,
) -> Iterator[NDArray[np.float32]]:
    """Simulate the patterns of a scan block by block; the counts do not depend on the block size.

    Parameters
    ----------
    obj : (H, W) complex64
        Transmittance of the sample.
    probe : (modes, N, N) complex64
        Illumination with Σ|P|² = dose [sqrt(photon)].
    positions : (xcoords, ycoords)
        (M,) float64 patch centers [px].
    block_size : int
        Exposures per block.
    detector : SimulatedDetector
        What it does to the photons of these M exposures; default: nothing.

    Yields
    ------
    (b, N, N) float32
        Amplitudes, sqrt(counts).
    """
    xcoords, ycoords = positions
    for block in blocks(len(xcoords), block_size):
        yield detector.count(predict_intensity(obj, probe, xcoords[block], ycoords[block]), block, rng)
