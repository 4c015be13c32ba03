"""A simulated measurement: raster positions, one sample and one probe for all doses, Poisson counts for each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ptycho.npz import ContractError
from ptycho.physics import blocks, detect, predict_intensity


@dataclass(frozen=True, kw_only=True)
class Raster:
    """A jittered raster scan: train rows, a guard band, test rows."""

    columns: int
    """Exposures in a row."""
    train_rows: int
    """Rows of the train split."""
    test_rows: int
    """Rows of the test split."""
    spacing_px: float
    """Distance between neighbours before jitter [px]."""
    jitter_px: float
    """Largest random offset along either axis [px]."""


def raster_positions(raster: Raster, n: int, guard_px: float, rng: np.random.Generator):
    """Lay out the scan from the top left, a window's half and a pixel from the object's edge.

    Parameters
    ----------
    n : int
        Side of the window [px].
    guard_px : float
        Smallest distance in y between a train and a test centre [px].

    Returns
    -------
    xcoords, ycoords : (M,) float64
        Patch centres [px], row by row; the first `columns * train_rows` are train.
    shape : (int, int)
        Smallest object that holds every window.
    """
    margin = n // 2 + 1 + raster.jitter_px
    train_y = np.arange(raster.train_rows) * raster.spacing_px
    test_y = np.arange(raster.test_rows) * raster.spacing_px + train_y[-1] + guard_px + 2 * raster.jitter_px
    y, x = np.meshgrid(np.concatenate([train_y, test_y]), np.arange(raster.columns) * raster.spacing_px, indexing="ij")
    jitter = rng.uniform(-raster.jitter_px, raster.jitter_px, (2, *y.shape))
    ycoords, xcoords = (y + jitter[0]).ravel() + margin, (x + jitter[1]).ravel() + margin
    height, width = (int(np.ceil(axis.max() + 2 * margin)) for axis in (y, x))
    return xcoords, ycoords, (height + height % 2, width + width % 2)


def expose(obj, probe, positions, rng: np.random.Generator, block_size: int = 64) -> Iterator[np.ndarray]:
    """Count photons, block by block; the block size does not change the counts.

    Parameters
    ----------
    obj : (H, W) complex64
        Sample.
    probe : (modes, N, N) complex64
        Illumination with Σ|P|² = dose [sqrt(photon)].
    positions : (xcoords, ycoords)
        (M,) float64 patch centres [px].

    Yields
    ------
    (b, N, N) float32
        Amplitudes, sqrt(counts).
    """
    xcoords, ycoords = positions
    for block in blocks(len(xcoords), block_size):
        yield detect(predict_intensity(obj, probe, xcoords[block], ycoords[block]), rng)


def thin_counts(diffraction, fraction: float, rng: np.random.Generator, block_size: int = 64) -> Iterator[np.ndarray]:
    """Keep each photon of a measured scan with probability `fraction`: the same scan at a lower dose.

    Parameters
    ----------
    diffraction : (M, N, N) float32 array-like
        Amplitudes of integer counts, indexed by slices.

    Yields
    ------
    (b, N, N) float32
        Amplitudes, sqrt(binomially thinned counts).

    Raises
    ------
    ValueError
        If the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(
            f"a fraction of {fraction:.3g} of the photons; wanted one in (0, 1]: the dose exceeds what was measured"
        )
    for block in blocks(len(diffraction), block_size):
        counts = whole_counts(diffraction[block], getattr(diffraction, "path", "the scan"))
        yield np.sqrt(rng.binomial(counts, fraction)).astype(np.float32)


def whole_counts(amplitude, source):
    """Square measured amplitudes to the integers that they are roots of.

    Parameters
    ----------
    amplitude : array of float32
        sqrt(counts).
    source : Path
        Where they are from, for the message.

    Returns
    -------
    array of int64

    Raises
    ------
    ptycho.npz.ContractError
        If they are no roots of integers, as after a normalisation: photons could not be thinned.
    """
    counts = np.square(amplitude, dtype=np.float64)
    whole = np.rint(counts)
    if not np.allclose(counts, whole, rtol=1e-6, atol=1e-2):
        worst = counts.flat[np.abs(counts - whole).argmax()]
        raise ContractError(
            f"{source}: 'diffraction' squared is {worst:.4g} somewhere; wanted whole photons, as they are thinned"
        )
    return whole.astype(np.int64)


def split_counts(counts, fraction: float, rng: np.random.Generator):
    """Deal photons to two independent scans: each goes to the first with probability `fraction`.

    A Poisson count that is split so gives two independent Poisson counts.

    Parameters
    ----------
    counts : array of integers
        Detected photons; floats that hold integers are taken too.

    Returns
    -------
    first, second : arrays of int64
        They add up to `counts`.

    Raises
    ------
    ValueError
        If a count is negative or no integer, or the fraction is outside [0, 1].
    """
    counts = np.asarray(counts)
    whole = np.rint(counts).astype(np.int64)
    if (whole < 0).any() or not np.array_equal(whole, counts):
        raise ValueError("photons can be dealt out only if every count is an integer ≥ 0")
    if not 0 <= fraction <= 1:
        raise ValueError(f"a fraction of {fraction}; wanted one in [0, 1]")
    first = rng.binomial(whole, fraction)
    return first, whole - first
