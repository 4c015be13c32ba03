"""Smooth deformations of object and positions together, which the likelihood hardly sees and L-BFGS finds slowly.

If exposures of one region move together and the object there moves with them, only what overlaps with the next region
tells. A deformation of few cosines gathers what thousands of variables would have to do at once, as
`ptycho.reconstruction.optimize.minimize_slow_phase` does for the phase. A magnification of the whole scan is hardly
seen where a probe of another defocus makes up for it: a free probe's aberrations move with the deformation.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.displacement import displaced, slopes
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.optimize import minimize_vector, total_variation
from ptycho.reconstruction.parameters import Parameters
from ptycho.reconstruction.prior import ShiftPrior
from ptycho.reconstruction.probe_variables import Aberrations, Adjoint

WAVES = 5
"""Cosines along the shorter side of the scan; along the longer one there are more, of the same wavelength."""
FIRST_STEP_PX = 0.02
"""RMS of the first trial step of a coefficient."""
ABERRATION_UNIT_RAD = 0.5
"""Phase of an aberration that changes patterns about as much as a displacement by a pixel [rad]."""


class Deformation:
    """Displacements of a canvas and of the positions on it: products of cosines, and an affine map.

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
        waves = np.nonzero(rows / self.counts[0] + columns / self.counts[1] < 1)
        slopes = [self.counts[0], 0], [0, self.counts[1]]
        self.chosen = tuple(np.concatenate([wave, slope]) for wave, slope in zip(waves, slopes, strict=True))
        first = positions.min(1)
        grid = [np.arange(size) + start for size, start in zip(shape, origin_px, strict=True)]
        self.on_canvas = [self._functions(axis, first, extent, i) for i, axis in enumerate(grid)]
        at_positions = [self._functions(axis, first, extent, i) for i, axis in enumerate(positions)]
        self.at_positions = at_positions[0][self.chosen[0]] * at_positions[1][self.chosen[1]]
        self.size = len(self.at_positions)

    def _functions(self, axis: NDArray, first: NDArray, extent: NDArray, i: int) -> NDArray[np.float64]:
        """Return cosines at coordinates along axis i, outside the scan those at its edge, then a slope, (n + 1, m)."""
        along = (axis - first[i]) / extent[i]
        cosines = np.cos(np.pi * np.arange(self.counts[i])[:, None] * np.clip(along, 0, 1))
        return np.vstack([cosines, 2 * along - 1])

    def on_grid(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (2, H, W) displacements of (2, size) coefficients [px]."""
        full = np.zeros((2, *(self.counts + 1)))
        full[:, self.chosen[0], self.chosen[1]] = coefficients
        return np.einsum("apq,ph,qw->ahw", full, *self.on_canvas, optimize=True)

    def adjoint(self, displacements: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the (2, size) products of the functions with (2, H, W) fields: the adjoint of `on_grid`."""
        return np.einsum("ahw,ph,qw->apq", displacements, *self.on_canvas, optimize=True)[
            :, self.chosen[0], self.chosen[1]
        ]


def minimize_deformation(
    likelihood: JointLikelihood,
    start: Parameters,
    tv_weight: float,
    prior: ShiftPrior,
    iterations: int,
    unknown: Collection[str],
) -> Parameters:
    """Minimize likelihood, total variation and the prior of the shifts over deformations and aberrations alone.

    Parameters
    ----------
    likelihood : JointLikelihood
        Likelihood of the counts, with windows at the shifts.
    start : Parameters
        Object, shifts and probe to change.
    tv_weight : float
        Weight of the total variation.
    prior : ShiftPrior
        Prior of the shifts.
    iterations : int
        Largest number of L-BFGS iterations.
    unknown : collection of str
        What moves: "positions" (smooth deformations of them and the object), "probe" (its aberrations), or both.

    Returns
    -------
    deformed : Parameters
        Object, shifts and probe.
    """
    device = likelihood.device
    positions = np.stack([likelihood.counts.ycoords, likelihood.counts.xcoords])
    deformation = Deformation(positions, likelihood.shape, likelihood.origin_px)
    optics = Aberrations(start.probe, ABERRATION_UNIT_RAD, device)
    flat = device.to_host(start.object)
    n_waves = 2 * deformation.size if "positions" in unknown else 0
    n_phases = optics.size if "probe" in unknown else 0
    wanted = [*(["object", "shifts"] if n_waves else []), *(["probe"] if n_phases else [])]

    def changed(z: NDArray[np.float64]) -> tuple[Parameters, Adjoint | None, NDArray[np.complex64]]:
        trial, adjoint, obj = start, None, flat
        if n_waves:
            coefficients = z[:n_waves].reshape(2, -1)
            obj = displaced(flat, deformation.on_grid(coefficients))
            shifts = start.shifts + coefficients @ deformation.at_positions
            trial = replace(trial, object=device.to_device(obj), shifts=shifts)
        if n_phases:
            spectrum, adjoint = optics(device.to_device(z[n_waves:]))
            trial = replace(trial, probe=device.fft.ifft2(spectrum))
        return trial, adjoint, obj

    def evaluate(z: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        trial, over_phases, obj = changed(z)
        value, gradients = likelihood.evaluate(trial, wanted)
        variation, variation_gradient = total_variation(trial.object, device)
        chance, chance_gradient = prior(trial.shifts)
        parts = []
        if n_waves:
            gradient = device.to_host(gradients.object + np.float32(tv_weight) * variation_gradient)
            over_field = -(gradient.conj() * slopes(obj)).real
            over_shifts = (gradients.shifts + chance_gradient) @ deformation.at_positions.T
            parts.append((deformation.adjoint(over_field) + over_shifts).ravel())
        if over_phases:
            parts.append(device.to_host(over_phases(gradients.probe)))
        return value + tv_weight * variation + chance, np.concatenate(parts)

    z, _ = minimize_vector(evaluate, n_waves + n_phases, FIRST_STEP_PX, iterations)
    return changed(z)[0]
