"""Positions of exposures under a known object: a random search for large errors, Newton's method for small ones."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import ndtri

from ptycho.data.object_files import paste
from ptycho.physics.displacement import affine_residual, spread_px
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.joint_preconditioner import inverse_root
from ptycho.reconstruction.parameters import Parameters

LONGEST_STEP_PX = 1.0
"""Longest step of Newton's method: the likelihood is not quadratic over more than a detail of the object."""
TRIES = 16
"""Trials in a search."""
LATTICE_PX = 2.0
"""Distance of the first trials under a known object: the likelihood is not flat as far as the next details."""
LOCATE_CYCLES, LAST_RADIUS = 6, 0.1
"""Searches that follow, each with a Newton step; radius of the last in units of the first's, which is the lattice's."""
FAR, POOR = 2.5, 2.0
"""What is out of line, in units of robust standard deviations: a shift, of that along one axis, and the deviance of an
exposure. Of normal errors these are 4 and 2 %."""
WHOLE_PX = 1.5
"""Within larger radii, trials are whole pixels away from each other, so that the shifted probes stay the same."""
NEIGHBORS = 32
"""Exposures, itself among them, whose mean shift is taken for a local one."""

Proposal = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Takes the (2, M) best shifts so far, returns what to try [px]."""


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
    center_px: NDArray[np.float64] | float = 0.0
    """(2, M) shifts of the scan as a whole, around which the others scatter; 0: the recorded positions are right."""


def search(
    likelihood: JointLikelihood, parameters: Parameters, reach: Reach, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Try random shifts of every exposure and keep its best one.

    Half of the trials are around the exposure's present position, half around `center_px`. What is best is the
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
    rng : numpy.random.Generator
        Source of the trials.

    Returns
    -------
    (2, M) float64
        Shifts.
    """
    count = len(likelihood.counts)

    def around_present(present: NDArray[np.float64]) -> NDArray[np.float64]:
        radius, angle = reach.radius_px * np.sqrt(rng.random(count)), 2 * np.pi * rng.random(count)
        return present + radius * np.stack([np.sin(angle), np.cos(angle)])

    def around_center(_: NDArray[np.float64]) -> NDArray[np.float64]:
        return reach.center_px + reach.spread_px * rng.normal(size=(2, count))

    return _best_of(likelihood, parameters, [around_present, around_center] * (TRIES // 2), reach)


def _best_of(
    likelihood: JointLikelihood, parameters: Parameters, proposals: Iterable[Proposal], reach: Reach
) -> NDArray[np.float64]:
    """Try what is proposed in place of the best shifts so far, exposure by exposure."""

    def cost(shifts: NDArray[np.float64]) -> NDArray[np.float64]:
        chance = ((shifts - reach.center_px) ** 2).sum(0) / (2 * reach.spread_px**2)
        return likelihood.anchored(shifts).per_exposure(replace(parameters, shifts=shifts)) + chance

    best = parameters.shifts
    lowest = cost(best)
    for propose in proposals:
        trial = np.clip(propose(best), -reach.largest_px, reach.largest_px)
        if reach.radius_px > WHOLE_PX:
            trial = best + np.rint(trial - best)
        value = cost(trial)
        better = (value < lowest) & (np.abs(trial) <= reach.largest_px).all(0)
        lowest, best = np.where(better, value, lowest), np.where(better, trial, best)
    return best


def under_object(
    counts: Counts, known: Parameters, origin_px: tuple[int, int], margin_px: int, device: Device = CPU
) -> tuple[JointLikelihood, Parameters]:
    """Place exposures under an object that others have made.

    Parameters
    ----------
    counts : Counts
        Photons of the m exposures, with recorded positions.
    known : Parameters
        Object, probe and background; where it is unknown, the object is taken for its mean amplitude.
    origin_px : (int, int)
        Row and column of the object's first pixel.
    margin_px : int
        How far the windows may follow moved positions [px].
    device : Device
        Where object, probe and background are, and where to compute.

    Returns
    -------
    likelihood : JointLikelihood
        Of the m exposures.
    parameters : Parameters
        What is known, on its canvas, with the exposures where they are recorded.
    """
    probe, obj, m = device.to_host(known.probe), device.to_host(known.object), len(counts)
    likelihood = JointLikelihood(counts, probe, margin_px=margin_px, device=device)
    top, left = np.subtract(origin_px, likelihood.origin_px)
    pasted = paste(obj, (int(top), int(left)), likelihood.shape, complex(np.abs(obj).mean()))
    return likelihood, replace(known, object=device.to_device(pasted), shifts=np.zeros((2, m)), flux=np.ones(m))


def on_lattice(likelihood: JointLikelihood, parameters: Parameters, reach: Reach) -> NDArray[np.float64]:
    """Return the best shifts on a lattice around the recorded positions, or the present ones where these are better.

    Trials are whole pixels from the present shifts, if the reach is more than `WHOLE_PX`.

    Parameters are those of `search`; the object is known.
    """
    offsets = np.arange(-reach.largest_px, reach.largest_px + LATTICE_PX / 2, LATTICE_PX)
    lattice = [partial(np.full_like, fill_value=np.array([[row], [column]])) for row in offsets for column in offsets]
    return _best_of(likelihood, parameters, lattice, reach)


def find_near(
    likelihood: JointLikelihood, parameters: Parameters, reach: Reach, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Find shifts under a known object near the present ones, by trials in ever smaller disks with Newton steps.

    Parameters are those of `search`.
    """
    here = parameters
    for radius in LATTICE_PX * np.geomspace(1, LAST_RADIUS, LOCATE_CYCLES):
        here = replace(here, shifts=search(likelihood, here, replace(reach, radius_px=float(radius)), rng))
        shifts = newton_steps(likelihood.anchored(here.shifts), here)
        here = replace(here, shifts=np.clip(shifts, -reach.largest_px, reach.largest_px))
    return here.shifts


def find_positions(
    likelihood: JointLikelihood, parameters: Parameters, reach: Reach, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Find shifts under a known object: by trials on a lattice, then near the best of them.

    Parameters are those of `search`.
    """
    start = replace(parameters, shifts=on_lattice(likelihood, parameters, reach))
    return find_near(likelihood, start, reach, rng)


def out_of_line(
    shifts: NDArray[np.float64], positions: NDArray[np.float64], deviance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which exposures have moved unusually far, or fit unusually badly; `FAR` and `POOR` say what is unusual.

    Parameters
    ----------
    shifts, positions : (2, M) float64
        Rows and columns [px].
    deviance : (M,) float64
        Of every exposure.

    Returns
    -------
    (M,) bool
    """
    residual, _ = affine_residual(shifts, positions)
    excess = deviance - np.median(deviance)
    usual = np.median(np.abs(excess)) / ndtri(0.75)
    return (np.hypot(*residual) > FAR * spread_px(shifts, positions)) | (excess > POOR * usual)


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
