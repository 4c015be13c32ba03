"""Poisson maximum a posteriori with a total-variation prior: the strongest simple method, known probe, whole scan.

The counts' likelihood (Thibault and Guizar-Sicairos, New J. Phys. 14, 063004, 2012) plus λ times the isotropic total
variation (Rudin, Osher and Fatemi, Physica D 60, 259, 1992) of the complex object, minimised by SciPy's L-BFGS from
strong to weak λ. Exposures are read block by block in every evaluation: memory is the canvas.
"""

import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from ptycho.descent import descend, descend_phase
from ptycho.likelihood import Counts, Likelihood, thinned
from ptycho.physics import as_modes
from ptycho.stitch import Canvas
from ptycho.tiles import canvas_of, cut_tiles, fullest

WARM = 8.0
"""How far above the chosen λ the last continuation starts, if it has a reconstruction of most photons to start from."""
SOFT, SOFTEST = 3.0e-3, 0.5
"""Background of the likelihood in the last steps and its largest, times the square root of the mean count per pixel."""
TYPICAL = 8.0
"""What is chosen for λ is about so many times that root: the background while it is not chosen."""
PHASE_ITERATIONS = 8
"""L-BFGS iterations on the slow phase before each of the last strengths, those less than `WARM` times the chosen."""


@dataclass(frozen=True, kw_only=True)
class TotalVariation:
    """How the prior's strength is found and the minimum reached."""

    strongest: float
    """λ that the continuation starts from; bright scans start higher, see `strengths`."""
    weakest: float
    """Smallest λ that may be chosen."""
    iterations: int
    """L-BFGS iterations at every λ on the way."""
    final_iterations: int
    """L-BFGS iterations at the chosen λ."""
    fit_share: float
    """Share of the photons that is fitted while λ is chosen; the rest judges."""
    tile_px: float
    """Largest extent of positions that are reconstructed at once [px]; larger scans are cut into tiles."""


@dataclass(frozen=True)
class Reconstruction:
    """What came out."""

    object: np.ndarray
    """(H, W) complex64."""
    weight: np.ndarray
    """(H, W) illumination, photons per pixel."""
    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""
    strength: float
    """λ that was chosen."""
    history: pd.DataFrame
    """stage, tile, strength, iterations, objective, deviance of the photons set apart."""


def transmission_of(counts: Counts, probe) -> float:
    """Mean amplitude transmittance, sqrt(detected / incident photons)."""
    return float(np.sqrt(counts.photons() / (len(counts) * np.sum(np.abs(probe) ** 2, dtype=np.float64))))


def softened(likelihood: Likelihood, factor: float) -> Likelihood:
    """Return a likelihood with the background that belongs to a prior of so many times the final strength."""
    return likelihood.softened(min(SOFT * max(factor, 1) ** 1.5, SOFTEST))


def strengths(options: TotalVariation, light):
    """λ from the strongest to the weakest, halved every time.

    The gradient of the likelihood grows with the light: where half of its median [photons per pixel] is more than the
    strongest, that is doubled until it is not.
    """
    lit = light[light > 1e-3 * light.max()]
    doublings = max(int(np.ceil(np.log2(np.median(lit) / (2 * options.strongest)))), 0)
    count = int(np.floor(np.log2(options.strongest / options.weakest) + 1e-9)) + 1 + doublings
    return options.strongest * 2.0 ** (doublings - np.arange(count))


