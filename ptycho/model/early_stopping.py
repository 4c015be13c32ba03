"""Early stopping: validation by the likelihood of photons that the network neither learns from nor sees, without truth.

Groups with a validation exposure are not trained on; some of them are used for validation. The network predicts the
pattern that it sees, so a network that only copies the noise would look good. The photons of a validation group are
therefore split into two independent sets: one is the input, and the Poisson deviance of the other is computed (Batson
and Royer, Noise2Self, ICML 2019).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_GROUPS = 64
"""Largest number of validation groups: enough for a comparison, cheap to compute."""


class TrainingError(ValueError):
    """A network cannot be trained; the message says why."""


def split_groups(nn_indices: ArrayLike, validation: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split groups into those without and those with a validation exposure.

    Parameters
    ----------
    nn_indices : (B, C) int
        Exposures of each group.
    validation : (m,) int
        Validation exposures.

    Returns
    -------
    fit : (b,) int64
        Groups without a validation exposure, to train on.
    validation_groups : (k,) int64
        Groups to validate on: one for every validation exposure that is in a group, at most `MAX_GROUPS`, spread over
        the scan.

    Raises
    ------
    TrainingError
        If either is empty.
    """
    nn_indices, validation = np.asarray(nn_indices), np.asarray(validation)
    is_validation = np.isin(nn_indices, validation)
    rows, columns = np.nonzero(is_validation)
    fit, touched = np.flatnonzero(~is_validation.any(axis=1)), np.unique(rows)
    if not len(fit) or not len(touched):
        raise TrainingError(
            f"{len(touched)} of {len(nn_indices)} groups hold one of the {len(validation)} validation exposures; "
            "wanted some that do, for early stopping, and some that do not, to train on: more grouping.n_groups, or "
            "another grouping.holdout_fraction"
        )
    first = np.unique(nn_indices[rows, columns], return_index=True)[1]
    groups = np.unique(rows[first])
    return fit, groups[np.unique(np.linspace(0, len(groups) - 1, MAX_GROUPS).round().astype(int))]


@dataclass
class Patience:
    """Lowest validation deviance so far, halvings of the learning rate, and when to stop."""

    early_stopping_patience: int
    """Evaluations without improvement after which training stops."""
    best: float = float("inf")
    """Lowest deviance so far."""
    since: int = 0
    """Evaluations since the lowest one."""
    halvings: int = 0
    """Number of times that the learning rate was halved: once after every evaluation without improvement."""

    def better(self, deviance: float) -> bool:
        """Take the next deviance; return whether it is the lowest so far."""
        if deviance < self.best:
            self.best, self.since = deviance, 0
            return True
        self.since += 1
        self.halvings += 1
        return False

    @property
    def over(self) -> bool:
        """Whether training should stop."""
        return self.since >= self.early_stopping_patience

    def state(self) -> dict[str, Any]:
        """Return the fields as JSON-serializable values."""
        return asdict(self)
