"""How well anybody's object and probe predict a scan: misfit by exposure and by pixel, half-photon FRC."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.data.scan import Scan
from ptycho.formats.candidates import Candidate
from ptycho.physics.forward import blocks, illumination, predict_intensity
from ptycho.reconstruction.counts import Counts, split_counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize
from ptycho.scoring.half_frc import half_frc
from ptycho.scoring.mean_pattern import mean_pattern_deviance
from ptycho.scoring.misfit import SIGNIFICANT, Misfit, lit_pixels, measure_misfit, misfit_of_shot_noise
from ptycho.scoring.placement import align_if_possible
from ptycho.scoring.region import scored_region

PLACING_EXPOSURES = 12
"""Exposures on which an object of unknown origin is placed."""
PLACING_STEPS_PX = 4.0, 2.0, 1.0, 0.5, 0.25
"""Steps of the search for the origin [px]."""
SCALING_EXPOSURES = 64
"""Exposures on which a probe of unknown scale is scaled."""
HALF_ITERATIONS = 60
"""L-BFGS iterations of the reconstruction of each half of the photons."""


COVERED = 0.99
"""Part of the probe's photons that has to fall on the object, for an exposure to be judged."""


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """How well an object and a probe predict some exposures."""

    candidate: Candidate
    """Object, probe and positions, placed and scaled; of the judged exposures alone."""
    misfit: Misfit
    """Of these exposures."""
    explained: float
    """Misfit that shot noise explains in exposures that were held out, see
    `ptycho.scoring.misfit.misfit_of_shot_noise`."""
    mean_pattern: float
    """Deviance per pixel of the same exposures, predicted by the mean pattern of all that the candidate has."""
    curves: pd.DataFrame | None = None
    """FRC between reconstructions of both halves of the photons, see `ptycho.scoring.half_frc.half_frc`."""

    @property
    def exceeds_shot_noise(self) -> bool:
        """Whether the misfit is more than shot noise explains."""
        return self.misfit.ratio > self.explained + SIGNIFICANT * self.misfit.standard_error

    @property
    def over_mean_pattern(self) -> float:
        """Deviance over that of the mean pattern: less than 1 for a reconstruction that is of any use."""
        deviance = self.misfit.as_dict()["deviance_per_pixel"]
        return deviance / self.mean_pattern if self.mean_pattern else np.inf

    @property
    def is_useless(self) -> bool:
        """Whether it predicts these exposures no better than the mean pattern, or the deviance is not a number."""
        return not self.over_mean_pattern < 1

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, JSON-serializable."""
        return {
            "file": str(self.candidate.path),
            **self.misfit.as_dict(),
            "explained_by_shot_noise": self.explained,
            "exceeds_shot_noise": self.exceeds_shot_noise,
            "over_mean_pattern": self.over_mean_pattern,
            "notes": list(self.candidate.notes),
            "by_exposure": dict(
                zip(map(str, self.candidate.exposures.tolist()), self.misfit.by_exposure.tolist(), strict=True)
            ),
        }


def judge(
    candidate: Candidate,
    scan: Scan,
    exposures: NDArray[np.integer] | None = None,
    *,
    with_halves: bool = False,
) -> Judgment:
    """Measure the misfit of an object and a probe.

    An object of unknown origin is moved to where it predicts the counts best, its complex conjugate included; a probe
    of unknown scale is scaled to the counts. Exposures whose beam leaves the object are not judged. `Candidate.notes`
    says so.

    Parameters
    ----------
    candidate : Candidate
        Object, probe and positions.
    scan : Scan
        Measured counts.
    exposures : (m,) int, optional
        Exposures to judge; default: all that the candidate has positions for.
    with_halves : bool
        Also reconstruct both halves of the photons, with the candidate's probe and positions.

    Raises
    ------
    ValueError
        If the candidate has no position for any of the exposures, or its object covers none.
    """
    if not candidate.is_placed:
        candidate = place(candidate, scan)
    candidate = covered(candidate)
    if not candidate.is_calibrated:
        candidate = calibrate(candidate, scan)
    chosen = candidate if exposures is None else candidate.of_exposures(exposures)
    if not len(chosen.exposures):
        raise ValueError(f"{candidate.path}: has no position for any of the exposures that are to be judged")
    misfit = measure_misfit(predicted_blocks(chosen.covering(), scan), scan.detector.valid)
    n_pixels = _estimated_pixels(candidate, scan) / len(candidate.exposures)
    return Judgment(
        candidate=chosen,
        misfit=misfit,
        explained=misfit_of_shot_noise(n_pixels, float(misfit.expected.mean())),
        mean_pattern=mean_pattern_deviance(scan, candidate.exposures, chosen.exposures),
        curves=half_photon_frc(candidate, scan) if with_halves else None,
    )


def covered(candidate: Candidate) -> Candidate:
    """Return a candidate with those of its exposures alone whose beam its object covers.

    Raises
    ------
    ValueError
        If it covers none.
    """
    kept = candidate.exposures[candidate.share_inside() >= COVERED]
    if len(kept) == len(candidate.exposures):
        return candidate
    rows, columns = candidate.object.shape
    spans = [f"{np.ptp(axis) + candidate.probe.shape[-1]:.0f}" for axis in (candidate.ycoords, candidate.xcoords)]
    where = f"the object, {rows} × {columns} px, does not cover the scan, {spans[0]} × {spans[1]} px"
    if not len(kept):
        raise ValueError(f"{candidate.path}: {where}: no exposure lies in it; wanted the object of this scan")
    note = f"{where}: judged are the {len(kept)} of {len(candidate.exposures)} exposures that lie in it"
    return candidate.of_exposures(kept).noted(note)


def predicted_blocks(
    candidate: Candidate, scan: Scan, block_size: int = 64
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.floating]]]:
    """Yield counts and predicted mean counts, (b, N, N) float64 each [photon], of a candidate's exposures."""
    for block in blocks(len(candidate.exposures), block_size):
        exposures, positions = candidate.exposures[block], (candidate.xcoords[block], candidate.ycoords[block])
        intensity = predict_intensity(candidate.object, candidate.probe, *positions, candidate.origin_px)
        counts = np.square(scan.diffraction[exposures], dtype=np.float64)
        yield counts, scan.detector.expected_counts(intensity, exposures)


