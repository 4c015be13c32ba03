"""A smooth background of the detector from a few numbers: a linear map and its adjoint.

The numbers are coefficients of Bernstein polynomials over rows and columns (Farouki, Comput. Aided Geom. Des. 29, 379,
2012). These are nonnegative and add up to 1: equal coefficients are a constant background, and nonnegative ones a
nonnegative background. So a minimization keeps the background nonnegative by projection, with 0 as the lower bound of
each coefficient. (The reverse does not hold: a background that nearly vanishes in the middle of its slope may need a
negative coefficient.)
"""

import numpy as np
from scipy.special import comb

from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.passes import Array


class SmoothBackground:
    """Linear map from coefficients to a background; its adjoint maps gradients back.

    Parameters
    ----------
    n_pixels : int
        N, side of the detector [px].
    order : int
        K, coefficients along rows and along columns; 1: a constant, 2: bilinear, …
    device : Device
        Where it is computed.
    """

    def __init__(self, n_pixels: int, order: int, device: Device = CPU):
        place, powers = (np.arange(n_pixels)[:, None] + 0.5) / n_pixels, np.arange(order)
        basis = comb(order - 1, powers) * place**powers * (1 - place) ** (order - 1 - powers)
        self.shape = order, order
        self._basis = device.to_device(basis)

    def __call__(self, coefficients: Array) -> Array:
        """Return the background (N, N) float64 [photon/px] of (K, K) float64 coefficients [photon/px]."""
        return self._basis @ coefficients @ self._basis.T

    def adjoint(self, gradient: Array) -> Array:
        """Map a gradient over the background, (N, N) float64, to that over the coefficients, (K, K) float64."""
        return self._basis.T @ gradient @ self._basis
