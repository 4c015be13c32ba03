"""From a file's frames to those of the contract: photons, orientation, the square around the zero frequency."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Quantity


@dataclass(frozen=True, kw_only=True)
class Photons:
    """From the values of frames to photons."""

    quantity: Quantity
    per_unit: float | None = None
    """Photons per unit; None: the values are photons, and whole."""
    added: NDArray[np.floating] | float = 0.0
    """(H, W) or one number: background that was subtracted [units of the file]."""

    def exact_for(self, dtype: np.dtype[Any]) -> bool:
        """Whether values of a type are whole photons as they are."""
        return self.quantity == "counts" and self.per_unit is None and dtype.kind in "bui" and not np.any(self.added)

    def of(self, frames: NDArray[Any]) -> NDArray[np.float64]:
        """Return (…, H, W) photons, rounded to whole ones."""
        return np.rint(self.unrounded(frames))

    def unrounded(self, frames: NDArray[Any]) -> NDArray[np.float64]:
        """Return (…, H, W) photons before they are rounded."""
        values = frames.astype(np.float64)
        if self.quantity == "amplitude":
            np.square(values, out=values)
        if np.any(self.added):
            values += self.added
        return values if self.per_unit is None else values * self.per_unit


@dataclass(frozen=True, kw_only=True)
class FrameTransform:
    """What happens to the pixels of every frame, and of the detector's mask and background, in this order.

    Rows and columns are exchanged; columns and rows reversed; the zero frequency moved from the corner to the center; a
    square cropped around it; pixels binned; frames padded.
    """

    shape: tuple[int, int]
    """(H, W) in the file."""
    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    corner: bool = False
    """The zero frequency is at [0, 0] in the file."""
    crop: int | None = None
    center: tuple[int, int] | None = None
    bin: int = 1
    pad: int | None = None

    def __post_init__(self) -> None:
        if self.bin < 1:
            raise ValueError(f"--bin {self.bin}: wanted 1 or more pixels")
        side = self._check_crop()
        if side % self.bin:
            n = side - side % self.bin
            raise ValueError(f"--bin {self.bin}: {side} px are no multiple of {self.bin}; --crop {n} first")
        side //= self.bin
        if self.pad is not None and (self.pad < side or self.pad % 2):
            raise ValueError(f"--pad {self.pad}: wanted an even number of pixels, at least {side + side % 2}")
        if self.n_pixels % 2 or self.n_pixels < 4:
            raise ValueError(
                f"frames of {side} × {side} px; wanted an even N, so that the zero frequency is at [N/2, N/2]: "
                f"--crop {(side - 1) * self.bin} or --pad {side + 1}"
            )

    def _check_crop(self) -> int:
        """Return the side that is left by the crop."""
        height, width = self.oriented_shape
        if self.crop is None:
            if self.center is not None:
                raise ValueError("--center says where to crop; wanted --crop, too")
            if height != width:
                n = min(height, width) // 2 * 2
                raise ValueError(f"frames of {height} × {width} px; wanted N × N: --crop {n}, or fewer, and --center")
            return height
        row, column = self._center
        if not (0 < row < height and 0 < column < width):
            raise ValueError(
                f"--center {row},{column}: wanted a row from 1 to {height - 1} and a column from 1 to {width - 1}, of "
                f"frames of {height} × {width} px"
            )
        largest = 2 * min(row, column, height - row, width - column)
        if not 0 < self.crop <= largest or self.crop % 2:
            raise ValueError(
                f"--crop {self.crop}: wanted an even number of pixels up to {largest}, around row {row} and column "
                f"{column} of frames of {height} × {width} px"
            )
        return self.crop

    @property
    def oriented_shape(self) -> tuple[int, int]:
        """(H, W) after the transposition."""
        return (self.shape[1], self.shape[0]) if self.transpose else self.shape

    @property
    def _center(self) -> tuple[int, int]:
        height, width = self.oriented_shape
        return self.center or (height // 2, width // 2)

    @property
    def n_pixels(self) -> int:
        """N, side of the frames in the end."""
        side = self.oriented_shape[0] if self.crop is None else self.crop
        return self.pad or side // self.bin

    @property
    def n_detector(self) -> int:
        """Side of the frames in the end, in pixels of the file."""
        return self.n_pixels * self.bin

    def orient(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Transpose and flip (…, H, W) frames, and center their zero frequency."""
        if self.transpose:
            frames = np.swapaxes(frames, -1, -2)
        if self.flip_x:
            frames = frames[..., ::-1]
        if self.flip_y:
            frames = frames[..., ::-1, :]
        return np.fft.fftshift(frames, axes=(-2, -1)) if self.corner else frames

    def counts(self, frames: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return (…, N, N) counts of (…, H, W): those of binned pixels are added, padded pixels are 0."""
        return self._pad(self._blocks(frames).sum(axis=(-3, -1)), 0)

    def bad_pixels(self, bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the (N, N) mask of (H, W): binned pixels are bad if one of them is, padded pixels are bad."""
        return self._pad(np.any(self._blocks(bad), axis=(-3, -1)), True)

    def _blocks(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Return the cropped frames as (…, n, bin, n, bin)."""
        frames = self.orient(frames)
        if self.crop is not None:
            row, column = (center - self.crop // 2 for center in self._center)
            frames = frames[..., row : row + self.crop, column : column + self.crop]
        n = frames.shape[-1] // self.bin
        return frames.reshape(*frames.shape[:-2], n, self.bin, n, self.bin)

    def _pad(self, frames: NDArray[Any], value: Any) -> NDArray[Any]:
        if self.pad is None or self.pad == frames.shape[-1]:
            return frames
        n = frames.shape[-1]
        before = self.pad // 2 - n // 2
        widths = [(0, 0)] * (frames.ndim - 2) + [(before, self.pad - n - before)] * 2
        return np.pad(frames, widths, constant_values=value)

    def describe(self) -> list[str]:
        """Say what is done, a line each."""
        height, width = self.oriented_shape
        row, column = self._center
        said = {
            "frames: rows and columns exchanged": self.transpose,
            "frames: columns reversed": self.flip_x,
            "frames: rows reversed": self.flip_y,
            "frames: zero frequency moved from [0, 0] to [N/2, N/2]": self.corner,
            f"frames: {self.crop} px around row {row}, column {column} cropped from {height} × {width} px": self.crop,
            f"frames: counts of {self.bin} × {self.bin} px added": self.bin > 1,
            f"frames: padded to {self.pad} px with bad pixels": self.pad,
        }
        return [text for text, done in said.items() if done]


def make_transform(shape: tuple[int, int], corner: bool, options: ConversionOptions) -> FrameTransform:
    """Return the transform that options ask for.

    Parameters
    ----------
    shape : (int, int)
        (H, W) of the frames in the file.
    corner : bool
        Whether the format has the zero frequency at [0, 0]; `options.zero_frequency` overrides it.

    Raises
    ------
    ValueError
        If the frames would not be square with an even side; the message says which options help.
    """
    if options.zero_frequency is not None:
        corner = options.zero_frequency == "corner"
    return FrameTransform(
        shape=shape,
        transpose=options.transpose,
        flip_x=options.flip_x,
        flip_y=options.flip_y,
        corner=corner,
        crop=options.crop,
        center=options.center,
        bin=options.bin,
        pad=options.pad,
    )