def _estimated_pixels(candidate: Candidate, scan: Scan) -> int:
    """Count the pixels that a candidate's exposures illuminate, and those of its probe unless it is the scan's."""
    whole = candidate.covering()
    flux = illumination(whole.probe, whole.xcoords, whole.ycoords, whole.object.shape, whole.origin_px)
    return lit_pixels(flux) + (0 if np.array_equal(candidate.probe, scan.probe) else candidate.probe.size)


def calibrate(candidate: Candidate, scan: Scan) -> Candidate:
    """Scale the probe so that as many photons are predicted, above the background, as were counted."""
    chosen = np.linspace(0, len(candidate.exposures) - 1, SCALING_EXPOSURES).astype(int)
    sample = candidate.of_exposures(candidate.exposures[np.unique(chosen)]).covering()
    factor = _scale_of(predicted_blocks(sample, scan), scan)
    scaled = replace(candidate, probe=candidate.probe * np.sqrt(factor), is_calibrated=True)
    return scaled.noted(f"intensity of the probe multiplied by {factor:.4g}")


def _scale_of(parts: Iterable[tuple[NDArray[np.float64], NDArray[np.floating]]], scan: Scan) -> float:
    """Return counted over predicted photons of valid pixels, both without the background."""
    detector, counted, predicted = scan.detector, 0.0, 0.0
    background = np.zeros((1, 1)) if detector.background is None else detector.background
    for counts, mean in parts:
        counted += float(detector.valid_values(counts - background).sum())
        predicted += float(detector.valid_values(mean - background).sum())
    return max(counted, 0.0) / predicted if predicted > 0 else 0.0


