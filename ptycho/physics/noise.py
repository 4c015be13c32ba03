"""Photon statistics: shot noise, the Poisson deviance, photons dealt to independent scans, a scan at a lower dose."""

from collections.abc import Iterable, Iterator

import numpy as np
from scipy import special

from ptycho.physics.forward import blocks
from ptycho.workflow.files import ContractError

MEAN_FLOOR = 1e-6
"""Smallest mean count that a logarithm sees: a photon where none was predicted costs a deviance of 26, not ∞."""


def shot_noise(intensity, rng: np.random.Generator):
    """Count photons: amplitude = sqrt(Poisson(intensity)), float32."""
    return np.sqrt(rng.poisson(intensity)).astype(np.float32)


def poisson_deviance(counts, mean) -> float:
    """Poisson deviance per pixel, 2 <I - y + y ln(y / I)>: about 1 for a true and large I, towards 0 for a small one.

    Parameters
    ----------
    counts : array
        y, photons counted.
    mean : array, same shape
        I >= 0, photons predicted. The logarithm sees no I below `MEAN_FLOOR`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes differ or there are no pixels.

    Notes
    -----
    McCullagh and Nelder, Generalized Linear Models (1989), section 2.3.
    """
    return heldout_deviance([(counts, mean)])


def heldout_deviance(blocks: Iterable[tuple]) -> float:
    """Poisson deviance per pixel over blocks of (counts, mean); how they are cut does not change it.

    Parameters
    ----------
    blocks : iterable of (counts, mean)
        As for `poisson_deviance`; only one block is looked at, at a time.

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
        raise ValueError("no patterns to compare: the deviance of nothing is undefined")
    return float(total / n_pixels)


def reduce_dose(diffraction, fraction: float, rng: np.random.Generator, block_size: int = 64) -> Iterator[np.ndarray]:
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
    ptycho.workflow.files.ContractError
        If they are no roots of integers, as after a normalization: photons could not be thinned.
    """
    counts = np.square(amplitude, dtype=np.float64)
    whole = np.rint(counts)
    if not np.allclose(counts, whole, rtol=1e-6, atol=1e-2):
        worst = counts.flat[np.abs(counts - whole).argmax()]
        raise ContractError(
            f"{source}: 'diffraction' squared is {worst:.4g} somewhere; wanted whole photons, as they are thinned"
        )
    return whole.astype(np.int64)


def split_photons(counts, fraction: float, rng: np.random.Generator):
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
