"""Smooth deformations of object and positions together, which the likelihood hardly sees and L-BFGS finds slowly.

If exposures of one region move together and the object there moves with them, only what overlaps with the next region
tells. A deformation of few cosines gathers what thousands of variables would have to do at once, as
`ptycho.reconstruction.optimize.minimize_slow_phase` does for the phase.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.displacement import displaced
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.optimize import minimize_vector, total_variation
from ptycho.reconstruction.parameters import Parameters
from ptycho.reconstruction.prior import ShiftPrior

WAVES = 5
"""Cosines along the shorter side of the scan; along the longer one there are more, of the same wavelength."""
FIRST_STEP_PX = 0.02
"""RMS of the first trial step of a coefficient."""


class Deformation:
    """Displacements of a canvas and of the positions on it, made of products of cosines.

    Parameters
    ----------
    positions : (2, M) float64
        Rows and columns of the patch centers [px].
    shape : (int, int)
        Rows and columns of the canvas.
    origin_px : (int, int)
        Row and column of its first pixel.
    """

    def __init__(self, positions: NDArray[np.float64], shape: tuple[int, int], origin_px: tuple[int, int]):
        extent = np.maximum(np.ptp(positions, axis=1), 1.0)
        self.counts = np.maximum(np.rint(WAVES * extent / extent.min()), 1).astype(int)
        rows, columns = np.indices(self.counts)
        self.chosen = np.nonzero(rows / self.counts[0] + columns / self.counts[1] < 1)
        first = positions.min(1)
        grid = [np.arange(size) + start for size, start in zip(shape, origin_px, strict=True)]
        self.on_canvas = [self._cosines(axis, first, extent, i) for i, axis in enumerate(grid)]
        at_positions = [self._cosines(axis, first, extent, i) for i, axis in enumerate(positions)]
        self.at_positions = at_positions[0][self.chosen[0]] * at_positions[1][self.chosen[1]]
        self.size = len(self.at_positions)

    def _cosines(self, axis: NDArray, first: NDArray, extent: NDArray, i: int) -> NDArray[np.float64]:
        """Return the (count, n) cosines at coordinates along axis i; outside the scan they are those of its edge."""
        inside = np.clip((axis - first[i]) / extent[i], 0, 1)
        return np.cos(np.pi * np.arange(self.counts[i])[:, None] * inside)

    def on_grid(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (2, H, W) displacements of (2, size) coefficients [px]."""
        full = np.zeros((2, *self.counts))
        full[:, self.chosen[0], self.chosen[1]] = coefficients
        return np.einsum("apq,ph,qw->ahw", full, *self.on_canvas, optimize=True)

    def adjoint(self, displacements: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the (2, size) products of the cosines with (2, H, W) fields: the adjoint of `on_grid`."""
        return np.einsum("ahw,ph,qw->apq", displacements, *self.on_canvas, optimize=True)[
            :, self.chosen[0], self.chosen[1]
        ]


def minimize_deformation(
    likelihood: JointLikelihood, start: Parameters, tv_weight: float, prior: ShiftPrior, iterations: int
) -> Parameters:
    """Minimize likelihood, total variation and the prior of the shifts over smooth deformations alone.

    Parameters
    ----------
    likelihood : JointLikelihood
        Likelihood of the counts, with windows at the shifts.
    start : Parameters
        Object and shifts to deform.
    tv_weight : float
        Weight of the total variation.
    prior : ShiftPrior
        Prior of the shifts.
    iterations : int
        Largest number of L-BFGS iterations.

    Returns
    -------
    deformed : Parameters
        Object and shifts.
    """
    device = likelihood.device
    positions = np.stack([likelihood.counts.ycoords, likelihood.counts.xcoords])
    deformation = Deformation(positions, likelihood.shape, likelihood.origin_px)
    flat = device.to_host(start.object)

    def deformed(z: NDArray[np.float64]) -> Parameters:
        coefficients = z.reshape(2, -1)
        obj = displaced(flat, deformation.on_grid(coefficients))
        return replace(
            start, object=device.to_device(obj), shifts=start.shifts + coefficients @ deformation.at_positions
        )

    def evaluate(z: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        trial = deformed(z)
        value, gradients = likelihood.evaluate(trial, ("object", "shifts"))
        variation, variation_gradient = total_variation(trial.object, device)
        chance, chance_gradient = prior(trial.shifts)
        gradient = device.to_host(gradients.object + np.float32(tv_weight) * variation_gradient)
        slopes = np.stack(np.gradient(device.to_host(trial.object)))
        over_field = -(gradient.conj() * slopes).real
        over_shifts = (gradients.shifts + chance_gradient) @ deformation.at_positions.T
        return value + tv_weight * variation + chance, (deformation.adjoint(over_field) + over_shifts).ravel()

    z, _ = minimize_vector(evaluate, 2 * deformation.size, FIRST_STEP_PX, iterations)
    return deformed(z)
