"""The optimization around an unrolled network: stages of L-BFGS with a decreasing prior before it, a few steps after.

Every stage minimizes the Poisson likelihood with a total-variation prior (`ptycho.reconstruction.tv`) of half the
weight of the stage before, and then the slow phase alone. The background of the likelihood falls with the prior.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.reconstruction.features import preconditioned_gradient, stack_features
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.minibatches import minibatch_epochs
from ptycho.reconstruction.optimize import minimize, minimize_slow_phase
from ptycho.reconstruction.passes import Array
from ptycho.reconstruction.tv_weight import MIN_BACKGROUND_FRACTION

DIFFERENCE_SCALE = 3.0
"""Factor on the differences between stages as features: they are small compared with the object."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Parameters of the optimization around the network; the model card stores them."""

    stages: int
    """Stages before the network."""
    minibatch_epochs: int
    """Mini-batch epochs in place of the first stage; 0: none."""
    iterations: int
    """L-BFGS iterations of every stage but the last."""
    phase_iterations: int
    """L-BFGS iterations in the slow phase alone, after every stage but the last."""
    final_iterations: int
    """L-BFGS iterations of the last stage."""
    post_iterations: int
    """L-BFGS iterations after the network."""
    tv_weight: float
    """λ of the last stage and after the network."""
    transmittance: float
    """Mean amplitude transmittance of the training data: the flat object that the first stage starts from."""
    n_pixels: int
    """N, side of the patterns."""
    photons: float
    """Photons of the probe with which λ was chosen [photon], for the model card."""
    background_fraction: float = MIN_BACKGROUND_FRACTION
    """Background of the likelihood after the network, in units of its `noise_level`; ten times as large in the last
    stage, and √10 times larger in each stage before."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-serializable values."""
        return asdict(self)

    def check(self, probe: NDArray[np.complexfloating]) -> None:
        """Refuse patterns of another size; a probe with other photons is warned of by `ptycho.model.inference`.

        Parameters
        ----------
        probe : (..., N, N) complex
            Illumination [sqrt(photon)].

        Raises
        ------
        ValueError
            If the probe has another size than the patterns of the training.
        """
        if probe.shape[-1] != self.n_pixels:
            sizes = f"patterns of {self.n_pixels} px, but these have {probe.shape[-1]} px"
            raise ValueError(f"the unrolled network was trained on {sizes}")

    def before(self, likelihood: Likelihood, scale: float = 1.0) -> list[Array]:
        """Run the stages; return the object at the end of each.

        Parameters
        ----------
        likelihood : Likelihood
            Likelihood of the photons to reconstruct from.
        scale : float
            Factor on λ, for a part of the photons.

        Returns
        -------
        list of (H, W) complex64
            One object per stage, on the likelihood's device.
        """
        obj = likelihood.device.xp.full(likelihood.shape, self.transmittance, np.complex64)
        ends, stages = [], self.stages
        if self.minibatch_epochs:
            obj, stages = minibatch_epochs(likelihood, obj, self.minibatch_epochs), stages - 1
            ends.append(obj)
        for left in reversed(range(stages)):
            iterations = self.iterations if left else self.final_iterations
            smoothed = likelihood.with_background(10 ** (1 + left / 2) * self.background_fraction)
            obj, *_ = minimize(smoothed, obj, 2.0**left * self.tv_weight * scale, iterations)
            if left and self.phase_iterations:
                obj = minimize_slow_phase(smoothed, obj, self.phase_iterations)
            ends.append(obj)
        return ends

    def after(self, likelihood: Likelihood, obj: Array) -> Array:
        """Run the L-BFGS iterations after the network, from its (H, W) object on."""
        smoothed = likelihood.with_background(self.background_fraction)
        return minimize(smoothed, obj, self.tv_weight, self.post_iterations)[0]

    def features(self, likelihood: Likelihood, ends: list[Array]) -> NDArray[np.float32]:
        """Return the network's input on the host, (H, W, `n_features`): see `ptycho.reconstruction.features`.

        Parameters
        ----------
        likelihood : Likelihood
            Likelihood of the photons to reconstruct from.
        ends : list of (H, W) complex64
            Object at the end of each stage, as `before` returns them.
        """
        last, step = ends[-1], preconditioned_gradient(likelihood, ends[-1])
        fields = last - self.transmittance, step, *(DIFFERENCE_SCALE * (end - last) for end in ends[:-1])
        to_host = likelihood.device.to_host
        return stack_features(map(to_host, fields), to_host(likelihood.illumination()))

    @property
    def n_features(self) -> int:
        """Number of features: real and imaginary parts of the stages' ends and of the gradient, and illumination."""
        return 2 * (self.stages + 1) + 1
