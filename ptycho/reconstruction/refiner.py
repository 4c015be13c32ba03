"""Steps of a refinement: object, positions, probe, flux and background in turns, and at once."""

from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.physics.displacement import affine_residual, rms_px, spread_px
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.deformation import minimize_deformation
from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.joint_preconditioner import JointPreconditioner
from ptycho.reconstruction.optimize import FIRST_STEP_RMS, minimize_vector, total_variation
from ptycho.reconstruction.parameters import Parameters
from ptycho.reconstruction.passes import Array
from ptycho.reconstruction.position_search import (
    Reach,
    newton_steps,
    search,
    without_trend,
)
from ptycho.reconstruction.prior import ProbePrior, ShiftPrior

TV_WEIGHT = 8.0
"""λ in units of the square root of the mean count per valid pixel: a typical choice of TV-MAP."""
START_WEIGHT, START_BACKGROUND, START_ITERATIONS = 2.0, 0.3, 15
"""λ in units of `TV_WEIGHT`, background in units of the noise level, and L-BFGS iterations, of the first object."""
SEARCHES, SEARCH_WEIGHT = 10, 4.0
"""Searches for large errors, and λ of the object meanwhile in units of `TV_WEIGHT`."""
REACH = 1.5
"""Largest shift along either axis in units of `search_px`: a few of hundreds of errors are larger than is usual."""
LEAST_REACH_PX = 4.0
"""The same without a search: errors that Newton's method finds."""
NEWTON_CYCLES, OBJECT_ITERATIONS = 8, 4
"""Newton steps of the positions, and L-BFGS iterations of the object before each."""
NEWTON_WEIGHTS, NEWTON_BACKGROUNDS = (2.0, 0.5), (0.3, 0.1)
"""First and last λ and background of these cycles."""
JOINT_ITERATIONS, DEFORMATION_ITERATIONS, JOINT_BACKGROUND = 25, 15, 0.02
"""L-BFGS iterations of a round over everything unknown, and over deformations and aberrations; background of both."""
STEADY_ROUNDS, MOST_ITERATIONS = 2, 200
"""Rounds of so many iterations; then they double from one to the next, up to the largest number."""
PROBE_STARTS, PROBE_STILL = 8, 2.0e-3
"""How often, at most, object and probe are fitted before positions move, which else make up for a wrong defocus; the
change of the probe (1 - correlation) that is the last."""
DENSE = 4.0
"""A scan is dense if more exposures light the same pixels: then the likelihood tells a map of the whole scan."""
FTOL = 1.0e-6
"""L-BFGS stops when a step lowers the objective by less than this fraction: positions are in its last digits."""
LEAST_GAIN = 0.04
"""A round that lowers the objective by less than this an exposure is the last: so little is much below one standard
deviation of any position."""
STILL = {"moved_px": 0.01, "moved_probe": 2.0e-4, "moved_flux": 1.0e-3, "moved_background": 1.0e-3}
"""So is one that moves everything by less: positions [px] (rms, without their affine map), probe (1 -
correlation), flux (rms, relative), and background, in units of the mean count per pixel."""


def exposures_per_pixel(likelihood: JointLikelihood, parameters: Parameters) -> float:
    """Return how many exposures light the same pixels, weighted by their photons: 1 where none overlap."""
    xp, scale = likelihood.device.xp, likelihood.counts.detector.exposure_scale
    illumination = likelihood.anchored(parameters.shifts).illumination(parameters)
    photons = (xp.abs(parameters.probe).astype(np.float64) ** 2).sum(0)
    flux = parameters.flux if scale is None else parameters.flux * scale
    return float((illumination**2).sum() / (photons**2).sum()) / float((flux**2).sum())


