"""The yardstick of reconstructions without a truth: the deviance over its expected value for an exact prediction.

A misfit of 1 is perfect: what remains is shot noise alone. The deviance itself is 1 per pixel for an exact prediction
only where counts are many; the misfit can be compared between doses, scans and pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ptycho.physics.noise import MEAN_FLOOR

LIT = 0.1
"""Illumination from which on a pixel of the object counts as illuminated, as a fraction of the median."""
SIGNIFICANT = 4.0
"""Standard errors by which a misfit must exceed what shot noise explains for a warning."""
LARGE_MEAN = 1.0e3
"""Mean count from which on the expected deviance is 1 + 1 / (6 I) and its variance 2, to 1e-6 and to 1e-3."""
SMALL_MEAN = 1.0e-7
"""Smallest tabulated mean count; below it, the expected deviance is proportional to the mean."""


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """Deviance of predicted counts, and what it would be for an exact prediction, by exposure and by pixel."""

    deviance: NDArray[np.float64]
    """(m,) deviance of every exposure, summed over its valid pixels."""
    expected: NDArray[np.float64]
    """(m,) its expected value, were the prediction exact."""
    photons: NDArray[np.float64]
    """(m,) photons counted on valid pixels."""
    predicted: NDArray[np.float64]
    """(m,) photons predicted there."""
    variance: float
    """Variance of the deviance of all exposures together, were the prediction exact."""
    pixel_deviance: NDArray[np.float64]
    """(N, N) or (V,) deviance of every pixel, summed over the exposures; 0 where a pixel is not valid."""
    pixel_expected: NDArray[np.float64]
    """(N, N) or (V,) its expected value; 0 where a pixel is not valid."""
    n_valid: int
    """Valid pixels of an exposure."""

    @property
    def ratio(self) -> float:
        """The misfit: deviance over its expected value, 1 for an exact prediction; NaN if no photon is expected."""
        return float(_over(self.deviance.sum(), self.expected.sum()))

    @property
    def standard_error(self) -> float:
        """Standard deviation of `ratio` by shot noise alone, were the prediction exact."""
        return float(_over(np.sqrt(self.variance), self.expected.sum()))

    @property
    def by_exposure(self) -> NDArray[np.float64]:
        """(m,) misfit of every exposure; NaN where no photon is expected."""
        return _over(self.deviance, self.expected)

    @property
    def by_pixel(self) -> NDArray[np.float64]:
        """(N, N) or (V,) misfit of every detector pixel; NaN where a pixel is not valid or no photon is expected."""
        return _over(self.pixel_deviance, self.pixel_expected)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers of all exposures together; JSON-serializable."""
        n_pixels = max(len(self.deviance) * self.n_valid, 1)
        return {
            "misfit": self.ratio,
            "standard_error": self.standard_error,
            "deviance_per_pixel": float(self.deviance.sum() / n_pixels),
            "expected_deviance_per_pixel": float(self.expected.sum() / n_pixels),
            "exposures": len(self.deviance),
            "valid_pixels": self.n_valid,
            "photons": float(self.photons.sum()),
            "predicted_photons": float(self.predicted.sum()),
        }


def measure_misfit(blocks: Iterable[tuple[ArrayLike, ArrayLike]], valid: NDArray[np.bool_] | None = None) -> Misfit:
    """Compare counts with predicted mean counts, block by block.

    Parameters
    ----------
    blocks : iterable of (counts, mean)
        (b, N, N), or (b, V) of valid pixels alone, photons counted and predicted; one block at a time is in memory.
    valid : (N, N) bool, optional
        Pixels that count; default: all.

    Raises
    ------
    ValueError
        If the shapes of a block differ, or there are no exposures or no valid pixels.
    """
    rows: list[NDArray[np.float64]] = []
    variance, deviances, expectations = 0.0, np.zeros(()), np.zeros(())
    for counts, mean in blocks:
        counts, mean = np.asarray(counts, np.float64), np.asarray(mean, np.float64)
        if counts.shape != mean.shape:
            raise ValueError(f"{counts.shape} counts but {mean.shape} predicted means")
        weight = np.ones(counts.shape[1:]) if valid is None else valid.astype(np.float64)
        expected, spread = deviance_moments(mean)
        deviance = 2 * (mean - counts + special.xlogy(counts, counts / np.maximum(mean, MEAN_FLOOR)))
        parts = [np.where(weight, part, 0.0) for part in (deviance, expected, counts, mean)]
        rows.append(np.stack([part.reshape(len(part), -1).sum(1) for part in parts]))
        variance += float(np.sum(spread * weight))
        deviances, expectations = deviances + parts[0].sum(0), expectations + parts[1].sum(0)
    if not rows or not deviances.size or (valid is not None and not valid.any()):
        raise ValueError("there are no exposures or no valid pixels, and so no misfit")
    deviance, expected, photons, predicted = np.concatenate(rows, axis=1)
    return Misfit(
        deviance=deviance,
        expected=expected,
        photons=photons,
        predicted=predicted,
        variance=variance,
        pixel_deviance=deviances,
        pixel_expected=expectations,
        n_valid=deviances.size if valid is None else int(valid.sum()),
    )


