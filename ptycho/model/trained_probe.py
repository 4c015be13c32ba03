"""The probe as a variable of a PINN's training: it starts from what is known, and its photons stay.

The loss is a function of the probe through the patterns that it predicts. The estimate that the network sees is
computed with the probe of the moment, but the gradient is not taken through its iterations. Estimate and network follow
the minimum of the likelihood over the object, where a small change of the object does not change the likelihood: there,
the partial gradient is the whole one (variable projection: Golub and Pereyra, SIAM J. Numer. Anal. 10, 413, 1973).
"""

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.forward import as_modes
from ptycho.reconstruction.probe_variables import ProbeVariables

ABERRATION_STEP, PIXEL_STEP = 0.1, 0.02
"""First step of aberrations and of pixels, in units of Newton's with a known object; they fall as Adam's rate does."""
MOMENTUM = 0.9
"""Fraction of the last change that a step repeats."""


class TrainedProbe:
    """A probe that follows the gradients of a loss.

    Steps are divided by the curvature of the Poisson deviance at its minimum, which is the same for all variables, so
    that pixels of which nothing is known do not move more than the others, as they do with Adam.

    Parameters
    ----------
    known : (modes, N, N) complex
        Probe to start from [sqrt(photon)].
    fraction : float
        Fraction of its photons in what is predicted: that of the probe in the gradients.
    transmittance : float
        Mean amplitude transmittance of the object.
    n_valid : int
        Valid pixels of a pattern.
    """

    def __init__(self, known: NDArray[np.complexfloating], *, fraction: float, transmittance: float, n_valid: int):
        self._variables, self._root = ProbeVariables(as_modes(known).astype(np.complex64)), np.sqrt(fraction)
        # with a known object, half the deviance of an exposure has the curvature 2 |O|² along each pixel
        scale = np.full(self._variables.size, PIXEL_STEP)
        scale[: self._variables.aberrations.size] = ABERRATION_STEP
        self._scale = scale * n_valid / (4 * fraction * transmittance**2)
        self._z = np.zeros(self._variables.size)
        self._velocity = np.zeros_like(self._z)
        self.value, self._adjoint = self._variables(self._z)

    def step(self, gradient: NDArray[np.complexfloating], rate: float) -> None:
        """Move down a gradient.

        Parameters
        ----------
        gradient : (modes, N, N) complex
            dL/dRe P + i dL/dIm P of the mean deviance per valid pixel, where P carries `fraction` of the photons.
        rate : float
            Length of the step, relative to the first one.
        """
        self._velocity = MOMENTUM * self._velocity - rate * self._scale * self._adjoint(self._root * gradient)
        self._move(self._z + self._velocity)

    def state(self) -> list[NDArray[np.float64]]:
        """Return all that a training resumes from."""
        return [self._z, self._velocity]

    def restore(self, state: list[NDArray[np.float64]]) -> None:
        """Take up a state."""
        self._velocity = state[1]
        self._move(state[0])

    def _move(self, z: NDArray[np.float64]) -> None:
        self._z = z
        self.value, self._adjoint = self._variables(z)
