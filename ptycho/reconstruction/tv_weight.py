"""TV-MAP's options, the weights λ of its prior from large to small, and the choice of λ by splitting the photons.

The chosen λ is the one that, fitted to most of the photons, predicts the others best.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.reconstruction.counts import Counts, split_counts
from ptycho.reconstruction.devices import MEMORY_FRACTION, choose_device
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize
from ptycho.reconstruction.passes import Array

WARM_START_FACTOR = 8.0
"""The last continuation starts at this many times the chosen λ, where it can start from the fit of most photons."""
MIN_BACKGROUND_FRACTION, MAX_BACKGROUND_FRACTION = 3.0e-3, 0.5
"""Background of the likelihood at the final λ, and its largest, in units of the square root of the mean count per
pixel."""
TYPICAL_TV_WEIGHT = 8.0
"""Typical chosen λ in units of the square root of the mean count per pixel; sets the background while λ is not chosen
yet."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TVOptions:
    """Choice of the prior's weight, and minimization."""

    lambda_max: float
    """λ at which the continuation starts; higher for bright scans, see `tv_weights`."""
    lambda_min: float
    """Smallest λ that may be chosen."""
    iterations: int
    """L-BFGS iterations at every λ before the chosen one."""
    final_iterations: int
    """L-BFGS iterations at the chosen λ."""
    fit_fraction: float
    """Fraction of the photons that is fitted while λ is chosen; the rest is for validation."""
    tile_px: float
    """Largest extent of the positions of a tile [px]; larger scans are cut into tiles."""
    device: str = "auto"
    """Where to compute: `cpu`, `gpu`, or `auto`, see `ptycho.reconstruction.devices.choose_device`."""
    device_memory: float = MEMORY_FRACTION
    """Fraction of a GPU's free memory that may be in use when exposures are kept there."""
    chunks: int = 1
    """Jobs of a study that the tiles are divided among; what they merge to does not depend on it."""


def background_for(likelihood: Likelihood, weight_ratio: float) -> Likelihood:
    """Return the likelihood with the background for a step of the continuation.

    Parameters
    ----------
    likelihood : Likelihood
        Likelihood with any background.
    weight_ratio : float
        λ of the step in units of the final λ.
    """
    fraction = min(MIN_BACKGROUND_FRACTION * max(weight_ratio, 1) ** 1.5, MAX_BACKGROUND_FRACTION)
    return likelihood.with_background(fraction)


def tv_weights(options: TVOptions, illumination: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return λ from the largest to the smallest, halved every time.

    The gradient of the likelihood grows with the illumination. If half the median illumination exceeds `lambda_max`,
    the sequence starts at `lambda_max` doubled until it does not.

    Parameters
    ----------
    options : TVOptions
        Largest and smallest λ.
    illumination : (H, W) float
        Incident photons [photon/px]; the median is over its illuminated pixels.
    """
    lit = illumination[illumination > 1e-3 * illumination.max()]
    doublings = max(int(np.ceil(np.log2(np.median(lit) / (2 * options.lambda_max)))), 0)
    count = int(np.floor(np.log2(options.lambda_max / options.lambda_min) + 1e-9)) + 1 + doublings
    return options.lambda_max * 2.0 ** (doublings - np.arange(count))


def choose_tv_weight(
    counts: Counts,
    probe: NDArray[np.complexfloating],
    transmittance: float,
    options: TVOptions,
    *,
    seed: int,
    rows: list[dict[str, Any]],
) -> tuple[float, Array]:
    """Choose the λ, to a factor of √2, that predicts the validation photons best when the others are fitted.

    Parameters
    ----------
    counts : Counts
        Exposures whose photons are split.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    transmittance : float
        Amplitude of the flat object at which the fit starts.
    options : TVOptions
        Bounds of λ, iterations, and fraction of the photons to fit.
    seed : int
        Seed of the split.
    rows : list of dict
        History, to which one row per λ is appended.

    Returns
    -------
    chosen : float
        λ for all photons.
    obj : (H, W) complex64
        Fit of most photons at `WARM_START_FACTOR` times that λ, or at the largest λ; on the device of the options.
    """
    device = choose_device(options.device, options.device_memory)
    fractions = options.fit_fraction, 1 - options.fit_fraction
    parts = zip(split_counts(counts, options.fit_fraction, seed), fractions, strict=True)
    fit, validation = (Likelihood(part, probe, fraction, device=device) for part, fraction in parts)
    scale = np.sqrt(options.fit_fraction)  # λ for a part of the photons, in units of λ for all
    deviances: dict[float, float] = {}
    fits: dict[float, Array] = {}
    obj = device.xp.full(fit.shape, transmittance, np.complex64)

    def fit_and_validate(weight: float, start: Array) -> Array:
        smoothed = background_for(fit, weight * scale / (TYPICAL_TV_WEIGHT * fit.noise_level()))
        obj, objective, n_iterations = minimize(smoothed, start, weight * scale, options.iterations)
        deviances[weight], fits[weight] = 2 * validation(obj)[0] / validation.n_values, obj
        numbers = {"stage": "choice", "tv_weight": weight, "iterations": n_iterations, "objective": objective}
        rows.append({**numbers, "validation_deviance": deviances[weight]})
        return obj

    grid = tv_weights(options, device.to_host(fit.illumination()) / options.fit_fraction)
    for weight in tqdm(grid, desc="choice of λ", unit="λ"):
        obj = fit_and_validate(float(weight), obj)
        best = min(deviances, key=deviances.__getitem__)
        if weight < best / 3:  # the last two are no better
            break
    for weight in (best * np.sqrt(2), best / np.sqrt(2)):
        if grid[-1] <= weight <= grid[0]:
            fit_and_validate(float(weight), fits[min((tried for tried in fits if tried > weight), default=best)])
    chosen = min(deviances, key=deviances.__getitem__)
    if chosen in (grid[0], grid[-1]):
        bound, change = ("lower", "lower tv.lambda_min") if chosen == grid[-1] else ("upper", "raise tv.lambda_max")
        _logger.warning("The TV weight reached its %s bound (%.4g); %s.", bound, chosen, change)
    return chosen, fits[min((tried for tried in fits if tried >= WARM_START_FACTOR * chosen), default=max(fits))]
