"""Positions and flux of exposures that a refinement has not seen, such as holdout exposures, under its object."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.data.object_files import Reconstruction
from ptycho.data.refined_positions import POSITION_KEYS, RefinedPositions
from ptycho.physics.forward import as_modes
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.parameters import Parameters
from ptycho.reconstruction.position_search import Reach, find_positions, under_object
from ptycho.reconstruction.refinement import JointRefinement
from ptycho.reconstruction.refiner import JOINT_BACKGROUND, STILL

FLUX_STEPS = 3
"""Fixed-point steps of the flux of an exposure under a known object."""


def locate(
    counts: Counts, refinement: JointRefinement, unknown: Collection[str], *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find positions and flux of exposures that a refinement has not seen, under its object.

    Parameters
    ----------
    counts : Counts
        Photons of the m exposures, with recorded positions and flux.
    refinement : JointRefinement
        Object, probe and background; and the shifts of other exposures, which say how large errors are.
    unknown : collection of str
        What the refinement has refined: "positions" and "flux" are found.
    seed : int
        Seed of the search.

    Returns
    -------
    shifts : (2, m) float64
        What is to be added to the recorded rows and columns [px].
    flux : (m,) float64
        Factors of the recorded flux.
    """
    known, rng = refinement.parameters, np.random.default_rng(seed)
    common, spread = known.shifts.mean(1, keepdims=True), max(float(known.shifts.std()), STILL["moved_px"])
    reach = 4 * spread + float(np.abs(common).max())
    likelihood, here = under_object(counts, known, refinement.origin_px, int(np.ceil(reach)) + 2)
    likelihood = likelihood.with_background(JOINT_BACKGROUND)
    here = replace(here, shifts=np.repeat(common, len(counts), axis=1))
    if "positions" in unknown:
        where = Reach(radius_px=reach, largest_px=reach, spread_px=spread)
        here = replace(here, shifts=find_positions(likelihood, here, where, rng))
    if "flux" in unknown:  # at the minimum, what is predicted has as many photons as were counted
        likelihood = likelihood.anchored(here.shifts)
        for _ in range(FLUX_STEPS):
            slope = likelihood.evaluate(here, ("flux",))[1].flux
            total = counts.frames(np.arange(len(counts))).sum((1, 2))
            predicted = np.maximum(total + here.flux * slope, np.finfo(float).tiny)  # 0 where no counts are
            here = replace(here, flux=here.flux * total / predicted)
    return here.shifts, here.flux


def with_located(
    result: Reconstruction,
    counts: Counts,
    exposures: NDArray[np.int64],
    probe: NDArray[np.complexfloating],
    *,
    seed: int,
) -> Reconstruction:
    """Add the positions of more exposures to those that a method has refined by itself; without such, return it as is.

    Parameters
    ----------
    result : Reconstruction
        With refined positions.
    counts : Counts
        Photons of the m exposures that it has not seen.
    exposures : (m,) int64
        Which exposures of the scan they are.
    probe : (modes, N, N) complex
        Recorded illumination [sqrt(photon)], where the method has not refined it.
    seed : int
        Seed of the search.
    """
    if result.refined is None or (positions := result.refined.positions) is None:
        return result
    used = probe if result.refined.probe is None else result.refined.probe
    parameters = Parameters(
        object=result.object,
        probe=as_modes(used).astype(np.complex64),
        shifts=np.stack([positions.y_shift, positions.x_shift]),
        flux=np.ones(len(positions.exposures)),
    )
    refinement = JointRefinement(parameters=parameters, origin_px=result.origin_px, history=pd.DataFrame())
    shifts, _ = locate(counts, refinement, ("positions",), seed=seed)
    more = RefinedPositions.of(exposures, counts.xcoords, counts.ycoords, shifts)
    order = np.argsort(np.concatenate([positions.exposures, exposures]))
    both = {key: np.concatenate([getattr(positions, key), getattr(more, key)])[order] for key in POSITION_KEYS}
    return replace(result, refined=replace(result.refined, positions=RefinedPositions(**both)))
