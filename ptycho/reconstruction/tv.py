"""TV-MAP: maximum a posteriori reconstruction, Poisson likelihood with a total-variation prior; known probe.

Likelihood of the counts (Thibault and Guizar-Sicairos, New J. Phys. 14, 063004, 2012) plus λ times the isotropic total
variation (Rudin, Osher and Fatemi, Physica D 60, 259, 1992) of the complex object, minimized by L-BFGS from large to
small λ. The final λ is the one that, fitted to most of the photons, predicts the others best. Exposures are read block
by block in every evaluation: memory is the canvas.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.canvas import Canvas
from ptycho.data.object_files import Reconstruction
from ptycho.data.tiles import canvas_of, cut_tiles, fullest
from ptycho.physics.forward import as_modes
from ptycho.reconstruction.likelihood import Counts, Likelihood, split_counts
from ptycho.reconstruction.optimize import minimize, minimize_slow_phase
from ptycho.workflow.job import CpuClock

WARM_START_FACTOR = 8.0
"""The last continuation starts at this many times the chosen λ, where it can start from the fit of most photons."""
MIN_BACKGROUND_FRACTION, MAX_BACKGROUND_FRACTION = 3.0e-3, 0.5
"""Background of the likelihood at the final λ, and its largest, in units of the square root of the mean count per
pixel."""
TYPICAL_TV_WEIGHT = 8.0
"""The chosen λ is about this many times that root: what the background is derived from while λ is not chosen yet."""
PHASE_ITERATIONS = 8
"""L-BFGS iterations on the slow phase before each λ below `WARM_START_FACTOR` times the final one."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TVOptions:
    """How the weight of the prior is chosen and the minimum found."""

    lambda_max: float
    """λ that the continuation starts from; bright scans start higher, see `tv_weights`."""
    lambda_min: float
    """Smallest λ that may be chosen."""
    iterations: int
    """L-BFGS iterations at every λ on the way."""
    final_iterations: int
    """L-BFGS iterations at the chosen λ."""
    fit_fraction: float
    """Fraction of the photons that is fitted while λ is chosen; the rest is for validation."""
    tile_px: float
    """Largest extent of positions that are reconstructed at once [px]; larger scans are cut into tiles."""


def with_background(likelihood: Likelihood, factor: float) -> Likelihood:
    """Return a likelihood with the background that belongs to a prior of `factor` times the final weight."""
    return likelihood.with_background(min(MIN_BACKGROUND_FRACTION * max(factor, 1) ** 1.5, MAX_BACKGROUND_FRACTION))


def tv_weights(options: TVOptions, illumination) -> NDArray[np.floating]:
    """Return λ from the largest to the smallest, halved every time.

    The gradient of the likelihood grows with the illumination: where half of its median [photon/px] is more than
    `lambda_max`, that is doubled until it is not.
    """
    lit = illumination[illumination > 1e-3 * illumination.max()]
    doublings = max(int(np.ceil(np.log2(np.median(lit) / (2 * options.lambda_max)))), 0)
    count = int(np.floor(np.log2(options.lambda_max / options.lambda_min) + 1e-9)) + 1 + doublings
    return options.lambda_max * 2.0 ** (doublings - np.arange(count))


def reconstruct(counts: Counts, probe, options: TVOptions, *, seed: int, folder=None) -> Reconstruction:
    """Choose λ by splitting the photons, then reconstruct from all of them, tile by tile.

    λ is chosen in the tile with the most exposures and is that of all.

    Parameters
    ----------
    counts : Counts
        Fit and validation exposures; no truth is read.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    seed : int
        Of the split of the photons.
    folder : Path, optional
        Where the canvas of a large scan lives in files; without, it is in memory.

    Returns
    -------
    Reconstruction
        `chosen` has `tv_weight`; `history` has stage, tile, tv_weight, iterations, objective, validation_deviance.
    """
    clock, positions, n = CpuClock(), (counts.xcoords, counts.ycoords), as_modes(probe).shape[-1]
    tiles, transmittance = cut_tiles(*positions, options.tile_px, n), counts.mean_transmittance(probe)
    largest = fullest(tiles)
    rows: list[dict] = []
    chosen, start = choose_tv_weight(
        counts.select(tiles[largest].exposures), probe, transmittance, options, seed=seed, rows=rows
    )
    canvas = Canvas.around(*positions, n, folder)
    for number, tile in enumerate(tiles):
        part = Likelihood(counts.select(tile.exposures), probe)
        path = [weight for weight in tv_weights(options, part.illumination()) if weight > chosen * 1.01] + [chosen]
        obj = np.full(part.shape, transmittance, np.complex64)
        if number == largest:  # the fit of most of its photons has come down to there
            path, obj = [weight for weight in path if weight < WARM_START_FACTOR * chosen], start
        obj = continuation(part, obj, path, options, rows, label=f"tile {number + 1}/{len(tiles)}")
        canvas.include(canvas_of(tile, obj, part.illumination(), part.origin_px), synchronized=True)
    return Reconstruction(
        object=canvas.mean(),
        illumination=canvas.weight,
        origin_px=canvas.origin_px,
        history=pd.DataFrame(rows),
        cpu_s=clock.seconds,
        chosen={"tv_weight": chosen},
    )