def deviance_moments(mean: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected value and variance of a pixel's Poisson deviance when its mean count is predicted exactly.

    Parameters
    ----------
    mean : array
        I ≥ 0, mean counts [photon].

    Returns
    -------
    expected : array of float64
        Mean of 2 (I - y + y ln(y / I)) over Poisson counts y: about 2 I ln(1 / I) for few photons, with the logarithm's
        floor `MEAN_FLOOR`; at most 1.16, near I = 1.4; 1 + 1 / (6 I) for many.
    variance : array of float64
        Its variance; 2 for many photons, where the deviance is distributed as χ² with one degree of freedom.

    Notes
    -----
    McCullagh and Nelder, Generalized Linear Models (1989), section 2.3 and appendix C.
    """
    logarithms, table = _moments()
    mean = np.asarray(mean, np.float64)
    position = np.log(np.clip(mean, SMALL_MEAN, LARGE_MEAN))
    expected, variance = (np.exp(np.interp(position, logarithms, column)) for column in table)
    small, large = np.minimum(mean / SMALL_MEAN, 1), mean > LARGE_MEAN
    expected, variance = expected * small, variance * small
    return np.where(large, 1 + 1 / (6 * np.maximum(mean, 1)), expected), np.where(large, 2.0, variance)


@lru_cache(maxsize=1)
def _moments() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of mean counts (n,), and of the moments there (2, n): sums over all likely counts."""
    means = np.geomspace(SMALL_MEAN, LARGE_MEAN, 601)
    moments = np.empty((2, len(means)))
    for number, mean in enumerate(means):
        counts = np.arange(int(mean + 12 * np.sqrt(mean) + 30))
        probability = np.exp(special.xlogy(counts, mean) - mean - special.gammaln(counts + 1))
        deviance = 2 * (mean - counts + special.xlogy(counts, counts / max(mean, MEAN_FLOOR)))
        expected = np.sum(probability * deviance)
        moments[:, number] = expected, np.sum(probability * (deviance - expected) ** 2)
    return np.log(means), np.log(moments)


def lit_pixels(illumination: NDArray[np.floating]) -> int:
    """Count the pixels of an object that an (H, W) illumination lights, from `LIT` of the median on."""
    return int(np.sum(illumination >= LIT * np.median(illumination[illumination > 1.0e-3 * illumination.max()])))


def misfit_of_shot_noise(n_pixels: float, expected_deviance: float) -> float:
    """Misfit that shot noise explains: of an exact forward model, its object and probe estimated from noisy photons.

    An unbiased estimate of p numbers from m exposures raises the deviance of exposures that it was not fitted to by
    p / m each (Akaike, IEEE Trans. Autom. Control 19, 716, 1974); the deviance of the fitted ones is lower by as much.
    A prior can lower what the estimate adds. More than this is an error of the model: of probe, positions, orientation,
    detector, or of the reconstruction.

    Parameters
    ----------
    n_pixels : float
        Illuminated pixels of the object per fitted exposure, and those of the probe if it was estimated, too. Each has
        a real and an imaginary part.
    expected_deviance : float
        Expected deviance of an exposure, summed over its pixels; 0, where no photon is expected, gives infinity.
    """
    return 1 + 2 * n_pixels / expected_deviance if expected_deviance else np.inf


def _over(value: ArrayLike, expected: ArrayLike) -> NDArray[np.float64]:
    """Divide; NaN where nothing is expected."""
    value, expected = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    return np.divide(value, expected, out=np.full(value.shape, np.nan), where=expected > 0)
