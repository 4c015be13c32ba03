"""Short reconstructions of a few exposures in many orientations, judged by exposures that they were not fitted to."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptycho.data.scan import Scan
from ptycho.data.selection import subsample_positions
from ptycho.inspection.orientation import Orientation
from ptycho.physics.detector import Detector
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import diameter_px
from ptycho.reconstruction.free_probe import Estimate, FewExposures
from ptycho.scoring.misfit import Misfit, measure_misfit

SPACING = 0.25
"""Smallest distance of the exposures in units of the beam's diameter: closer ones cost as much and add little."""
HOLDOUT_EVERY = 3
"""Of the inner half of the exposures, one in so many is held out."""


@dataclass(frozen=True, kw_only=True)
class TrialData:
    """A few neighboring exposures of a scan, in memory."""

    exposures: NDArray[np.int64]
    """(m,) exposures of the scan."""
    counts: NDArray[np.float32]
    """(m, N, N) photons."""
    xcoords: NDArray[np.float64]
    """(m,) columns of the patch centers [px]."""
    ycoords: NDArray[np.float64]
    """(m,) rows of the patch centers [px]."""
    is_holdout: NDArray[np.bool_]
    """(m,) exposures that no trial is fitted to."""
    probe: NDArray[np.complex64]
    """(modes, N, N) the scan's [sqrt(photon)]."""
    detector: Detector
    """Of these exposures."""
    power: float = 1.0
    """Photons are taken to be proportional to `counts` to this power, see `ptycho.inspection.quantity`."""

    @property
    def unit(self) -> float:
        """Photons per count to the `power`: so that there are as many photons as counts."""
        return float(self.counts.sum(dtype=np.float64) / np.sum(self.counts**self.power, dtype=np.float64))

    def photons(self, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the photons of some exposures, (b, N, N)."""
        counts = self.counts[chosen]
        return counts if self.power == 1 else np.float32(self.unit) * counts**self.power

    def scaled(self, factor: float) -> "TrialData":
        """Return the data with all distances between positions times a factor."""
        x, y = (axis.mean() + factor * (axis - axis.mean()) for axis in (self.xcoords, self.ycoords))
        return replace(self, xcoords=x, ycoords=y)

    def turned(self, orientation: Orientation) -> "TrialData":
        """Return the data in another orientation; the probe stays as it is."""
        x, y = orientation.positions(self.xcoords, self.ycoords)
        planes = {
            key: orientation.frames(array) for key, array in self.detector.arrays().items() if key != "exposure_scale"
        }
        return replace(
            self,
            counts=orientation.frames(self.counts),
            xcoords=x,
            ycoords=y,
            detector=replace(self.detector, **planes),
        )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A short reconstruction in one orientation."""

    orientation: Orientation
    held: Misfit
    """Misfit of the exposures that were held out."""

    @property
    def is_finite(self) -> bool:
        """Whether the reconstruction did not diverge."""
        return bool(np.isfinite(self.held.ratio))

    @property
    def misfit(self) -> float:
        """Misfit of the exposures that were held out; infinite if the reconstruction diverged."""
        return self.held.ratio if self.is_finite else np.inf

    def beats(self, other: "Trial", sigmas: float = 3.0) -> bool:
        """Whether the held-out exposures prefer this to another: by more than their scatter, or all of them."""
        difference = other.held.deviance - self.held.deviance
        if not np.isfinite(difference).all():
            return not np.isfinite(other.held.deviance).all()
        error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.inf
        return bool(difference.mean() > sigmas * error or (len(difference) >= 4 and (difference > 0).all()))


def choose_exposures(scan: Scan, usable: NDArray[np.bool_], count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Choose exposures in the middle of the usable ones, and which of them are held out.

    Parameters
    ----------
    scan : Scan
    usable : (M,) bool
        Exposures that may be chosen.
    count : int
        Wanted number; fewer if there are not as many.

    Returns
    -------
    exposures : (m,) int64
    is_holdout : (m,) bool
        Some of those near the middle, where others overlap them on all sides.
    """
    among = np.flatnonzero(usable)
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)
    apart = among[subsample_positions(points[among], SPACING * diameter_px(scan.probe))]
    among = apart if len(apart) >= count else among
    distance = np.linalg.norm(points[among] - np.median(points[among], axis=0), axis=1)
    chosen = among[distance.argsort(kind="stable")[:count]]
    is_holdout = np.zeros(len(chosen), bool)
    is_holdout[1 : max(len(chosen) // 2, 2) : HOLDOUT_EVERY] = True
    return chosen, is_holdout


def read_trial_data(
    scan: Scan, exposures: NDArray[np.int64], is_holdout: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> TrialData:
    """Read some exposures of a scan; pixels that are not valid become bad pixels."""
    frames = scan.diffraction[np.sort(exposures)][np.argsort(np.argsort(exposures))]
    counts = np.where(valid, np.square(frames, dtype=np.float32), np.float32(0))
    detector = scan.detector.select(exposures)
    return TrialData(
        exposures=exposures,
        counts=counts,
        xcoords=scan.xcoords[exposures],
        ycoords=scan.ycoords[exposures],
        is_holdout=is_holdout,
        probe=scan.probe,
        detector=detector if valid.all() else replace(detector, bad_pixels=~valid),
    )


def run_trials(
    data: TrialData, orientations: Iterable[Orientation], iterations: int, probe_step: float = 0.0
) -> list[Trial]:
    """Reconstruct in some orientations; the trial with the lowest held-out misfit comes first.

    Parameters
    ----------
    data : TrialData
        Exposures as they are in the scan.
    orientations : iterable of Orientation
    iterations, probe_step
        As for `ptycho.reconstruction.free_probe.FewExposures.reconstruct`.
    """
    trials = []
    for orientation in orientations:
        turned = data.turned(orientation)
        fit, held = ~data.is_holdout, data.is_holdout
        few = FewExposures(
            turned.photons(fit), turned.xcoords[fit], turned.ycoords[fit], data.probe, turned.detector.select(fit)
        )
        estimate = few.reconstruct(iterations, probe_step)
        trials.append(Trial(orientation=orientation, held=_misfit(turned, held, estimate, few.transmittance)))
    return sorted(trials, key=lambda trial: trial.misfit)


def _misfit(data: TrialData, chosen: NDArray[np.bool_], estimate: Estimate, fill: float) -> Misfit:
    """Return the misfit of some exposures; where the estimate has no object, a flat one is taken."""
    n = estimate.probe.shape[-1]
    padded = np.pad(estimate.object, n, constant_values=np.complex64(fill))
    origin = estimate.origin_px[0] - n, estimate.origin_px[1] - n
    intensity = predict_intensity(padded, estimate.probe, data.xcoords[chosen], data.ycoords[chosen], origin)
    detector = data.detector.select(chosen)
    mean = detector.expected_counts(intensity)
    if data.power != 1:
        mean = (mean / data.unit) ** (1 / data.power)  # what is compared are the counts as they are, at every power
    return measure_misfit([(data.counts[chosen], mean)], detector.valid)