def continuation(
    likelihood: Likelihood, obj, path: list[float], options: TVOptions, rows: list[dict], *, label: str
) -> NDArray[np.complex64]:
    """Reconstruct from all photons along a path of falling λ.

    Parameters
    ----------
    likelihood : Likelihood
        Of all photons.
    obj : (H, W) complex64
        Start.
    path : list of float
        λ, falling.
    rows : list of dict
        History; takes a row a λ.
    label : str
        Of the progress bar and in the history.

    Returns
    -------
    obj : (H, W) complex64
    """
    for weight in tqdm(path, desc=f"all photons, {label}", unit="λ"):
        iterations = options.final_iterations if weight == path[-1] else options.iterations
        smoothed = with_background(likelihood, weight / path[-1])
        if weight < WARM_START_FACTOR * path[-1]:
            obj = minimize_slow_phase(smoothed, obj, PHASE_ITERATIONS)
        obj, objective, n_iterations = minimize(smoothed, obj, weight, iterations)
        numbers = {"stage": "all", "tile": label, "tv_weight": weight}
        rows.append({**numbers, "iterations": n_iterations, "objective": objective})
    return obj


def choose_tv_weight(
    counts: Counts, probe, transmittance: float, options: TVOptions, *, seed: int, rows: list[dict]
) -> tuple[float, NDArray[np.complex64]]:
    """Choose λ by splitting the photons: of the fits of most of them, the one that predicts the others best.

    λ is found to a factor of √2.

    Parameters
    ----------
    transmittance : float
        Amplitude of the flat object that the fit starts from.
    seed : int
        Of the split.
    rows : list of dict
        History; takes a row a λ.

    Returns
    -------
    chosen : float
        λ for all photons.
    obj : (H, W) complex64
        The fit of most photons at `WARM_START_FACTOR` times that λ, or at the largest.
    """
    fractions = options.fit_fraction, 1 - options.fit_fraction
    parts = zip(split_counts(counts, options.fit_fraction, seed), fractions, strict=True)
    fit, validation = (Likelihood(part, probe, fraction) for part, fraction in parts)
    n_values = len(counts) * validation.n_pixels**2
    scale = np.sqrt(options.fit_fraction)  # λ for a part of the photons, in units of λ for all
    deviances: dict[float, float] = {}
    fits: dict[float, NDArray] = {}
    obj = np.full(fit.shape, transmittance, np.complex64)

    def fit_and_validate(weight: float, start):
        typical = weight * scale / (TYPICAL_TV_WEIGHT * fit.noise())
        smoothed = with_background(fit, typical)
        obj, objective, n_iterations = minimize(smoothed, start, weight * scale, options.iterations)
        deviances[weight], fits[weight] = 2 * validation(obj)[0] / n_values, obj
        numbers = {"stage": "choice", "tv_weight": weight, "iterations": n_iterations, "objective": objective}
        rows.append({**numbers, "validation_deviance": deviances[weight]})
        return obj

    grid = tv_weights(options, fit.illumination() / options.fit_fraction)
    for weight in tqdm(grid, desc="choice of λ", unit="λ"):
        obj = fit_and_validate(float(weight), obj)
        best = min(deviances, key=deviances.__getitem__)
        if weight < best / 3:  # two steps without a better one
            break
    for weight in (best * np.sqrt(2), best / np.sqrt(2)):
        if grid[-1] <= weight <= grid[0]:
            fit_and_validate(float(weight), fits[min((tried for tried in fits if tried > weight), default=best)])
    chosen = min(deviances, key=deviances.__getitem__)
    if chosen in (grid[0], grid[-1]):
        bound, change = ("lower", "lower tv.lambda_min") if chosen == grid[-1] else ("upper", "raise tv.lambda_max")
        _logger.warning("The TV weight reached its %s bound (%.4g); %s.", bound, chosen, change)
    return chosen, fits[min((tried for tried in fits if tried >= WARM_START_FACTOR * chosen), default=max(fits))]
