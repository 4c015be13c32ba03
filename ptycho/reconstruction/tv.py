"""TV-MAP: maximum a posteriori reconstruction, Poisson likelihood with a total-variation prior; known probe.

Likelihood of the counts (Thibault and Guizar-Sicairos, New J. Phys. 14, 063004, 2012) plus λ times the isotropic total
variation (Rudin, Osher and Fatemi, Physica D 60, 259, 1992) of the complex object, minimized by L-BFGS from large to
small λ. The final λ is the one that, fitted to most of the photons, predicts the others best. Exposures are read block
by block in every evaluation: memory is the canvas. On a GPU everything but these reads stays on it.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.canvas import Canvas
from ptycho.data.object_files import Reconstruction
from ptycho.data.tiles import canvas_of, cut_tiles, fullest
from ptycho.physics.forward import as_modes
from ptycho.reconstruction.counts import Counts, split_counts
from ptycho.reconstruction.devices import MEMORY_FRACTION, choose_device
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize, minimize_slow_phase
from ptycho.reconstruction.passes import Array
from ptycho.workflow.files import StrPath
from ptycho.workflow.job import CpuClock

WARM_START_FACTOR = 8.0
"""The last continuation starts at this many times the chosen λ, where it can start from the fit of most photons."""
MIN_BACKGROUND_FRACTION, MAX_BACKGROUND_FRACTION = 3.0e-3, 0.5
"""Background of the likelihood at the final λ, and its largest, in units of the square root of the mean count per
pixel."""
TYPICAL_TV_WEIGHT = 8.0
"""Typical chosen λ in units of the square root of the mean count per pixel; sets the background while λ is not chosen
yet."""
PHASE_ITERATIONS = 8
"""L-BFGS iterations on the slow phase before each λ below `WARM_START_FACTOR` times the final one."""

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


def reconstruct(
    counts: Counts,
    probe: NDArray[np.complexfloating],
    options: TVOptions,
    *,
    seed: int,
    folder: StrPath | None = None,
) -> Reconstruction:
    """Choose λ by splitting the photons, then reconstruct from all of them, tile by tile.

    All tiles have the λ that is chosen in the tile with the most exposures.

    Parameters
    ----------
    counts : Counts
        Fit and validation exposures; no truth is read.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    options : TVOptions
        Bounds of λ, iterations and size of the tiles.
    seed : int
        Seed of the split of the photons.
    folder : path, optional
        Folder for a canvas in files; default: in memory.

    Returns
    -------
    Reconstruction
        `chosen` has `tv_weight`; `history` has stage, tile, tv_weight, iterations, objective, validation_deviance.

    Raises
    ------
    ValueError
        If the options name a device that cannot be used.
    """
    device = choose_device(options.device, options.device_memory)
    clock, positions, n = CpuClock(), (counts.xcoords, counts.ycoords), as_modes(probe).shape[-1]
    _logger.info("TV-MAP is computed on %s", device.name)
    tiles, transmittance = cut_tiles(*positions, options.tile_px, n), counts.mean_transmittance(probe)
    largest = fullest(tiles)
    rows: list[dict[str, Any]] = []
    chosen, start = choose_tv_weight(
        counts.select(tiles[largest].exposures), probe, transmittance, options, seed=seed, rows=rows
    )
    canvas = Canvas.around(*positions, n, folder)
    for number, tile in enumerate(tiles):
        part = Likelihood(counts.select(tile.exposures), probe, device=device)
        illumination = device.to_host(part.illumination())
        weights = [weight for weight in tv_weights(options, illumination) if weight > chosen * 1.01] + [chosen]
        obj = device.xp.full(part.shape, transmittance, np.complex64)
        if number == largest:  # the choice of λ has fitted most of its photons down to this λ
            weights, obj = [weight for weight in weights if weight < WARM_START_FACTOR * chosen], start
        obj = continuation(part, obj, weights, options, rows, label=f"tile {number + 1}/{len(tiles)}")
        canvas.include(canvas_of(tile, device.to_host(obj), illumination, part.origin_px))
    return Reconstruction(
        object=canvas.mean(),
        illumination=canvas.weight,
        origin_px=canvas.origin_px,
        history=pd.DataFrame(rows),
        cpu_s=clock.seconds,
        chosen={"tv_weight": chosen},
    )


def continuation(
    likelihood: Likelihood,
    obj: Array,
    weights: list[float],
    options: TVOptions,
    rows: list[dict[str, Any]],
    *,
    label: str,
) -> Array:
    """Reconstruct from all photons with decreasing λ.

    Parameters
    ----------
    likelihood : Likelihood
        Likelihood of all photons.
    obj : (H, W) complex64
        Start, on the likelihood's device.
    weights : list of float
        Values of λ, decreasing.
    options : TVOptions
        Iterations at every λ and at the last.
    rows : list of dict
        History, to which one row per λ is appended.
    label : str
        Name of the tile in the progress bar and in the history.

    Returns
    -------
    (H, W) complex64
        Object at the last λ.
    """
    for weight in tqdm(weights, desc=f"all photons, {label}", unit="λ"):
        iterations = options.final_iterations if weight == weights[-1] else options.iterations
        smoothed = background_for(likelihood, weight / weights[-1])
        if weight < WARM_START_FACTOR * weights[-1]:
            obj = minimize_slow_phase(smoothed, obj, PHASE_ITERATIONS)
        obj, objective, n_iterations = minimize(smoothed, obj, weight, iterations)
        numbers = {"stage": "all", "tile": label, "tv_weight": weight}
        rows.append({**numbers, "iterations": n_iterations, "objective": objective})
    return obj


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
