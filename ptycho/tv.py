"""Poisson maximum a posteriori with a total-variation prior: the strongest simple method, known probe, whole scan.

The counts' likelihood (Thibault and Guizar-Sicairos, New J. Phys. 14, 063004, 2012) plus λ times the isotropic total
variation (Rudin, Osher and Fatemi, Physica D 60, 259, 1992) of the complex object, minimised by SciPy's L-BFGS from
strong to weak λ. Exposures are read block by block in every evaluation: memory is the canvas.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import fft
from scipy.optimize import minimize
from tqdm import tqdm

from ptycho.likelihood import Counts, Likelihood, thinned
from ptycho.physics import illumination

EDGE = 0.02
"""Differences of transmittance below this count as smooth, above as edges: the total variation is differentiable."""
BOOST, BOOST_FREQUENCY = 7.0, 0.09
"""Low spatial frequencies, in cycles a pixel, move up to eight times as fast: a flat start converges sooner."""
CORRECTIONS = 12
"""Pairs that L-BFGS keeps."""


@dataclass(frozen=True, kw_only=True)
class TotalVariation:
    """How the prior's strength is found and the minimum reached."""

    strongest: float
    """λ that the continuation starts from."""
    weakest: float
    """Smallest λ that may be chosen."""
    iterations: int
    """L-BFGS iterations at every λ on the way."""
    final_iterations: int
    """L-BFGS iterations at the chosen λ."""
    fit_share: float
    """Share of the photons that is fitted while λ is chosen; the rest judges."""


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
    """stage, strength, iterations, objective, deviance of the photons set apart."""


def total_variation(obj):
    """Smoothed isotropic total variation, Σ sqrt(|∂x O|² + |∂y O|² + ε²) - ε, and dE/dRe O + i dE/dIm O.

    Parameters
    ----------
    obj : (H, W) complex
        Forward differences, none across the border.
    """
    down, right = np.zeros_like(obj), np.zeros_like(obj)
    down[:-1], right[:, :-1] = obj[1:] - obj[:-1], obj[:, 1:] - obj[:, :-1]
    length = np.sqrt(down.real**2 + down.imag**2 + right.real**2 + right.imag**2 + EDGE**2)
    down, right = down / length, right / length
    gradient = -(down + right)
    gradient[1:] += down[:-1]
    gradient[:, 1:] += right[:, :-1]
    return float(np.sum(length - EDGE, dtype=np.float64)), gradient


class Variables:
    """Preconditioned variables: O = A0 + K z / D, low frequencies boosted, dim pixels too.

    Parameters
    ----------
    light : (H, W) float
        Illumination [photons per pixel].
    level : float
        A0, mean amplitude transmittance: the flat object that the first start is.
    """

    def __init__(self, light, level: float):
        down, across = fft.fftfreq(light.shape[0])[:, None], fft.fftfreq(light.shape[1])
        self.filter = (1 + BOOST / (1 + (down**2 + across**2) / BOOST_FREQUENCY**2)).astype(np.float32)
        scale = np.sqrt(light + 0.02 * light.max())
        self.scale, self.level, self.shape = (scale / scale.max()).astype(np.float32), level, light.shape

    def _smooth(self, field):
        return fft.ifft2(fft.fft2(field) * self.filter)

    def step(self, z):
        """(2 H W,) float64 variables to the (H, W) complex64 change of the object that they mean."""
        return self._smooth(z.view(np.complex128).reshape(self.shape).astype(np.complex64)) / self.scale

    def pull_back(self, gradient):
        """Gradient over the object to gradient over the variables: the adjoint of `step`."""
        field = np.ascontiguousarray(self._smooth(gradient / self.scale), np.complex128)
        return field.view(np.float64).ravel()


def descend(likelihood: Likelihood, variables: Variables, obj, strength: float, iterations: int):
    """Minimise likelihood + strength · total variation from an object.

    Returns
    -------
    obj : (H, W) complex64
    objective : float
    iterations : int
        That were made.
    """

    def evaluate(z):
        now = obj + variables.step(z)
        value, gradient = likelihood(now)
        prior, slope = total_variation(now)
        return value + strength * prior, variables.pull_back(gradient + np.float32(strength) * slope)

    options = {"maxiter": iterations, "maxcor": CORRECTIONS, "maxfun": 2 * iterations}
    start = np.zeros(2 * obj.size)
    found = minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
    return (obj + variables.step(found.x)).astype(np.complex64), float(found.fun), int(found.nit)


def strengths(options: TotalVariation):
    """λ from the strongest to the weakest, halved every time."""
    count = int(np.floor(np.log2(options.strongest / options.weakest) + 1e-9)) + 1
    return options.strongest / 2.0 ** np.arange(count)


def reconstruct(counts: Counts, probe, options: TotalVariation, *, seed: int) -> Reconstruction:
    """Choose λ by thinning the photons, then reconstruct from all of them.

    Parameters
    ----------
    counts : Counts
        Exposures that may be used; the truth is nowhere.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    seed : int
        Of the thinning.

    Returns
    -------
    Reconstruction
    """
    everything = Likelihood(counts, probe)
    light = illumination(everything.probe, counts.xcoords, counts.ycoords, everything.shape, everything.origin_px)
    photons = sum(float(np.sum(counts.frames(np.arange(part.start, part.stop)))) for part in counts.parts)
    power = float(np.sum(np.abs(everything.probe) ** 2, dtype=np.float64))
    variables = Variables(light, np.sqrt(photons / (power * len(counts))))
    rows: list[dict] = []
    fitted, apart = thinned(counts, options.fit_share, seed)
    chosen = _choose(
        Likelihood(fitted, probe, options.fit_share),
        Likelihood(apart, probe, 1 - options.fit_share),
        variables,
        options,
        rows,
    )
    obj = np.full(everything.shape, variables.level, np.complex64)
    path = [strength for strength in strengths(options) if strength > chosen * 1.01] + [chosen]
    for strength in tqdm(path, desc="all photons", unit="λ"):
        iterations = options.final_iterations if strength == chosen else options.iterations
        obj, objective, made = descend(everything, variables, obj, strength, iterations)
        rows.append({"stage": "all", "strength": strength, "iterations": made, "objective": objective})
    return Reconstruction(obj, light, everything.origin_px, chosen, pd.DataFrame(rows))


def _choose(fitted: Likelihood, apart: Likelihood, variables: Variables, options: TotalVariation, rows: list) -> float:
    """λ for all photons whose fit of most of them predicts the others best, to a factor of √2."""
    pixels = len(apart.counts) * apart.n**2
    share, found, states = np.sqrt(options.fit_share), {}, {}
    obj = np.full(fitted.shape, variables.level, np.complex64)

    def judge(strength: float, start):
        obj, objective, made = descend(fitted, variables, start, strength * share, options.iterations)
        found[strength], states[strength] = 2 * apart(obj)[0] / pixels, obj
        numbers = {"stage": "choice", "strength": strength, "iterations": made, "objective": objective}
        rows.append({**numbers, "deviance_apart": found[strength]})
        return obj

    for strength in tqdm(strengths(options), desc="choice of λ", unit="λ"):
        obj = judge(float(strength), obj)
        best = min(found, key=found.get)
        if strength < best / 3:  # two steps without a better one
            break
    for strength in (best * np.sqrt(2), best / np.sqrt(2)):
        judge(float(strength), states[min((s for s in states if s > strength), default=best)])
    return min(found, key=found.get)
