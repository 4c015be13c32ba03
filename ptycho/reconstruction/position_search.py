"""Positions of exposures under a known object: a random search for large errors, Newton's method for small ones."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.joint_preconditioner import inverse_root
from ptycho.reconstruction.parameters import Parameters

LONGEST_STEP_PX = 1.0
"""Longest step of Newton's method: the likelihood is not quadratic over more than a detail of the object."""
NEIGHBORS = 32
"""Exposures, itself among them, whose mean shift is taken for a local one."""


def newton_steps(likelihood: JointLikelihood, parameters: Parameters) -> NDArray[np.float64]:
    """Return shifts after a Gauss-Newton step of every exposure by itself, (2, M) float64 [px]."""
    _, gradients = likelihood.evaluate(parameters, ("shifts",))
    root = inverse_root(likelihood.shift_information(parameters))
    step = -np.einsum("mik,mjk,jm->im", root, root, gradients.shifts)
    length = np.maximum(np.hypot(*step), 1e-12)
    return parameters.shifts + step * np.minimum(1, LONGEST_STEP_PX / length)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Where a search looks."""

    radius_px: float
    """Radius of the disk of trials around the present position."""
    largest_px: float
    """Largest shift along either axis from the recorded position."""
    spread_px: float
    """Standard deviation of the shifts along one axis."""


def search(
    likelihood: JointLikelihood, parameters: Parameters, reach: Reach, tries: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Try random shifts of every exposure and keep its best one.

    Half of the trials are around the exposure's present position, half around the recorded one. What is best is the
    likelihood times that of the shift, if errors of positions are independent and normal. (Random trials with a radius
    that falls: Maiden, Humphry, Sarahan, Kraus and Rodenburg, Ultramicroscopy 120, 64, 2012.)

    Parameters
    ----------
    likelihood : JointLikelihood
        Likelihood of the counts.
    parameters : Parameters
        Object, probe and present shifts.
    reach : Reach
        Where to look.
    tries : int
        Number of trials.
    rng : numpy.random.Generator
        Source of the trials.

    Returns
    -------
    (2, M) float64
        Shifts.
    """

    def cost(shifts: NDArray[np.float64]) -> NDArray[np.float64]:
        placed = likelihood.anchored(shifts)
        return placed.per_exposure(replace(parameters, shifts=shifts)) + (shifts**2).sum(0) / (2 * reach.spread_px**2)

    best = parameters.shifts
    lowest, count = cost(best), best.shape[1]
    for number in range(tries):
        if number % 2:
            trial = reach.spread_px * rng.normal(size=(2, count))
        else:
            radius, angle = reach.radius_px * np.sqrt(rng.random(count)), 2 * np.pi * rng.random(count)
            trial = best + radius * np.stack([np.sin(angle), np.cos(angle)])
        trial = np.clip(trial, -reach.largest_px, reach.largest_px)
        value = cost(trial)
        better = value < lowest
        lowest, best = np.where(better, value, lowest), np.where(better, trial, best)
    return best


def without_trend(shifts: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take half of the local mean from shifts: what neighbors have in common is more often the object's than theirs.

    Parameters
    ----------
    shifts, positions : (2, M) float64
        Rows and columns [px]; the mean is over the `NEIGHBORS` nearest exposures.
    """
    count = min(NEIGHBORS, positions.shape[1])
    _, nearest = cKDTree(positions.T).query(positions.T, k=range(1, count + 1))
    return shifts - 0.5 * shifts[:, nearest].mean(2)
