"""What predicts the counts of a scan, and the gradient of a number in each of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ptycho.reconstruction.passes import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameters:
    """Object, probe, positions, flux and background: mean counts are scale · flux · Σ|F(P O)|² + backgrounds.

    Object, probe and background are arrays of one device, shifts and flux of the host. With complex64 for object and
    probe, all is computed in single precision, and values and small gradients are summed up in double precision; with
    complex128 for both, the CPU computes all in double precision, to compare with finite differences. Arrays are
    replaced, never changed in place: a likelihood keeps what it has computed of them.
    """

    object: Array
    """(H, W) complex64 transmittance, on a likelihood's canvas."""
    probe: Array
    """(modes, N, N) complex64 illumination at flux 1, sample-centered [sqrt(photon)]."""
    shifts: NDArray[np.float64]
    """(2, M) float64 rows and columns: what is added to the recorded positions [px]."""
    flux: NDArray[np.float64]
    """(M,) float64 factor of each exposure's incident photons, beside the detector's exposure scale."""
    background: Array | float = 0.0
    """Mean counts of every exposure beside the detector's background [photon/px]: (N, N) float32, zero frequency at
    [N/2, N/2], or a number. Negative ones must leave the mean counts positive."""

    def transferred(self, transfer: Callable[[Array], Array]) -> Self:
        """Return the same with object, probe and background transferred by a device's `to_device` or `to_host`."""
        background = self.background if isinstance(self.background, int | float) else transfer(self.background)
        return replace(self, object=transfer(self.object), probe=transfer(self.probe), background=background)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """Gradient of a real number E in each of the `Parameters`, on device or host as these; None if it is not wanted."""

    object: Array = None
    """(H, W) complex64, dE/dRe O + i dE/dIm O."""
    probe: Array = None
    """(modes, N, N) complex64, dE/dRe P + i dE/dIm P [1/sqrt(photon)]."""
    shifts: Array = None
    """(2, M) float64 [1/px]."""
    flux: Array = None
    """(M,) float64."""
    background: Array = None
    """(N, N) float64, zero frequency at [N/2, N/2], or a number, as the background is [px/photon]."""


NAMES = tuple(field.name for field in fields(Parameters))
"""Names of the parameters."""


def check_names(wanted: Collection[str]) -> None:
    """Refuse names that no parameter has.

    Raises
    ------
    ValueError
        If there is one.
    """
    if unknown := sorted(set(wanted) - set(NAMES)):
        raise ValueError(f"gradients of {', '.join(unknown)}; wanted some of {', '.join(NAMES)}")
