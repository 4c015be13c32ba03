"""Input features of the U-Nets: transmittances, preconditioned gradient, illumination."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.passes import Array

MAX_FEATURE = 3.0
"""Features are clipped to ± this: a few dim pixels would otherwise dominate."""
DAMPING = 0.05
"""Added to the illumination that divides the gradient, as a fraction of its median."""


def preconditioned_gradient(likelihood: Likelihood, obj: Array) -> Array:
    """Return the likelihood's gradient divided by its diagonal curvature: a step in units of transmittance.

    Parameters
    ----------
    likelihood : Likelihood
        Likelihood to differentiate.
    obj : (H, W) complex64
        Object on the likelihood's canvas.

    Returns
    -------
    (H, W) complex64
        Step in units of transmittance.
    """
    illumination = likelihood.illumination()
    damping = DAMPING * likelihood.device.xp.median(illumination[illumination > 1e-3 * illumination.max()])
    return likelihood(obj)[1] / (2 * (illumination + damping))


def stack_features(fields: Iterable[NDArray[Any]], illumination: NDArray[np.floating]) -> NDArray[np.float32]:
    """Stack real and imaginary parts of complex fields, and the logarithm of the illumination.

    Parameters
    ----------
    fields : iterable of (H, W) complex
        Images of order one: differences of transmittances, a preconditioned gradient.
    illumination : (H, W) float
        Incident photons [photon/px].

    Returns
    -------
    (H, W, 2 n + 1) float32
        Features of n fields, clipped to ± `MAX_FEATURE`.
    """
    stack = [part for field in fields for part in (field.real, field.imag)] + [np.log10(1 + illumination) / 4]
    return np.clip(np.stack(stack, axis=-1), -MAX_FEATURE, MAX_FEATURE).astype(np.float32)