class Refiner:
    """The steps of a refinement, and what they have in common."""

    def __init__(
        self,
        counts: Counts,
        probe: NDArray[np.complexfloating],
        unknown: Collection[str],
        search_px: float,
        device: Device,
        fraction: float = 1.0,
    ):
        self.unknown, self.search_px, self.device = unknown, search_px, device
        self.reach_px = max(REACH * search_px, LEAST_REACH_PX)
        margin = int(np.ceil(self.reach_px)) + 2 if "positions" in unknown else 0
        self.likelihood = JointLikelihood(counts, probe, fraction, margin, device)
        self.tv_weight = TV_WEIGHT * self.likelihood.noise_level()
        self.positions = np.stack([counts.ycoords, counts.xcoords])
        self.moves = "positions" in unknown
        self.probe_prior: ProbePrior | None = None
        self.rows: list[dict[str, Any]] = []

    def hold_to_optics(self) -> None:
        """From here on, hold back the pixels of an unknown probe, see `ProbePrior`."""
        self.probe_prior = ProbePrior(self.device.to_device(self.likelihood.probe), self.device)

    def begun(self, least: int = 1) -> Parameters:
        """Return a first object, and with it the probe where it is unknown, at the recorded positions.

        The probe is fitted so many times at least.
        """
        start = self.likelihood.parameters(self.flat())
        parameters = self.minimize(start, (), START_WEIGHT, START_BACKGROUND, START_ITERATIONS)
        if "probe" in self.unknown:
            prior, weight = self.prior(parameters), START_WEIGHT * self.tv_weight
            likelihood = self.likelihood.with_background(START_BACKGROUND)
            for number in range(PROBE_STARTS):
                fitted = self.minimize(parameters, ("probe",), START_WEIGHT, START_BACKGROUND, START_ITERATIONS)
                aberrated = minimize_deformation(likelihood, fitted, weight, prior, DEFORMATION_ITERATIONS, ("probe",))
                parameters = self.note("probe", parameters, aberrated)
                if number + 1 >= least and self.rows[-1]["moved_probe"] < PROBE_STILL:
                    break
        return parameters

    def flat(self) -> Array:
        """Return an object without structure that transmits as many photons as were counted."""
        transmittance = self.likelihood.counts.mean_transmittance(self.likelihood.probe)
        transmittance /= np.sqrt(self.likelihood.fraction)
        return self.device.xp.full(self.likelihood.shape, transmittance, np.complex64)

    def spread(self, parameters: Parameters) -> float:
        """Return the standard deviation of the shifts along one axis [px]."""
        return spread_px(parameters.shifts, self.positions)

    @cached_property
    def is_dense(self) -> bool:
        """Whether the scan overlaps so much that the likelihood tells where the scan as a whole is, see `DENSE`."""
        recorded = self.likelihood.parameters(self.device.xp.ones(self.likelihood.shape, np.complex64))
        return exposures_per_pixel(self.likelihood, recorded) > DENSE

    def prior(self, parameters: Parameters) -> ShiftPrior:
        """Return the prior of the shifts, as wide as they are.

        In a sparse scan the total variation would shrink the object, and the positions with it, if the map were free.
        """
        if self.is_dense:
            return ShiftPrior.of(parameters.shifts, self.positions)
        return ShiftPrior(self.positions, self.spread(parameters))

    def common(self, parameters: Parameters) -> NDArray[np.float64]:
        """Return the (2, M) affine map of the shifts [px], which the scan as a whole has; 0 in a sparse scan."""
        residual, _ = affine_residual(parameters.shifts, self.positions)
        return parameters.shifts - residual if self.is_dense else np.zeros_like(residual)

    def held(self, parameters: Parameters) -> Parameters:
        """Return the parameters with shifts as far as they may be: windows do not leave the canvas."""
        return replace(parameters, shifts=np.clip(parameters.shifts, -self.reach_px, self.reach_px))

    def unmagnified(self, shifts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return shifts without their affine map where the probe is unknown: its defocus would go along with a map."""
        return affine_residual(shifts, self.positions)[0] if "probe" in self.unknown else shifts

    def minimize(
        self, parameters: Parameters, unknown: Collection[str], weight: float, background: float, iterations: int
    ) -> Parameters:
        """Minimize over the object and what else is said to be unknown."""
        smoothed = self.likelihood.with_background(0.0 if "background" in unknown else background)
        likelihood = smoothed.anchored(parameters.shifts)
        optics = self.probe_prior if "probe" in unknown else None
        variance = optics.variance(parameters.probe) if optics else np.inf
        preconditioner = JointPreconditioner(likelihood, parameters, unknown, variance)
        tv_weight = weight * self.tv_weight
        prior = self.prior(parameters)

        def evaluate(z: Array) -> tuple[float, Array]:
            trial, adjoint = preconditioner.parameters(z, self.device)
            value, gradients = likelihood.evaluate(trial, ("object", *(gradient_of(name) for name in unknown)))
            variation, variation_gradient = total_variation(trial.object, self.device)
            gradients = replace(gradients, object=gradients.object + np.float32(tv_weight) * variation_gradient)
            value += tv_weight * variation
            if "positions" in unknown:
                chance, chance_gradient = prior(trial.shifts)
                gradients, value = replace(gradients, shifts=gradients.shifts + chance_gradient), value + chance
            if optics:
                chance, chance_gradient = optics(trial.probe, variance)
                gradients, value = replace(gradients, probe=gradients.probe + chance_gradient), value + chance
            return value, adjoint(gradients)

        z, _ = minimize_vector(evaluate, preconditioner.size, FIRST_STEP_RMS, iterations, self.device, FTOL)
        return preconditioner.parameters(z, self.device)[0]

    def searched(self, parameters: Parameters, rng: np.random.Generator) -> Parameters:
        """Search for large errors of positions with a radius that falls, in turns with the object."""
        largest = self.search_px
        for number in tqdm(range(SEARCHES), desc="search for positions", unit="search"):
            spread = self.spread(parameters) if number else largest / 2
            likelihood = self.likelihood.with_background(START_BACKGROUND).anchored(parameters.shifts)
            radius = largest * (1 - number / SEARCHES)
            center = self.common(parameters)
            reach = Reach(radius_px=radius, largest_px=self.reach_px, spread_px=spread, center_px=center)
            updated = replace(parameters, shifts=search(likelihood, parameters, reach, rng))
            shifts = newton_steps(likelihood.anchored(updated.shifts), updated)
            if number < SEARCHES - 2:
                shifts = without_trend(shifts, self.positions)
            moved = self.held(replace(updated, shifts=self.unmagnified(shifts)))
            parameters = self.note("search", parameters, self.minimize(moved, (), SEARCH_WEIGHT, START_BACKGROUND, 4))
        return parameters

    def newton(self, parameters: Parameters) -> Parameters:
        """Alternate Newton steps of the positions with the object, while prior and background fall."""
        weights, backgrounds = (np.geomspace(*ends, NEWTON_CYCLES) for ends in (NEWTON_WEIGHTS, NEWTON_BACKGROUNDS))
        others = tuple(name for name in self.unknown if name != "positions")
        for weight, background in zip(weights, backgrounds, strict=True):
            updated = self.minimize(parameters, others, float(weight), float(background), OBJECT_ITERATIONS)
            likelihood = self.likelihood.with_background(float(background)).anchored(updated.shifts)
            moved = self.held(replace(updated, shifts=self.unmagnified(newton_steps(likelihood, updated))))
            parameters = self.note("newton", parameters, moved)
        return parameters

    def located(self, parameters: Parameters, rng: np.random.Generator) -> Parameters:
        """Find positions by Newton's method from the recorded ones, and from those of a search; keep what fits better.

        With few photons in common, a search finds places that fit by chance.
        """
        starts = [parameters, self.searched(parameters, rng)] if self.search_px else [parameters]
        return min(map(self.newton, starts), key=lambda found: self.objective(found, NEWTON_WEIGHTS[1])[0])

    def round(self, parameters: Parameters, number: int) -> Parameters:
        """Move everything unknown at once, then deform object and positions, and change aberrations, alone.

        The more rounds, the longer: what has not come to rest after a few needs the memory of L-BFGS.
        """
        iterations = min(JOINT_ITERATIONS * 2 ** max(number - STEADY_ROUNDS + 1, 0), MOST_ITERATIONS)
        updated = self.held(self.minimize(parameters, self.unknown, 1.0, JOINT_BACKGROUND, iterations))
        if moving := [name for name in ("positions", "probe") if name in self.unknown]:
            likelihood = self.likelihood.with_background(JOINT_BACKGROUND).anchored(updated.shifts)
            prior = self.prior(updated)
            updated = self.held(
                minimize_deformation(likelihood, updated, self.tv_weight, prior, DEFORMATION_ITERATIONS, moving)
            )
        return self.note("round", parameters, updated)

    def objective(self, parameters: Parameters, weight: float) -> tuple[float, float]:
        """Return what is minimized, the prior of the shifts at their own spread, and the deviance per valid pixel.

        The prior of a probe is left out: its variance is estimated anew in every round.
        """
        likelihood = self.likelihood.with_background(0.0 if "background" in self.unknown else JOINT_BACKGROUND)
        half = float(likelihood.anchored(parameters.shifts).per_exposure(parameters).sum())
        variation, prior = float(total_variation(parameters.object, self.device)[0]), self.prior(parameters)
        chance = prior(parameters.shifts)[0] + prior.log_width
        return half + weight * self.tv_weight * variation + chance, 2 * half / likelihood.n_values

    def note(self, step: str, before: Parameters, after: Parameters) -> Parameters:
        """Add a row to the history; return what came after."""
        residual, _ = affine_residual(after.shifts - before.shifts, self.positions)
        objective, deviance = self.objective(after, 1.0)
        flux, background = np.log(after.flux / before.flux), float(np.mean(after.background - before.background))
        moved = {
            "moved_px": rms_px(residual),
            "moved_probe": mismatch(before.probe, after.probe, self.device),
            "moved_flux": float(np.sqrt((flux**2).mean())),
            "moved_background": abs(background) / self.likelihood.noise_level() ** 2,
        }
        self.rows.append({"step": step, "deviance": deviance, "objective": objective, **moved})
        return after


def gradient_of(name: str) -> str:
    """Return the field of `Gradients` that an unknown has."""
    return {"positions": "shifts"}.get(name, name)


def mismatch(first: Array, second: Array, device: Device = CPU) -> float:
    """Return 1 - |⟨P, Q⟩| / (‖P‖ ‖Q‖) of two probes with as many modes."""
    xp = device.xp
    norm = xp.sqrt((xp.abs(first) ** 2).sum() * (xp.abs(second) ** 2).sum())
    return max(1 - float(xp.abs((first.conj() * second).sum()) / norm), 0.0)
