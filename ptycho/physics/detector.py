"""What a detector does to the photons: bad pixels, background, and the flux of every exposure; simulated detectors."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.forward import diffract
from ptycho.physics.noise import shot_noise

GAP_COUNTS, HOT_COUNTS = 2.0**32 - 1, 2.0**20
"""What a simulated detector reads in gaps (the largest 32-bit integer, as many detectors do) and in hot pixels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detector:
    """A detector and the flux that it was exposed to; by default it counts every photon and nothing else."""

    bad_pixels: NDArray[np.bool_] | None = None
    """(N, N), True where a pixel counts for nothing: gaps, dead and hot pixels; None: nowhere."""
    background: NDArray[np.float32] | None = None
    """(N, N) mean counts of an exposure that do not come from the sample [photon]; None: zero."""
    exposure_scale: NDArray[np.float64] | None = None
    """(M,) incident photons of every exposure, in units of the probe's Σ|P|²; None: 1."""

    @property
    def valid(self) -> NDArray[np.bool_] | None:
        """(N, N), True where a pixel counts; None: everywhere."""
        return None if self.bad_pixels is None else ~self.bad_pixels

    def select(self, exposures: Any) -> "Detector":
        """Return the detector for some exposures: (m,) int64, or a slice."""
        if self.exposure_scale is None:
            return self
        return replace(self, exposure_scale=self.exposure_scale[exposures])

    def scaled(self, fraction: float) -> "Detector":
        """Return the detector for a fraction of the photons: its background is as much weaker."""
        if self.background is None:
            return self
        return replace(self, background=self.background * np.float32(fraction))

    def expected_counts(self, intensity: NDArray[np.floating], exposures: Any = slice(None)) -> NDArray[np.floating]:
        """Mean counts of some exposures: scale · |F(P O)|² + background.

        Parameters
        ----------
        intensity : (m, N, N) float
            What the forward model predicts [photon].
        exposures : (m,) int64 or slice
            Which exposures these are.

        Returns
        -------
        (m, N, N) float
            Mean counts [photon]; `intensity` itself if the detector adds nothing.
        """
        if self.exposure_scale is not None:
            intensity = intensity * self.exposure_scale[exposures][:, None, None]
        return intensity if self.background is None else intensity + self.background

    def valid_values(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Return the values of valid pixels, (m, V), of (m, N, N) frames; all of them, as they are, if none is bad."""
        return frames if self.bad_pixels is None else frames[:, ~self.bad_pixels]

    def n_valid(self, n_pixels: int) -> int:
        """Return the number of valid pixels of an exposure of `n_pixels` squared."""
        return n_pixels**2 if self.bad_pixels is None else int(np.sum(~self.bad_pixels))

    def detectable(self, probe: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
        """Return waves with as many photons as reach valid pixels without a sample; `probe` itself if none is bad.

        Parameters
        ----------
        probe : (..., N, N) complex
            Illumination [sqrt(photon)].
        """
        return probe if self.bad_pixels is None else diffract(probe)[..., ~self.bad_pixels]

    def planes(self) -> NDArray[np.float32] | None:
        """Return (2, N, N): 1 in valid and 0 in bad pixels; background [photon]. None if it has neither."""
        first = self.bad_pixels if self.bad_pixels is not None else self.background
        if first is None:
            return None
        planes = np.stack([np.ones(first.shape, np.float32), np.zeros(first.shape, np.float32)])
        if self.bad_pixels is not None:
            planes[0, self.bad_pixels] = 0
        if self.background is not None:
            planes[1] = self.background
        return planes

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that there are, under the keys of the data contract."""
        keys = "bad_pixels", "background", "exposure_scale"
        return {key: array for key in keys if (array := getattr(self, key)) is not None}


PERFECT = Detector()
"""Detector that counts every photon and nothing else, at constant flux."""


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """What a simulated detector does to the photons; by default nothing."""

    gap_px: int = 0
    """Width of two gaps between modules, one along the rows and one along the columns [px]."""
    dead_fraction: float = 0.0
    """Fraction of the pixels that never count."""
    hot_pixels: int = 0
    """Number of pixels that always count `HOT_COUNTS`."""
    background: float = 0.0
    """Mean counts of a pixel in an exposure that do not come from the sample, at every dose [photon]."""
    flux_jitter: float = 0.0
    """Relative standard deviation of the incident photons from exposure to exposure."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedDetector:
    """A detector and what its bad pixels read."""

    detector: Detector = PERFECT
    """What it does to the photons; its bad pixels are known."""
    readout: NDArray[np.float32] | None = None
    """(N, N) amplitudes that bad pixels read in every exposure, sqrt(counts); None if none is bad."""

    def select(self, exposures: Any) -> "SimulatedDetector":
        """Return the detector for some exposures: (m,) int64, or a slice."""
        return replace(self, detector=self.detector.select(exposures))

    def count(self, intensity: NDArray[np.floating], exposures: slice, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw the counts of some exposures and return their amplitudes.

        Parameters
        ----------
        intensity : (m, N, N) float
            What the forward model predicts [photon].
        exposures : slice
            Which exposures these are.
        rng : Generator
            Source of the shot noise; bad pixels do not change that of the others.

        Returns
        -------
        (m, N, N) float32
            sqrt(counts).
        """
        frames = shot_noise(self.detector.expected_counts(intensity, exposures), rng)
        if self.readout is not None:
            np.copyto(frames, self.readout, where=self.detector.bad_pixels)
        return frames


def simulate_detector(
    options: DetectorOptions, n_pixels: int, n_exposures: int, rng: np.random.Generator
) -> SimulatedDetector:
    """Draw gaps, dead and hot pixels, and the flux of every exposure.

    Each gap is between an eighth and three eighths of the detector away from the zero frequency, on either side.

    Parameters
    ----------
    options : DetectorOptions
        What the detector does.
    n_pixels : int
        N, side of the detector [px].
    n_exposures : int
        M, number of exposures.
    rng : Generator
        Source of the draw. Each kind of defect has a stream of its own, so that one does not move the others.

    Raises
    ------
    ValueError
        If a gap or the bad pixels do not fit on the detector.
    """
    shape, streams = (n_pixels, n_pixels), rng.spawn(4)
    readout = np.full(shape, np.nan, np.float32)
    hot = streams[0].permutation(n_pixels**2)[: options.hot_pixels]
    dead = streams[1].permutation(n_pixels**2)[: round(options.dead_fraction * n_pixels**2)]
    readout.flat[hot], readout.flat[dead] = np.sqrt(HOT_COUNTS), 0
    for axis in range(2 if options.gap_px else 0):
        low, high = n_pixels // 8, 3 * n_pixels // 8 - options.gap_px
        if high <= low:
            raise ValueError(f"gaps of {options.gap_px} px; wanted at most {n_pixels // 4 - 1} px of {n_pixels}")
        start = n_pixels // 2 + int(streams[2].integers(low, high))
        start = start if streams[2].integers(2) else n_pixels - start - options.gap_px
        np.moveaxis(readout, axis, 0)[start : start + options.gap_px] = np.sqrt(GAP_COUNTS)
    bad, scale = ~np.isnan(readout), None
    if bad.all():
        raise ValueError(f"{options}: no valid pixel is left of {n_pixels} × {n_pixels}")
    if options.flux_jitter:
        scale = streams[3].gamma(options.flux_jitter**-2, options.flux_jitter**2, n_exposures)
        scale /= scale.mean()
    detector = Detector(
        bad_pixels=bad if bad.any() else None,
        background=np.full(shape, options.background, np.float32) if options.background else None,
        exposure_scale=scale,
    )
    return SimulatedDetector(detector=detector, readout=readout if bad.any() else None)
