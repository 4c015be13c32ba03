"""When training is enough: the likelihood of photons that the network neither learnt from nor sees, and no truth.

Groups with a `stop` exposure are not trained on; some of them judge. The network sees a pattern and predicts the same
one, so that a network which only copies the noise would look good: the photons of a judging group are dealt to two
sets, one goes in, and the Poisson deviance of the other is what counts (Batson and Royer, Noise2Self, ICML 2019).
"""

from dataclasses import asdict, dataclass

import keras
import numpy as np
import tensorflow as tf

from ptycho.metrics import poisson_deviance
from ptycho.physics import blocks

FIT_SHARE = 0.8
"""Of a judging group's photons that go in."""
MOST_GROUPS = 64
"""Groups that judge: enough to compare by, little to compute."""


class TrainingError(ValueError):
    """Training cannot go on: the message says why."""


def amplitudes_of(container, groups):
    """Read the frames of some groups, (b, N, N, C).

    Raises
    ------
    TrainingError
        If some are not finite; the message names the exposures.
    """
    frames = container._X_np[groups]
    wrong = ~np.isfinite(frames).all(axis=(1, 2))
    if wrong.any():
        exposures = np.unique(container.nn_indices[groups][wrong])
        raise TrainingError(
            f"diffraction is not finite in {len(exposures)} exposures of groups {groups[0]} to {groups[-1]}: "
            f"{', '.join(map(str, exposures[:8]))}{', …' * (len(exposures) > 8)}"
        )
    return frames


def split_groups(nn_indices, stop) -> tuple[np.ndarray, np.ndarray]:
    """Split groups by their exposures.

    Parameters
    ----------
    nn_indices : (B, C) int
        Exposures of each group.
    stop : (m,) int
        Exposures to stop on.

    Returns
    -------
    fit : (b,) int64
        Groups without a stop exposure, to train on.
    judges : (k,) int64
        Groups to judge by: one for every stop exposure that is in any, at most `MOST_GROUPS`, spread over the scan.

    Raises
    ------
    TrainingError
        If either is empty.
    """
    apart = np.isin(nn_indices, stop)
    rows, columns = np.nonzero(apart)
    fit, touched = np.flatnonzero(~apart.any(axis=1)), np.unique(rows)
    if not len(fit) or not len(touched):
        raise TrainingError(
            f"{len(touched)} of {len(nn_indices)} groups hold one of the {len(stop)} stop exposures; wanted some that "
            "do, to stop on, and some that do not, to train on: more grouping.n_groups, or another grouping.held_share"
        )
    first = np.unique(np.asarray(nn_indices)[rows, columns], return_index=True)[1]
    judges = np.unique(rows[first])
    return fit, judges[np.unique(np.linspace(0, len(judges) - 1, MOST_GROUPS).round().astype(int))]


class HeldOut:
    """Poisson deviance per pixel of the stop exposures in some groups, of photons that did not go in.

    Parameters
    ----------
    container : PtychoDataContainer
        Its truth is not read.
    judges : (k,) int
        Groups; their frames are read once, and kept.
    stop : (m,) int
        Exposures that count.
    model : keras.Model
        As of `build_pinn`.
    batch_size : int
        Groups.
    """

    def __init__(self, container, judges, stop, model: keras.Model, *, batch_size: int, seed: int):
        counts = np.rint(np.square(amplitudes_of(container, judges), dtype=np.float64)).astype(np.int64)
        seen = np.random.default_rng(seed).binomial(counts, FIT_SHARE)
        positions = np.asarray(container._coords_nominal_np[judges], np.float32)
        self.inputs = {"diffraction": np.sqrt(seen / FIT_SHARE).astype(np.float32), "positions": positions}
        self.chosen = np.isin(container.nn_indices[judges], stop)
        self.counts = _frames(counts - seen)[self.chosen]
        self.batch_size, self.predict = min(batch_size, len(judges)), tf.function(model, reduce_retracing=True)

    def __len__(self) -> int:
        return len(self.chosen)

    def __call__(self) -> float:
        """Predict with the weights as they are now."""
        predicted = []
        for block in blocks(len(self.chosen), self.batch_size):
            index = np.arange(block.start, block.start + self.batch_size) % len(self.chosen)  # filled up: one function
            mean = self.predict({name: tf.constant(array[index]) for name, array in self.inputs.items()})
            predicted.append(_frames(mean.numpy())[: block.stop - block.start])
        return poisson_deviance(self.counts, (1 - FIT_SHARE) * np.concatenate(predicted)[self.chosen].astype(float))


def _frames(grouped):
    return np.moveaxis(grouped, -1, 1)


@dataclass
class Patience:
    """What a series of held-out deviances says: which was best, how far the rate falls, when it is enough."""

    halve_after: int
    """Evaluations without a better one until the rate is halved, and again."""
    limit: int
    """Evaluations without a better one until it is enough."""
    best: float = float("inf")
    since: int = 0
    """Evaluations since the best one."""
    halvings: int = 0

    def better(self, deviance: float) -> bool:
        """Take the next deviance; say whether it is the best so far."""
        if deviance < self.best:
            self.best, self.since = deviance, 0
            return True
        self.since += 1
        self.halvings += self.since % self.halve_after == 0
        return False

    @property
    def over(self) -> bool:
        """Whether it is enough."""
        return self.since >= self.limit

    def state(self) -> dict:
        """All of it, as JSON can say it."""
        return asdict(self)
