"""Photon limit: the error that shot noise leaves in the best unbiased estimate of an object (Cramér-Rao bound).

No unbiased estimate of an object has a covariance below F⁻¹, the inverse of its Fisher information at the truth
(`ptycho.scoring.fisher_information`). F⁻¹ itself fits no memory, so errors with this covariance are drawn:
w = Σ Jᵀ I^(-1/2) ξ with ξ standard normal has the covariance F, and F⁻¹ w, by conjugate gradients, the covariance F⁻¹.
F is proportional to the dose, so that one draw serves all doses.

X. Wei, H. P. Urbach and W. M. J. Coene, Phys. Rev. A 102, 043516 (2020), invert the matrix of a small object.
"""

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.data.contract import check_finite
from ptycho.data.scan import Scan
from ptycho.data.views import FIT, VALIDATION, View
from ptycho.physics.forward import window_start
from ptycho.scoring.fisher_information import FisherInformation, real_product
from ptycho.scoring.metric_tables import PHOTON_LIMIT
from ptycho.scoring.metrics import METRICS
from ptycho.scoring.region import Region
from ptycho.workflow.files import ContractError

BOUND_METRICS = ("error", "frc50_amplitude", "frc50_phase")
"""Metrics that the drawn errors are scored by."""

MAX_SIDE_PX = 256
"""Largest side of the rectangle in which errors are drawn; of a larger region, the middle."""

TOLERANCE = 1.0e-3
"""Residual, relative to that of 0 and weighted by the preconditioner, at which conjugate gradients end."""

MAX_ITERATIONS = 1000
"""Conjugate-gradient steps at most. Fewer give smaller errors: what is drawn stays a lower bound."""

DAMPING = 1.0e-2
"""Fraction of the median illumination that is added to it in the preconditioner."""

_logger = logging.getLogger(__name__)


def solve(
    information: FisherInformation,
    target: NDArray[np.complexfloating],
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> NDArray[np.complex128]:
    """Solve F x = target by conjugate gradients with the inverse illumination as preconditioner.

    Parameters
    ----------
    information : FisherInformation
        F.
    target : (H, W) complex
        A vector in the range of F, such as `FisherInformation.draw` returns.
    tolerance : float
        Relative residual at which to end.
    max_iterations : int
        Number of steps at which to end; a warning is logged.

    Returns
    -------
    (H, W) complex128
        x. F x does not depend on what nothing is known of, such as the global phase: of all solutions this is the one
        with the smallest norm, weighted by the illumination.

    Notes
    -----
    The norm of the iterates, weighted by the preconditioner, grows with every step: Steihaug, SIAM J. Numer. Anal. 20,
    626 (1983).
    """
    flux = information.illumination
    weight = 1 / (flux + DAMPING * np.median(flux[flux > 1.0e-3 * flux.max()]))
    solution, residual = np.zeros(information.shape, np.complex128), np.array(target, np.complex128)
    direction = weighted = weight * residual
    power = first = _inner(residual, weighted)
    for _ in range(max_iterations):
        if power <= tolerance**2 * first:
            return solution
        product = information(direction)
        step = power / _inner(direction, product)
        solution += step * direction
        residual -= step * product
        weighted = weight * residual
        previous, power = power, _inner(residual, weighted)
        direction = weighted + power / previous * direction
    _logger.warning(
        "photon limit: residual %.1e after %d iterations, wanted %.0e: the bound is too low",
        np.sqrt(power / first),
        max_iterations,
        tolerance,
    )
    return solution


def draw_errors(
    scan: Scan,
    view: View,
    region: Region,
    rngs: Iterable[np.random.Generator],
    tolerance: float = TOLERANCE,
) -> tuple[list[NDArray[np.complex128]], Region]:
    """Draw errors of an unbiased estimate whose covariance is the inverse Fisher information at the truth.

    Parameters
    ----------
    scan, view : Scan, View
        Simulated scan, and its exposures: those that methods may use (fit and validation) count.
    region : Region
        Scored rectangle.
    rngs : iterable of Generator
        One for each draw.
    tolerance : float
        Relative residual at which conjugate gradients end.

    Returns
    -------
    errors : list of (h, w) complex128
        Errors at the dose of the scan. The global phase, of which nothing is known, is removed from each: the component
        along i · truth.
    tile : Region
        Where they are: the region, or its middle with sides of at most `MAX_SIDE_PX`. Exposures whose windows are more
        than a window away from it are left out.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If no exposure is near, or the truth is not finite there.
    """
    tile, n = _middle(region), scan.n_pixels
    exposures = view.of_role(FIT, VALIDATION)
    top, left = (window_start(axis[exposures], n) for axis in (scan.ycoords, scan.xcoords))
    near = (top > tile.y0 - 2 * n) & (top < tile.y1 + n) & (left > tile.x0 - 2 * n) & (left < tile.x1 + n)
    if not near.any():
        raise ContractError(f"{scan.path}: no exposure of the view is near the scored {tile}; wanted one at least")
    exposures, top, left = exposures[near], top[near], left[near]
    canvas = Region(int(top.min()), int(top.max()) + n, int(left.min()), int(left.max()) + n)
    positions = scan.xcoords[exposures], scan.ycoords[exposures]
    check_finite(scan.path, "objectGuess", scan.object[canvas.box])
    information = FisherInformation(scan.object[canvas.box], scan.probe, positions, canvas.origin_px)
    truth = np.asarray(scan.object[tile.box], np.complex128)
    errors = []
    for rng in rngs:
        error = solve(information, information.draw(rng), tolerance)[tile.inside(canvas)]
        errors.append(error - 1j * truth * _inner(1j * truth, error) / _inner(truth, truth))
    return errors, tile


def bound_table(
    errors: Sequence[NDArray[np.complexfloating]],
    truth: NDArray[np.complexfloating],
    error_dose: float,
    doses: Iterable[float],
) -> pd.DataFrame:
    """Score truth + error at several doses: the error falls with the square root of the dose.

    Parameters
    ----------
    errors : sequence of (h, w) complex
        As `draw_errors` returns them.
    truth : (h, w) complex
        The truth on the same pixels.
    error_dose : float
        Dose of the errors [photon/exposure].
    doses : iterable of float
        Doses to score [photon/exposure].

    Returns
    -------
    DataFrame
        Columns dose, method (`PHOTON_LIMIT`), seed (number of the draw), metric (`BOUND_METRICS`), value.
    """
    return pd.DataFrame(
        {"dose": dose, "method": PHOTON_LIMIT, "seed": number, "metric": metric}
        | {"value": METRICS[metric](truth + error * np.sqrt(error_dose / dose), truth)}
        for dose in doses
        for number, error in enumerate(errors)
        for metric in BOUND_METRICS
    )


def _middle(region: Region) -> Region:
    """Cut the middle of a region, at most `MAX_SIDE_PX` along either axis."""
    height, width = (min(side, MAX_SIDE_PX) for side in region.shape)
    y0, x0 = region.y0 + (region.shape[0] - height) // 2, region.x0 + (region.shape[1] - width) // 2
    return Region(y0, y0 + height, x0, x0 + width)


def _inner(first: NDArray[np.complexfloating], second: NDArray[np.complexfloating]) -> float:
    """Inner product of real and imaginary parts."""
    return float(np.sum(real_product(first, second)))
