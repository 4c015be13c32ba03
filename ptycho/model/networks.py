"""Networks of PINN and Baseline: from a cheap physical estimate on a group's canvas to its object.

The overlap of a group's exposures has shaped what the network sees: their diffraction patterns are stitched on one
canvas by a few iterations of gradient descent. PINN and Baseline share all of this; they differ in what teaches them.
"""

from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ptycho.data.knowledge import photons_of
from ptycho.data.object_files import Reconstruction, Refined
from ptycho.model.layers import Blend
from ptycho.model.unet import correct, unet_output
from ptycho.physics.probes import scale_to
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.features import stack_features
from ptycho.reconstruction.gradient_descent import gradient_descent
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.workflow.job import CpuClock

METHODS = ("pinn", "baseline")
"""Methods with these networks."""
EARLY = 5
"""The network also sees the object after a fraction of the iterations, 1 / EARLY: smoother, with less noise."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Architecture of a network and of the estimate that it sees."""

    filters: int
    """Features at full resolution; two and three times as many at the lower ones."""
    physics_iterations: int
    """Iterations of gradient descent after the first, see `ptycho.reconstruction.gradient_descent`."""


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """The physical estimate that a network sees, as features on a canvas."""

    physics_iterations: int
    """Iterations of gradient descent after the first."""
    transmittance: float
    """Mean amplitude transmittance of the training data: the flat object that the iterations start from."""
    n_pixels: int
    """N, side of the patterns [px]."""

    @property
    def kept(self) -> tuple[int, ...]:
        """Iterations whose objects the network sees, from the last to the first (0)."""
        return tuple(sorted({self.physics_iterations, self.physics_iterations // EARLY, 0}, reverse=True))

    @property
    def n_features(self) -> int:
        """Number of features: real and imaginary part of each object, and the illumination."""
        return 2 * len(self.kept) + 1

    def features(self, likelihood: Likelihood, fraction: float = 1.0) -> NDArray[np.float32]:
        """Iterate, and return the network's input.

        Parameters
        ----------
        likelihood : Likelihood
            Likelihood of the photons to reconstruct from.
        fraction : float
            Fraction that they are of all photons.

        Returns
        -------
        (H, W, `n_features`) float32
            Objects minus the mean transmittance, and the logarithm of the illumination.
        """
        flat = np.full(likelihood.shape, self.transmittance, np.complex64)
        objects = gradient_descent(likelihood, flat, self.physics_iterations, self.kept)
        return stack_features((obj - flat for obj in objects), likelihood.illumination() / fraction)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-serializable values."""
        return asdict(self)


def build_network(estimator: Estimator, filters: int) -> keras.Model:
    """Build a network over canvases of any size.

    A U-Net chooses between the estimates, pixel by pixel, and adds a correction, see `ptycho.model.layers.Blend`.

    Parameters
    ----------
    estimator : Estimator
        What the network sees.
    filters : int
        Features at full resolution, see `NetworkOptions`.

    Returns
    -------
    keras.Model
        (1, H, W, `n_features`) features to (1, H, W, 2): real and imaginary part of the object minus the mean
        transmittance.
    """
    n_estimates = len(estimator.kept)
    inputs = keras.Input((None, None, estimator.n_features), name="features")
    output = unet_output(inputs, filters, 2 + n_estimates + 1)
    return keras.Model(inputs, Blend(n_estimates, name="blend")(inputs, output), name="network")


@dataclass(frozen=True)
class CanvasModel:
    """Trained network of PINN or Baseline, and the estimate that it sees."""

    network: keras.Model
    """Features to an object, see `build_network`."""
    estimator: Estimator
    """What the network sees."""
    probe: NDArray[np.complex64] | None = None
    """(modes, N, N) illumination that was trained with the network [sqrt(photon)]; None: that of the scan is known."""

    @property
    def chosen(self) -> dict[str, float]:
        """Nothing is chosen in training."""
        return {}

    def refined(self, probe: NDArray[np.complexfloating]) -> Refined | None:
        """Return the trained probe with the photons of a scan's, see `ptycho.model.inference.Model`."""
        return None if self.probe is None else Refined(probe=scale_to(self.probe, photons_of(probe)))

    def reconstruct(self, counts: Counts, probe: NDArray[np.complexfloating]) -> Reconstruction:
        """Reconstruct exposures on one canvas, see `ptycho.model.inference.Model`.

        Raises
        ------
        ValueError
            If the network was trained on patterns of another size.
        """
        if probe.shape[-1] != self.estimator.n_pixels:
            raise ValueError(
                f"patterns of {probe.shape[-1]} px; the network was trained on {self.estimator.n_pixels} px"
            )
        refined = self.refined(probe)
        used = probe if refined is None or refined.probe is None else refined.probe
        clock, likelihood = CpuClock(), Likelihood(counts, used)
        flat = np.full(likelihood.shape, self.estimator.transmittance, np.complex64)
        obj = correct(self.network, flat, self.estimator.features(likelihood))
        return Reconstruction(
            object=obj,
            illumination=likelihood.illumination(),
            origin_px=likelihood.origin_px,
            refined=refined,
            cpu_s=clock.seconds,
        )
