"""Orientations of a scan: how frames and positions may have to be turned, and which turns are the same scan."""

import itertools
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Turn: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""A symmetry of the square: rows of the matrix that acts on (x, y)."""


@dataclass(frozen=True)
class Orientation:
    """What `ptycho convert` would have to do to a scan: first the zero frequency, then frames, then positions."""

    transpose: bool = False
    """Exchange rows and columns of the frames; before the flips."""
    flip_x: bool = False
    """Reverse the columns of the frames."""
    flip_y: bool = False
    """Reverse the rows of the frames."""
    swap: bool = False
    """Exchange x and y of the positions; before the signs."""
    negate_x: bool = False
    """Change the sign of x."""
    negate_y: bool = False
    """Change the sign of y."""
    corner: bool = False
    """Move the zero frequency from [0, 0] to [N/2, N/2]."""

    def frames(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Turn (..., N, N) frames, or a mask."""
        if self.corner:
            frames = np.fft.fftshift(frames, axes=(-2, -1))
        if self.transpose:
            frames = np.swapaxes(frames, -2, -1)
        return frames[..., :: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def positions(
        self, xcoords: NDArray[np.float64], ycoords: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn (M,) columns and rows [px]."""
        x, y = (ycoords, xcoords) if self.swap else (xcoords, ycoords)
        return (-x if self.negate_x else x), (-y if self.negate_y else y)

    @property
    def turn(self) -> Turn:
        """How frames are turned relative to positions: orientations with the same turn are one scan for a free probe.

        Turning frames, positions and probe together turns the object, and nothing else.
        """
        frames = _matrix(self.transpose, self.flip_x, self.flip_y)
        positions = _matrix(self.swap, self.negate_x, self.negate_y)
        (a, b), (c, d) = (frames.T @ positions).tolist()
        return (a, b), (c, d)

    @property
    def options(self) -> str:
        """Options of `ptycho convert`; "(as it is)" if nothing is to be done."""
        both = self.negate_x and self.negate_y
        named = {
            "--zero-frequency corner": self.corner,
            "--transpose": self.transpose,
            "--flip-x": self.flip_x,
            "--flip-y": self.flip_y,
            "--swap-positions": self.swap,
            "--negate-positions": both,
            "--negate-x": self.negate_x and not both,
            "--negate-y": self.negate_y and not both,
        }
        return " ".join(option for option, needed in named.items() if needed) or "(as it is)"

    @property
    def n_steps(self) -> int:
        """Number of things that are to be done."""
        return sum((self.transpose, self.flip_x, self.flip_y, self.swap, self.negate_x, self.negate_y, self.corner))


AS_IS = Orientation()
"""The orientation that the scan is in."""


def fewest_steps(orientation: Orientation) -> tuple[int, int]:
    """Key that sorts what a user would try first: few steps, rather of the frames than of the positions."""
    return orientation.n_steps, orientation.swap + orientation.negate_x + orientation.negate_y


def _matrix(swap: bool, negate_x: bool, negate_y: bool) -> NDArray[np.int64]:
    swapped = np.array([[0, 1], [1, 0]] if swap else [[1, 0], [0, 1]])
    return np.diag([-1 if negate_x else 1, -1 if negate_y else 1]) @ swapped


def all_orientations(corner: bool = False) -> list[Orientation]:
    """List the 64 orientations of frames and positions, in the order of `fewest_steps`."""
    turned = [replace(Orientation(*flags), corner=corner) for flags in itertools.product((False, True), repeat=6)]
    return sorted(turned, key=fewest_steps)
