"""Examples of groups: what a network sees of one group's photons, and what its object is compared with."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.loader import PtychoDataContainer
from ptycho.model.networks import Estimator
from ptycho.model.trained_probe import TrainedProbe
from ptycho.model.unet import padded
from ptycho.model.unet_training import Example, target_of
from ptycho.reconstruction.counts import Counts, mean_transmittance_of
from ptycho.reconstruction.likelihood import Likelihood

TRANSMITTANCE_GROUPS = 64
"""Largest number of groups that the mean transmittance is computed from; they are spread over the scan."""
HALF_WEIGHT = 0.05
"""Illumination at which a pixel of the truth counts half, as a fraction of one exposure's peak."""


def transmittance_of(container: PtychoDataContainer, groups: NDArray[np.int64]) -> float:
    """Mean amplitude transmittance of groups, see `ptycho.reconstruction.counts.mean_transmittance_of`.

    Parameters
    ----------
    container : PtychoDataContainer
        Groups of a scan.
    groups : (b,) int64
        Indices of the groups, of which at most `TRANSMITTANCE_GROUPS` are read.

    Raises
    ------
    ValueError
        If frames are not finite.
    """
    chosen = groups[np.unique(np.linspace(0, len(groups) - 1, TRANSMITTANCE_GROUPS).round().astype(int))]
    return mean_transmittance_of(
        [Counts.of_group(container, group) for group in chosen.tolist()], container.probe_array
    )


@dataclass(frozen=True, kw_only=True)
class GroupExamples:
    """Examples of the groups of a container."""

    container: PtychoDataContainer
    """Groups of the train split."""
    estimator: Estimator
    """What the network sees."""
    fit_fraction: float
    """Fraction of a group's photons that the network sees; the rest is predicted."""
    probe: TrainedProbe | None = None
    """Probe that is trained meanwhile; None: that of the container."""

    @property
    def _probe(self) -> NDArray[np.complexfloating]:
        """Probe of this moment, of all photons."""
        return self.container.probe_array if self.probe is None else self.probe.value

    def _target(self, likelihood: Likelihood, origin_px: tuple[int, int]) -> dict[str, NDArray[Any]]:
        return target_of(likelihood, origin_px, free_probe=self.probe is not None)

    def _split(self, group: int, rng: np.random.Generator) -> tuple[Likelihood, Counts]:
        """Split a group's photons: return the likelihood of those that the network sees, and the rest."""
        counts = Counts.of_group(self.container, group)
        frames = np.rint(counts.frames(np.arange(len(counts)))).astype(np.int64)
        fit = rng.binomial(frames, self.fit_fraction)
        seen = Likelihood(replace(counts, frames=fit.__getitem__), self._probe, self.fit_fraction)
        return seen, replace(counts, frames=(frames - fit).__getitem__)

    def _example(self, likelihood: Likelihood, target: dict[str, NDArray[Any]]) -> Example:
        start = np.full(likelihood.shape, self.estimator.transmittance, np.complex64)
        return Example(start, self.estimator.features(likelihood, self.fit_fraction), target)

    def photons(self, group: int, rng: np.random.Generator, predicted: NDArray[np.int64] | None = None) -> Example:
        """Make an example whose target is the rest of the group's photons, for `ptycho.model.losses.canvas_deviance`.

        Parameters
        ----------
        group : int
            The group.
        rng : Generator
            Source of the split.
        predicted : (m,) int64, optional
            Which of the group's exposures are predicted, from 0 on; default: all.
        """
        likelihood, rest = self._split(group, rng)
        rest = rest if predicted is None else rest.select(predicted)
        target = Likelihood(rest, self._probe, 1 - self.fit_fraction, cache_bytes=0)
        return self._example(likelihood, self._target(target, likelihood.origin_px))

    def all_photons(self, group: int, rng: np.random.Generator) -> Example:
        """Make an example whose target is all of the group's photons, also those that the network sees.

        Their noise is not independent of the network's input: this is how a self-supervised network is trained without
        a split of the photons, and here for comparison. The network sees as many photons as with `photons`, whose
        parameters these are.
        """
        likelihood, _ = self._split(group, rng)
        target = Likelihood(Counts.of_group(self.container, group), self._probe, cache_bytes=0)
        return self._example(likelihood, self._target(target, likelihood.origin_px))

    def truth(self, group: int, rng: np.random.Generator) -> Example:
        """Make an example whose target is the true object, for `ptycho.model.losses.canvas_distance`.

        The network sees as many photons as with `photons`, whose parameters these are.
        """
        likelihood, _ = self._split(group, rng)
        (y, x), (height, width) = likelihood.origin_px, likelihood.shape
        truth = np.asarray(self.container.YY_full[y : y + height, x : x + width], np.complex64)
        illumination = likelihood.illumination()
        half = HALF_WEIGHT * float(np.max(np.sum(np.abs(likelihood.probe) ** 2, axis=0)))
        target = {"truth": truth, "weight": (illumination / (illumination + half)).astype(np.float32)}
        return self._example(likelihood, {name: padded(array) for name, array in target.items()})
