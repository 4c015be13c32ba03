"""Photon counts of a scan's exposures, read block by block, and their split into two independent sets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ptycho.data.scan import Scan
from ptycho.physics.detector import PERFECT, Detector
from ptycho.physics.forward import blocks, mean_transmittance
from ptycho.physics.noise import MAX_COUNT
from ptycho.workflow.files import ContractError, StrPath

MIN_SIGNAL = 0.01
"""Smallest fraction of the counts that is taken to come from the sample, however strong the background is."""


class Groups(Protocol):
    """Groups of exposures, such as a `ptycho.loader.PtychoDataContainer`."""

    detector: Detector
    """What the detector does to the photons, and the flux of all exposures."""
    source: StrPath
    """File of the frames, in messages."""

    def members(self, group: int) -> NDArray[np.int64]:
        """Return the (m,) exposures of a group."""
        ...

    def positions(self, group: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return columns and rows of their patch centers [px]."""
        ...

    def group_frames(self, group: int, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read the (k, N, N) amplitudes, sqrt(counts), of some of them, from 0 on."""
        ...


@dataclass(frozen=True)
class Counts:
    """Photon counts of exposures and their positions, read block by block."""

    frames: Callable[[NDArray[np.int64]], NDArray[Any]]
    """Takes (m,) int64 exposures, returns their (m, N, N) counts [photon]; bad pixels hold 0."""
    xcoords: NDArray[np.float64]
    """(M,) columns of the patch centers [px]."""
    ycoords: NDArray[np.float64]
    """(M,) rows of the patch centers [px]."""
    block_size: int = 64
    """Exposures per block."""
    detector: Detector = PERFECT
    """What the detector does to the photons, and the flux of the M exposures. Its background is that of all photons,
    also where `frames` are a part of them."""

    @classmethod
    def of(cls, scan: Scan, chosen: NDArray[np.int64]) -> "Counts":
        """Select exposures of a scan; a frame is read when it is needed.

        Parameters
        ----------
        scan : Scan
            Scan with M exposures.
        chosen : (m,) int64
            Indices of the exposures.

        Returns
        -------
        Counts
            Counts of the m exposures.

        Raises
        ------
        ptycho.workflow.files.ContractError
            When frames are read: if a count is not finite, or no count; the message names file and exposures.
        """

        def frames(exposures: NDArray[np.int64]) -> NDArray[np.float64]:
            return _squared(scan.diffraction[chosen[exposures]], chosen[exposures], scan.path)

        return cls(frames, scan.xcoords[chosen], scan.ycoords[chosen], detector=scan.detector.select(chosen))

    @classmethod
    def of_group(cls, groups: Groups, group: int, block_size: int = 64) -> "Counts":
        """Select the exposures of a group; a frame is read when it is needed.

        Parameters
        ----------
        groups : Groups
            Groups of a scan.
        group : int
            The group.
        block_size : int
            Exposures per block.

        Raises
        ------
        ptycho.workflow.files.ContractError
            When frames are read: if a count is not finite, or no count; the message names file and exposures.
        """
        members = groups.members(group)

        def frames(which: NDArray[np.int64]) -> NDArray[np.float64]:
            return _squared(groups.group_frames(group, which), members[which], groups.source)

        return cls(frames, *groups.positions(group), block_size, groups.detector.select(members))

    def __len__(self) -> int:
        return len(self.xcoords)

    def select(self, chosen: NDArray[np.int64]) -> "Counts":
        """Return the counts of some exposures, (m,) int64."""
        return replace(
            self,
            frames=lambda exposures: self.frames(chosen[exposures]),
            xcoords=self.xcoords[chosen],
            ycoords=self.ycoords[chosen],
            detector=self.detector.select(chosen),
        )

    def photons(self) -> float:
        """Return the number of all photons on valid pixels, read block by block."""
        return sum(float(np.sum(self.frames(np.arange(part.start, part.stop)))) for part in self.parts)

    def mean_transmittance(self, probe: NDArray[np.complexfloating]) -> float:
        """Return the mean amplitude transmittance under a (modes, N, N) probe; all frames are read."""
        return mean_transmittance_of([self], probe)

    @property
    def parts(self) -> Iterator[slice]:
        """Consecutive blocks of exposures."""
        return blocks(len(self), self.block_size)


def _squared(amplitudes: NDArray[np.floating], exposures: NDArray[np.int64], source: StrPath) -> NDArray[np.float64]:
    """Return the counts of (m, N, N) amplitudes of a file; refuse those of (m,) exposures that are none."""
    counts = np.square(amplitudes, dtype=np.float64)
    right = (counts <= MAX_COUNT).all(axis=(-2, -1))
    if not right.all():
        named = exposures[~right].tolist()
        raise ContractError(
            f"{source}: exposures {named}: counts that are not finite numbers, or above {MAX_COUNT:.4g}"
        )
    return counts


def mean_transmittance_of(parts: Sequence[Counts], probe: NDArray[np.complexfloating]) -> float:
    """Mean amplitude transmittance of a sample: sqrt(detected / incident photons), both on valid pixels.

    The background is subtracted. Photons that would reach valid pixels without a sample stand for the incident ones.

    Parameters
    ----------
    parts : sequence of Counts
        Exposures of one scan; all their frames are read.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    """
    detected, exposures = sum(part.photons() for part in parts), sum(map(_total_scale, parts))
    detector = parts[0].detector
    if detector.background is not None:
        background = detector.valid_values(detector.background[None]).sum(dtype=np.float64) * sum(map(len, parts))
        detected = max(detected - float(background), MIN_SIGNAL * detected)
    return mean_transmittance(detected, exposures, detector.detectable(probe))


def _total_scale(counts: Counts) -> float:
    """Sum of the exposures' incident photons, in units of the probe's."""
    scale = counts.detector.exposure_scale
    return len(counts) if scale is None else float(scale.sum())


def split_counts(counts: Counts, fraction: float, seed: int) -> tuple[Counts, Counts]:
    """Split the photons into two independent sets of the same exposures.

    Every exposure has a random generator of its own: its split does not depend on when it is read, or with which
    others.

    Parameters
    ----------
    counts : Counts
        Photons to split; counts are rounded to integers.
    fraction : float
        Probability that a photon goes to the first set.
    seed : int
        Seed of the split.

    Returns
    -------
    first, second : Counts
        Sets that are split anew whenever they are read; together they have all photons.

    Raises
    ------
    ValueError
        When frames are read: if a count is negative, or the fraction is outside [0, 1].
    """

    def split(exposures: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        frames = np.rint(counts.frames(exposures)).astype(np.int64)
        first = [
            np.random.default_rng([seed, int(exposure)]).binomial(frame, fraction)
            for exposure, frame in zip(exposures, frames, strict=True)
        ]
        return frames, np.stack(first)

    def second(exposures: NDArray[np.int64]) -> NDArray[np.int64]:
        frames, first = split(exposures)
        return frames - first

    return replace(counts, frames=lambda exposures: split(exposures)[1]), replace(counts, frames=second)
