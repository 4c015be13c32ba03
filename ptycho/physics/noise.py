"""Photon statistics: shot noise, Poisson deviance, photons split into independent scans, a scan at a lower dose."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ptycho.physics.forward import blocks
from ptycho.workflow.files import ContractError, StrPath

MEAN_FLOOR = 1e-6
"""Smallest mean count in the logarithm: a photon where none is predicted costs a deviance of 26, not ∞."""
MAX_COUNT = 2.0**53
"""Largest count: beyond it, floats do not tell a photon more or less, and integers may overflow [photon]."""


class Frames(Protocol):
    """Frames that are read by slices: an array or a part of a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> Any: ...


def shot_noise(intensity: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw Poisson counts and return their amplitudes.

    Parameters
    ----------
    intensity : (...) float
        Mean counts [photon].

    Returns
    -------
    (...) float32
        sqrt(counts).
    """
    return np.sqrt(rng.poisson(intensity)).astype(np.float32)


def poisson_deviance(counts: ArrayLike, mean: ArrayLike) -> float:
    """Poisson deviance per pixel, 2 <I - y + y ln(y / I)>.

    For the true mean it is about 1 where counts are large, and goes to 0 where they are small.

    Parameters
    ----------
    counts : array
        y, photons counted.
    mean : array of the same shape
        I ≥ 0, photons predicted; at least `MEAN_FLOOR` in the logarithm.

    Returns
    -------
    float
        Deviance per pixel.

    Raises
    ------
    ValueError
        If shapes differ or there are no pixels.

    Notes
    -----
    McCullagh and Nelder, Generalized Linear Models (1989), section 2.3.
    """
    return blockwise_deviance([(counts, mean)])


def blockwise_deviance(blocks: Iterable[tuple[ArrayLike, ArrayLike]]) -> float:
    """Poisson deviance per pixel over blocks of (counts, mean); independent of the block size up to rounding.

    Parameters
    ----------
    blocks : iterable of (counts, mean)
        Arrays as for `poisson_deviance`; one block at a time is in memory.

    Returns
    -------
    float
        Deviance per pixel.

    Raises
    ------
    ValueError
        If the shapes of a block differ or there are no pixels.
    """
    total, n_pixels = 0.0, 0
    for counts, mean in blocks:
        counts, mean = np.asarray(counts, np.float64), np.asarray(mean, np.float64)
        if counts.shape != mean.shape:
            raise ValueError(f"{counts.shape} counts but {mean.shape} predicted means")
        total += 2 * np.sum(mean - counts + special.xlogy(counts, counts / np.maximum(mean, MEAN_FLOOR)))
        n_pixels += counts.size
    if not n_pixels:
        raise ValueError("there are no pixels, and so no deviance")
    return float(total / n_pixels)


def reduce_dose(
    diffraction: Frames,
    fraction: float,
    rng: np.random.Generator,
    block_size: int = 64,
    source: StrPath = "the scan",
) -> Iterator[NDArray[np.float32]]:
    """Keep each photon of a measured scan with probability `fraction` (binomial thinning): the scan at a lower dose.

    Parameters
    ----------
    diffraction : (M, N, N) float32 array-like
        Amplitudes of integer counts, indexed by slices.
    fraction : float
        Probability to keep a photon, in (0, 1].
    block_size : int
        Exposures per block.
    source : path
        File of the amplitudes, for messages.

    Yields
    ------
    (b, N, N) float32
        Amplitudes, sqrt(counts).

    Raises
    ------
    ValueError
        If the fraction is not in (0, 1].
    ptycho.workflow.files.ContractError
        If the counts are not whole, see `whole_counts`.
    """
    if not 0 < fraction <= 1:
        raise ValueError(
            f"a fraction of {fraction:.3g} of the photons; wanted one in (0, 1]: the dose exceeds what was measured"
        )
    for block in blocks(len(diffraction), block_size):
        counts = whole_counts(diffraction[block], source)
        yield np.sqrt(rng.binomial(counts, fraction)).astype(np.float32)


def whole_counts(amplitude: NDArray[np.floating], source: StrPath) -> NDArray[np.int64]:
    """Photon counts of measured amplitudes; refuses amplitudes whose squares are not whole.

    Parameters
    ----------
    amplitude : array of float32
        sqrt(counts).
    source : path
        File of the amplitudes, for the message.

    Returns
    -------
    array of int64
        Counts [photon].

    Raises
    ------
    ptycho.workflow.files.ContractError
        If a square is not whole, as after a normalization, or more than `MAX_COUNT`: its photons cannot be split one by
        one.
    """
    counts = np.square(amplitude, dtype=np.float64)
    if not counts.max(initial=0) <= MAX_COUNT:
        raise ContractError(
            f"{source}: 'diffraction' squared is {counts.max():.4g} somewhere; wanted photons, at most {MAX_COUNT:.4g}"
        )
    whole = np.rint(counts)
    if not np.allclose(counts, whole, rtol=1e-6, atol=1e-2):
        worst = counts.flat[np.abs(counts - whole).argmax()]
        raise ContractError(
            f"{source}: 'diffraction' squared is {worst:.4g} somewhere; wanted whole photons, to be split one by one"
        )
    return whole.astype(np.int64)


def split_photons(
    counts: ArrayLike, fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split photons into two independent scans: each photon goes to the first with probability `fraction`.

    A Poisson count that is split in this way gives two independent Poisson counts.

    Parameters
    ----------
    counts : array of integers
        Detected photons; floats with integer values are accepted.
    fraction : float
        Probability that a photon goes to the first scan, in [0, 1].

    Returns
    -------
    first, second : arrays of int64
        Counts that add up to `counts`.

    Raises
    ------
    ValueError
        If a count is negative, not an integer or more than `MAX_COUNT`, or the fraction is outside [0, 1].
    """
    counts = np.asarray(counts)
    if not counts.max(initial=0) <= MAX_COUNT:
        raise ValueError(f"photons can be split only if every count is at most {MAX_COUNT:.4g}")
    whole = np.rint(counts).astype(np.int64)
    if (whole < 0).any() or not np.array_equal(whole, counts):
        raise ValueError("photons can be split only if every count is an integer ≥ 0")
    if not 0 <= fraction <= 1:
        raise ValueError(f"a fraction of {fraction}; wanted one in [0, 1]")
    first = rng.binomial(whole, fraction)
    return first, whole - first
