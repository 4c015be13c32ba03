"""Relocation: exposures whose position is far off are found under an object that others have made.

An exposure that is far off can have a part of the object to itself, under which it stays and fits well.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.parameters import Parameters
from ptycho.reconstruction.position_search import Reach, find_near, on_lattice, out_of_line, under_object
from ptycho.reconstruction.refiner import (
    JOINT_BACKGROUND,
    NEWTON_BACKGROUNDS,
    NEWTON_WEIGHTS,
    START_ITERATIONS,
    START_WEIGHT,
    Refiner,
)

RELOCATIONS, LEFT_OUT_FLUX = 2, 1.0e-6
"""Rounds that begin with a relocation; flux of exposures that an object is not to know."""
ELSEWHERE_PX, RELOCATION_GAIN = 3.0, 15.0
"""Distance of a place that is another one, and nats that it must gain."""
FOLDS = 4
"""Parts of the exposures of a dense scan, each of which is placed under an object of the others."""


class Relocation:
    """Relocations of a refinement, and whether one has found an exposure elsewhere."""

    def __init__(self, refiner: Refiner) -> None:
        self.refiner, self.some_were_elsewhere = refiner, False

    def __call__(self, parameters: Parameters, rng: np.random.Generator) -> Parameters:
        """Place exposures anew, each under an object of others; keep places elsewhere that lower their deviance.

        If one was elsewhere before, and the scan is dense, all are placed, each of `FOLDS` parts under an object of the
        other parts; else those that are out of line, under the object of all others.
        """
        refiner = self.refiner
        likelihood, spread = refiner.likelihood.with_background(JOINT_BACKGROUND), refiner.spread(parameters)
        deviance = likelihood.anchored(parameters.shifts).per_exposure(parameters)
        doubtful = out_of_line(parameters.shifts, refiner.positions, deviance)
        folds = [doubtful]
        if self.some_were_elsewhere and refiner.is_dense:
            fold_of = rng.permutation(len(doubtful)) % FOLDS
            folds = [fold_of == number for number in range(FOLDS)]
        shifts = parameters.shifts.copy()
        for fold in folds:
            if fold.any():
                shifts[:, fold] = self._placed(parameters, np.flatnonzero(fold), doubtful | fold, rng)
        elsewhere = (shifts != parameters.shifts).any(0)
        if not elsewhere.any():
            return refiner.note("relocation", parameters, parameters)
        here, there = (self._fitted(parameters, where) for where in (parameters.shifts, shifts))
        gain, center = np.zeros(len(elsewhere)), refiner.common(parameters)
        for sign, fitted in ((1, here), (-1, there)):
            gain += sign * likelihood.anchored(fitted.shifts).per_exposure(fitted)
            gain += sign * ((fitted.shifts - center) ** 2).sum(0) / (2 * spread**2)
        better = elsewhere & (gain > RELOCATION_GAIN)
        if not better.any():
            return refiner.note("relocation", parameters, parameters)
        self.some_were_elsewhere = True
        kept = replace(there, shifts=np.where(better, shifts, parameters.shifts))
        return refiner.note("relocation", parameters, kept)

    def _placed(
        self, parameters: Parameters, chosen: NDArray[np.int64], left_out: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return shifts (2, m) of m exposures under an object that knows all but the (M,) that are left out."""
        refiner, background = self.refiner, NEWTON_BACKGROUNDS[1]
        dimmed = replace(parameters, flux=np.where(left_out, LEFT_OUT_FLUX, parameters.flux))
        others = self._fitted(dimmed, parameters.shifts, START_WEIGHT)
        spread, center = refiner.spread(parameters), refiner.common(parameters)
        margin = int(np.ceil(refiner.reach_px)) + 2

        def under_others(some: NDArray[np.int64]) -> tuple[JointLikelihood, Parameters, Reach]:
            counts, origin_px = refiner.likelihood.counts.select(some), refiner.likelihood.origin_px
            alone, here = under_object(counts, others, origin_px, margin, refiner.device)
            here = replace(here, shifts=parameters.shifts[:, some], flux=parameters.flux[some])
            largest = refiner.reach_px
            reach = Reach(radius_px=largest, largest_px=largest, spread_px=spread, center_px=center[:, some])
            return alone.with_background(background), here, reach

        found = parameters.shifts.copy()
        alone, here, reach = under_others(chosen)
        first = on_lattice(alone, here, reach)
        elsewhere = np.hypot(*(first - here.shifts)) > ELSEWHERE_PX
        if elsewhere.any():
            alone, here, reach = under_others(chosen[elsewhere])
            found[:, chosen[elsewhere]] = find_near(alone, replace(here, shifts=first[:, elsewhere]), reach, rng)
        return found[:, chosen]

    def _fitted(
        self, parameters: Parameters, shifts: NDArray[np.float64], weight: float = NEWTON_WEIGHTS[1]
    ) -> Parameters:
        """Return an object that is fitted from a flat one at some shifts."""
        start = replace(parameters, object=self.refiner.flat(), shifts=shifts)
        return self.refiner.minimize(start, (), weight, NEWTON_BACKGROUNDS[1], 2 * START_ITERATIONS)