def reconstruct(counts: Counts, probe, options: TotalVariation, *, seed: int, folder=None) -> Reconstruction:
    """Choose λ by thinning the photons, then reconstruct from all of them, tile by tile.

    λ is chosen in the tile with the most exposures and is that of all.

    Parameters
    ----------
    counts : Counts
        Exposures that may be used; the truth is nowhere.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    seed : int
        Of the thinning.
    folder : Path, optional
        Where the canvas of a large scan lives in files; without, it is in memory.

    Returns
    -------
    Reconstruction
    """
    places, n = (counts.xcoords, counts.ycoords), as_modes(probe).shape[-1]
    tiles, level = cut_tiles(*places, options.tile_px, n), transmission_of(counts, probe)
    largest = fullest(tiles)
    rows: list[dict] = []
    chosen, start = choose_strength(
        counts.select(tiles[largest].exposures), probe, level, options, seed=seed, rows=rows
    )
    canvas = Canvas.around(*places, n, folder)
    for number, tile in enumerate(tiles):
        part = Likelihood(counts.select(tile.exposures), probe)
        path = [strength for strength in strengths(options, part.light()) if strength > chosen * 1.01] + [chosen]
        obj = np.full(part.shape, level, np.complex64)
        if number == largest:  # most of its photons have come down to there
            path, obj = [strength for strength in path if strength < WARM * chosen], start
        obj = continuation(part, obj, path, options, rows, label=f"tile {number + 1}/{len(tiles)}")
        canvas.include(canvas_of(tile, obj, part.light(), part.origin_px), synchronised=True)
    return Reconstruction(canvas.mean(), canvas.weight, canvas.origin_px, chosen, pd.DataFrame(rows))


def continuation(everything: Likelihood, obj, path: list[float], options: TotalVariation, rows: list, *, label: str):
    """Reconstruct from all photons, from the strongest prior of a path down to the last.

    Parameters
    ----------
    everything : Likelihood
        Of all photons.
    obj : (H, W) complex64
        Where the first begins.
    path : list of float
        λ, falling.
    rows : list of dict
        Takes what was done, for a history.

    Returns
    -------
    obj : (H, W) complex64
    """
    for strength in tqdm(path, desc=f"all photons, {label}", unit="λ"):
        iterations = options.final_iterations if strength == path[-1] else options.iterations
        soft = softened(everything, strength / path[-1])
        if strength < WARM * path[-1]:
            obj = descend_phase(soft, obj, PHASE_ITERATIONS)
        obj, objective, made = descend(soft, obj, strength, iterations)
        numbers = {"stage": "all", "tile": label, "strength": strength}
        rows.append({**numbers, "iterations": made, "objective": objective})
    return obj


def choose_strength(counts: Counts, probe, level: float, options: TotalVariation, *, seed: int, rows: list):
    """Find λ by thinning the photons: the fit of most of them that predicts the others best, to a factor of √2.

    Parameters
    ----------
    level : float
        Transmittance of the flat object that it starts from.
    rows : list of dict
        Takes what was done, for a history.

    Returns
    -------
    chosen : float
        λ for all photons.
    obj : (H, W) complex64
        The fit of most photons at `WARM` times that λ, or at the strongest.
    """
    shares = options.fit_share, 1 - options.fit_share
    halves = zip(thinned(counts, options.fit_share, seed), shares, strict=True)
    fitted, apart = (Likelihood(part, probe, share) for part, share in halves)
    pixels = len(counts) * apart.n**2
    share, found, states = np.sqrt(options.fit_share), {}, {}
    obj = np.full(fitted.shape, level, np.complex64)

    def judge(strength: float, start):
        typical = strength * share / (TYPICAL * fitted.noise())
        obj, objective, made = descend(softened(fitted, typical), start, strength * share, options.iterations)
        found[strength], states[strength] = 2 * apart(obj)[0] / pixels, obj
        numbers = {"stage": "choice", "strength": strength, "iterations": made, "objective": objective}
        rows.append({**numbers, "deviance_apart": found[strength]})
        return obj

    grid = strengths(options, fitted.light() / options.fit_share)
    for strength in tqdm(grid, desc="choice of λ", unit="λ"):
        obj = judge(float(strength), obj)
        best = min(found, key=found.get)
        if strength < best / 3:  # two steps without a better one
            break
    for strength in (best * np.sqrt(2), best / np.sqrt(2)):
        if not grid[-1] <= strength <= grid[0]:
            continue
        judge(float(strength), states[min((s for s in states if s > strength), default=best)])
    chosen = min(found, key=found.get)
    if chosen in (grid[0], grid[-1]):
        which = "weakest" if chosen == grid[-1] else "strongest"
        print(f"WARNING: the {which} prior that may be chosen, {chosen:.4g}, is chosen: tv.{which}", file=sys.stderr)
    return chosen, states[min((s for s in states if s >= WARM * chosen), default=max(states))]