def place(candidate: Candidate, scan: Scan) -> Candidate:
    """Move an object, or its complex conjugate, to where it predicts the counts of some exposures best."""
    middle = np.median(candidate.ycoords), np.median(candidate.xcoords)
    distance = np.hypot(candidate.ycoords - middle[0], candidate.xcoords - middle[1])
    sample = candidate.of_exposures(candidate.exposures[distance.argsort()[:PLACING_EXPOSURES]])
    sample = sample.covering(margin_px=int(4 * sum(PLACING_STEPS_PX)))

    def misfit_at(part: Candidate, down: float, right: float) -> float:
        parts = list(predicted_blocks(part.moved(down, right), scan))
        factor = _scale_of(parts, scan)
        return measure_misfit(((counts, mean * factor) for counts, mean in parts), scan.detector.valid).ratio

    best, moved = np.inf, candidate
    for conjugate in (False, True):
        part = _conjugated(sample) if conjugate else sample
        offset, value = (0.0, 0.0), misfit_at(part, 0.0, 0.0)
        for step in PLACING_STEPS_PX:
            offset, value = _descend(lambda down, right, part=part: misfit_at(part, down, right), offset, value, step)
        if value < best:
            best, moved = value, (_conjugated(candidate) if conjugate else candidate).moved(*offset)
            if any(offset):
                moved = moved.noted(f"positions moved by {offset[0]:+g} px (y) and {offset[1]:+g} px (x) to fit")
    return replace(moved, is_placed=True)


def _descend(misfit_at: Any, offset: tuple[float, float], value: float, step: float) -> tuple[Any, float]:
    """Walk in steps to the neighbor with the lowest misfit, at most four times."""
    for _ in range(4):
        neighbors = [(offset[0] + step * y, offset[1] + step * x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
        values = [misfit_at(*neighbor) for neighbor in neighbors]
        lowest = int(np.argmin(values))
        if values[lowest] >= value:
            break
        offset, value = neighbors[lowest], values[lowest]
    return offset, value


def _conjugated(candidate: Candidate) -> Candidate:
    """Return what predicts the same patterns with a Fourier transform of the other sign."""
    conjugate = replace(candidate, object=candidate.object.conj(), probe=candidate.probe.conj())
    return conjugate.noted("complex conjugate taken: its Fourier transform has the other sign")


def half_photon_frc(candidate: Candidate, scan: Scan, seed: int = 0) -> pd.DataFrame:
    """Reconstruct both halves of the photons with a candidate's probe and positions; return their FRC.

    Each half is fitted by maximum likelihood from a flat object: no prior, and nothing of the candidate's object, which
    knows the photons of both.

    Parameters
    ----------
    candidate : Candidate
        Placed and calibrated.
    scan : Scan
        Measured counts.
    seed : int
        Seed of the split.

    Returns
    -------
    DataFrame
        As `ptycho.scoring.half_frc.half_frc` returns it.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If no rectangle of the object is illuminated.
    """
    counts = Counts.of(scan, candidate.exposures)
    counts = replace(counts, xcoords=candidate.xcoords, ycoords=candidate.ycoords)
    objects = []
    for half in split_counts(counts, 0.5, seed):
        likelihood = Likelihood(half, candidate.probe, 0.5)
        flat = np.full(likelihood.shape, half.mean_transmittance(likelihood.probe), np.complex64)
        smoothed = likelihood.with_background(1.0)
        start = minimize(smoothed, flat, 0.0, HALF_ITERATIONS // 2)[0]
        objects.append(minimize(likelihood, start, 0.0, HALF_ITERATIONS)[0].astype(np.complex128))
    flux = likelihood.illumination()
    inner = scored_region([flux]).box
    first, second = objects
    aligned, _ = align_if_possible(first, second, flux, inner, name="first half")
    phase = np.exp(-1j * np.angle(np.sum(second[inner])))
    return half_frc(aligned * phase, second[inner] * phase)
