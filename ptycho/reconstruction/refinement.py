"""Refine what nobody knows exactly: probe, positions, flux and background, together with the object.

A flat object is fitted to what is recorded, and an unknown probe with it. Newton's method then removes errors of
positions, in turns with the object: from the recorded positions, and from those that a search finds exposure by
exposure; what fits better goes on. From there on everything unknown moves at once, by L-BFGS on the Poisson likelihood
with a total-variation prior: object, positions (as phase ramps; Guizar-Sicairos and Fienup, Opt. Express 16, 7264,
2008), probe, flux and background (Thibault and Guizar-Sicairos, New J. Phys. 14, 063004, 2012). It takes turns with
smooth deformations of object and positions, until little is gained.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.physics.forward import as_modes
from ptycho.physics.probes import with_modes
from ptycho.reconstruction.counts import Counts, split_counts
from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.joint_preconditioner import UNKNOWNS
from ptycho.reconstruction.parameters import Parameters
from ptycho.reconstruction.refiner import LEAST_GAIN, PROBE_STARTS, START_BACKGROUND, STILL, Refiner
from ptycho.reconstruction.relocation import RELOCATIONS, Relocation

FIT_FRACTION, SIGNIFICANT = 0.8, 5.0
"""Fraction of the photons that is fitted while it is decided how free a probe is; gain, in standard errors, that speaks
for free pixels: of sparse scans with right pixels it was at most 2.6, with wrong ones 12 and more."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RefinementOptions:
    """What is refined, and for how long."""

    unknown: tuple[str, ...]
    """What is refined beside the object, of `UNKNOWNS`."""
    search_px: float = 10.0
    """Largest error of a position that is searched for [px]; 0: positions are within about 2 px."""
    rounds: int = 12
    """Largest number of rounds over everything unknown."""
    modes: int | None = None
    """Incoherent modes of a refined probe, at least, 1 to 5; None: as many as are recorded."""

    def __post_init__(self) -> None:
        if strange := set(self.unknown) - set(UNKNOWNS):
            raise ValueError(f"unknown: {sorted(strange)}; wanted some of {list(UNKNOWNS)}")


@dataclass(frozen=True, kw_only=True)
class JointRefinement:
    """What was found."""

    parameters: Parameters
    """Object on the canvas, probe, shifts, flux and background."""
    origin_px: tuple[int, int]
    """Row and column of the canvas's first pixel."""
    history: pd.DataFrame
    """One row a step: step, deviance (mean per valid pixel), objective, and what moved, see `STILL`."""


def is_held_to_optics(counts: Counts, probe: NDArray[np.complexfloating], device: Device, seed: int) -> bool:
    """Tell whether the photons are too few for every pixel of the probe to be free.

    Object and probe are fitted to most of the photons twice, with and without `ptycho.reconstruction.prior.ProbePrior`.
    Pixels are free if the fit with free pixels predicts the other photons significantly better. All else is as
    recorded.

    Parameters
    ----------
    counts : Counts
        Photons.
    probe : (modes, N, N) complex
        Recorded illumination [sqrt(photon)].
    device : Device
        Where to compute.
    seed : int
        Seed of the split of the photons.
    """
    fit, others = split_counts(counts, FIT_FRACTION, seed)

    def fitted(*, is_held: bool) -> tuple[Parameters, int]:
        refiner = Refiner(fit, probe, ("probe",), 0.0, device, FIT_FRACTION)
        if is_held:
            refiner.hold_to_optics()
        return refiner.begun(PROBE_STARTS), refiner.likelihood.margin_px

    def losses(found: Parameters, margin_px: int) -> NDArray[np.float64]:
        """Return half the validation deviance of every exposure."""
        validation = JointLikelihood(others, probe, 1 - FIT_FRACTION, margin_px, device)
        return validation.with_background(START_BACKGROUND).per_exposure(found)

    gains = losses(*fitted(is_held=True)) - losses(*fitted(is_held=False))
    if len(gains) < 2:
        return True
    gain, error = float(gains.sum()), float(gains.std(ddof=1) * np.sqrt(len(gains)))
    _logger.info("A free probe lowers half the validation deviance by %.1f ± %.1f", gain, error)
    return not gain > SIGNIFICANT * error


def refine(
    counts: Counts,
    probe: NDArray[np.complexfloating],
    options: RefinementOptions,
    *,
    seed: int,
    device: Device = CPU,
) -> JointRefinement:
    """Refine object and what else is unknown of some exposures.

    Parameters
    ----------
    counts : Counts
        Photons, with recorded positions, flux and background.
    probe : (modes, N, N) complex
        Recorded illumination [sqrt(photon)]; its photons are kept.
    options : RefinementOptions
        What is refined.
    seed : int
        Seed of the search for large errors of positions.
    device : Device
        Where to compute.

    Returns
    -------
    JointRefinement
        On the host. Shifts are relative to the recorded positions, flux to the recorded flux, and the background comes
        on top of the recorded one.
    """
    if options.modes and "probe" in options.unknown:
        probe = with_modes(as_modes(probe), options.modes)
    _logger.info("The refinement is computed on %s", device.name)
    refiner = Refiner(counts, probe, options.unknown, options.search_px, device)
    has_one_mode = len(refiner.likelihood.probe) == 1  # of several, mixtures are no errors
    is_doubtful = "probe" in options.unknown and has_one_mode and not refiner.is_dense
    if is_doubtful and is_held_to_optics(counts, probe, device, seed):
        refiner.hold_to_optics()
    rng, parameters = np.random.default_rng(seed), refiner.begun()
    relocate, relocations = Relocation(refiner), RELOCATIONS if refiner.moves and options.search_px else 0
    if refiner.moves:
        parameters = refiner.located(parameters, rng)
    rows, objective = refiner.rows, np.inf
    for number in tqdm(range(options.rounds), desc="joint refinement", unit="round"):
        if number < relocations:
            parameters = relocate(parameters, rng)
        parameters = refiner.round(parameters, number)
        moving = {name: rows[-1][name] for name, least in STILL.items() if rows[-1][name] >= least}
        gain, objective = objective - rows[-1]["objective"], rows[-1]["objective"]
        if not moving or (number >= relocations and gain < LEAST_GAIN * len(counts)):
            break
    else:
        listing = ", ".join(f"{name} {value:.2g}" for name, value in moving.items())
        _logger.warning("After %d rounds the refinement still moves: %s.", options.rounds, listing)
    found = parameters.transferred(device.to_host)
    return JointRefinement(parameters=found, origin_px=refiner.likelihood.origin_px, history=pd.DataFrame(rows))
