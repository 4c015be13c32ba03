"""Displacements: of positions against each other, without what cannot be known of them, and of what an object shows."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LEAST_SPREAD_PX = 0.03
"""Positions are never taken to be better known than this."""


def affine_residual(
    shifts: NDArray[np.float64], positions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Remove the affine map from shifts: translation, rotation, scale and shear of the whole scan.

    An object that is deformed with its positions gives almost the same patterns, if the probe changes little.

    Parameters
    ----------
    shifts, positions : (2, M) float64
        Rows and columns [px].

    Returns
    -------
    residual : (2, M) float64
        Shifts less the map [px].
    map : (2, 3) float64
        Of either axis: translation [px], and gradient along rows and columns, from the center of the positions on.
    """
    centered = positions - positions.mean(1, keepdims=True)
    columns = np.vstack([np.ones(positions.shape[1]), centered]).T
    coefficients, *_ = np.linalg.lstsq(columns, shifts.T, rcond=None)
    return shifts - (columns @ coefficients).T, coefficients.T


def spread_px(shifts: NDArray[np.float64], positions: NDArray[np.float64]) -> float:
    """Return the standard deviation of shifts along one axis, robustly and without their affine map [px].

    The median of the length of a normal vector in the plane is sqrt(2 log 2) = 1.18 standard deviations.
    """
    residual, _ = affine_residual(shifts, positions)
    return max(float(np.median(np.hypot(*residual))) / np.sqrt(2 * np.log(2)), LEAST_SPREAD_PX)


def rms_px(shifts: NDArray[np.float64]) -> float:
    """Return the root mean square length of (2, M) shifts [px]."""
    return float(np.sqrt((shifts**2).sum(0).mean()))


def displaced(obj: NDArray[np.complexfloating], field: NDArray[np.float64]) -> NDArray[np.complex64]:
    """Return an object whose content is displaced by a (2, H, W) field [px]; cubic splines."""
    points = np.indices(obj.shape) - field
    real, imaginary = (ndimage.map_coordinates(part, points, order=3, mode="nearest") for part in (obj.real, obj.imag))
    return (real + 1j * imaginary).astype(np.complex64)


def slopes(obj: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
    """Return the derivatives of an object's cubic splines along rows and columns, (2, H, W) [1/px]."""
    return np.stack([_slope(obj, axis) for axis in (0, 1)])


def _slope(obj: NDArray[np.complexfloating], axis: int) -> NDArray[np.complexfloating]:
    real, imaginary = (ndimage.spline_filter1d(part, 3, axis, mode="nearest") for part in (obj.real, obj.imag))
    return ndimage.correlate1d(real + 1j * imaginary, [-0.5, 0, 0.5], axis, mode="nearest")
