"""What a joint minimization moves: changes of object, positions, probe, flux and background as one vector.

Every variable is scaled so that the curvature of the likelihood along it is about that along a detail of the object:
L-BFGS does not know scales. The photons of the probe stay what they are, and so does the mean flux: a factor of either
cannot be told from one of the object.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ptycho.reconstruction.devices import Device
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.optimize import Preconditioner
from ptycho.reconstruction.parameters import Gradients, Parameters
from ptycho.reconstruction.passes import Array
from ptycho.reconstruction.probe_variables import ProbeVariables

UNKNOWNS = ("probe", "positions", "flux", "background")
"""What can be refined beside the object."""
SHIFT_DAMPING = 0.05
"""Added to the information on an exposure's position, in units of the mean: what is weakly known moves little."""
FIRST_BACKGROUND = 0.02
"""Constant background that a refinement starts from, in units of the mean count per pixel: at zero it would stay."""

Adjoint = Callable[[Gradients], Array]
"""Takes the gradients over the parameters, returns that over a part's variables, (size,) float64."""


class _Part(Protocol):
    """Some of the variables."""

    size: int

    def __call__(self, z: Array, parameters: Parameters) -> tuple[Parameters, Adjoint]:
        """Return the parameters with those of this part at (size,) variables, and the way of gradients back to them."""
        ...


class _Object:
    """Changes of the object, preconditioned."""

    def __init__(self, start: Parameters, likelihood: JointLikelihood, illumination: Array):
        self.start, self.preconditioner = start.object, Preconditioner(illumination, likelihood.device)
        self.size = 2 * start.object.size

    def __call__(self, z: Array, parameters: Parameters) -> tuple[Parameters, Adjoint]:
        obj = (self.start + self.preconditioner.step(z)).astype(np.complex64)
        return replace(parameters, object=obj), lambda gradients: self.preconditioner.adjoint(gradients.object)


class _Positions:
    """Shifts of all exposures, each in the axes and units in which its likelihood is round."""

    def __init__(self, start: Parameters, likelihood: JointLikelihood, curvature: float):
        self.start, self.device = start.shifts, likelihood.device
        information = likelihood.shift_information(start)
        self.root = np.sqrt(curvature) * inverse_root(information)
        self.size = 2 * len(information)

    def __call__(self, z: Array, parameters: Parameters) -> tuple[Parameters, Adjoint]:
        moved = np.einsum("mij,mj->im", self.root, self.device.to_host(z).reshape(-1, 2))

        def adjoint(gradients: Gradients) -> Array:
            return self.device.to_device(np.einsum("mij,im->mj", self.root, gradients.shifts).ravel())

        return replace(parameters, shifts=self.start + moved), adjoint


def inverse_root(information: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return C with C Cᵀ the inverse of each damped (M, 2, 2) matrix, (M, 2, 2); see `SHIFT_DAMPING`."""
    mean = np.trace(information, axis1=1, axis2=2).mean() / 2
    damped = information + SHIFT_DAMPING * mean * np.eye(2)
    return np.linalg.inv(np.linalg.cholesky(damped)).transpose(0, 2, 1)


class _Probe:
    """Changes of the probe, see `ProbeVariables`."""

    def __init__(self, start: Parameters, likelihood: JointLikelihood, curvature: float, variance: float):
        square = float((likelihood.device.xp.abs(start.object) ** 2).mean())
        unit = np.sqrt(curvature / (2 * len(likelihood.counts) * square))
        stiffness = unit**2 / (curvature * variance)  # of the prior, in units of the likelihood's
        self.variables = ProbeVariables(start.probe, unit, likelihood.device, stiffness)
        self.size = self.variables.size

    def __call__(self, z: Array, parameters: Parameters) -> tuple[Parameters, Adjoint]:
        probe, adjoint = self.variables(z)
        return replace(parameters, probe=probe), lambda gradients: adjoint(gradients.probe)


class _Flux:
    """Logarithms of the exposures' flux; their mean stays."""

    def __init__(self, start: Parameters, likelihood: JointLikelihood, curvature: float):
        self.start, self.size, self.device = start.flux, len(likelihood.counts), likelihood.device
        mean_count = likelihood.noise_level() ** 2 * likelihood.n_values / self.size
        self.unit = np.sqrt(curvature / mean_count)

    def __call__(self, z: Array, parameters: Parameters) -> tuple[Parameters, Adjoint]:
        logarithm = self.unit * self.device.to_host(z)
        flux = self.start * np.exp(logarithm - logarithm.mean())

        def adjoint(gradients: Gradients) -> Array:
            gradient = self.unit * flux * gradients.flux
            return self.device.to_device(gradient - gradient.mean())

        return replace(parameters, flux=flux), adjoint


class _Background:
    """Root of a constant background, which so stays positive."""

    def __init__(self, start: Parameters, likelihood: JointLikelihood, curvature: float):
        background = float(np.mean(start.background))
        self.root = np.sqrt(background if background > 0 else FIRST_BACKGROUND * likelihood.noise_level() ** 2)
        self.size, self.unit, self.device = 1, np.sqrt(curvature / (4 * likelihood.n_values)), likelihood.device

    def __call__(self, z: Array, parameters: Parameters) -> tuple[Parameters, Adjoint]:
        root = self.root + self.unit * float(z[0])

        def adjoint(gradients: Gradients) -> Array:
            return self.device.to_device(np.array([2 * root * self.unit * gradients.background]))

        return replace(parameters, background=float(root**2)), adjoint


class JointPreconditioner:
    """Map from the vector of a minimization to parameters, scaled to one curvature, and of gradients back to it.

    Parameters
    ----------
    likelihood : JointLikelihood
        Likelihood of the counts; its windows are at the start.
    start : Parameters
        Where all variables are 0.
    unknown : collection of str
        What moves beside the object, of `UNKNOWNS`.
    probe_variance : float
        Of the prior of the probe's pixels, see `ptycho.reconstruction.prior.ProbePrior`; infinite: there is none.
    """

    def __init__(
        self, likelihood: JointLikelihood, start: Parameters, unknown: Collection[str], probe_variance: float = np.inf
    ):
        illumination = likelihood.illumination(start)
        curvature = 2 * float(illumination.max())
        makers: dict[str, Callable[[Parameters, JointLikelihood, float], _Part]] = {
            "positions": _Positions,
            "probe": partial(_Probe, variance=probe_variance),
            "flux": _Flux,
            "background": _Background,
        }
        others = [make(start, likelihood, curvature) for name, make in makers.items() if name in unknown]
        self.start = start
        self.parts: list[_Part] = [_Object(start, likelihood, illumination), *others]
        self.bounds = np.cumsum([0, *(part.size for part in self.parts)])
        self.size = int(self.bounds[-1])

    def parameters(self, z: Array, device: Device) -> tuple[Parameters, Adjoint]:
        """Return the parameters at (size,) float64 variables, and what takes their gradients to the variables."""
        changed, adjoints = self.start, []
        for part, first, last in zip(self.parts, self.bounds[:-1], self.bounds[1:], strict=True):
            changed, adjoint = part(z[first:last], changed)
            adjoints.append(adjoint)
        return changed, lambda gradients: device.xp.concatenate([adjoint(gradients) for adjoint in adjoints])
