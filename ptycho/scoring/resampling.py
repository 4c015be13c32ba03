"""Complex images moved by fractions of a pixel: cropping, margins that do not ring, and the Fourier shift.

Coordinates are centered: the index (n - 1) / 2 of n rows or columns is 0.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from ptycho.physics.forward import shift_ramps

TAPER_PX = 16
"""Margin in which an image fades to its mean before it is Fourier transformed, so that its edges do not ring."""


def resample(
    field: NDArray[np.complex128],
    shape: tuple[int, ...],
    ramp: NDArray[np.floating],
    shift: NDArray[np.floating],
) -> NDArray[np.complex128]:
    """Crop the middle of a field after removing a phase ramp and a shift.

    Whole pixels of the shift are cropped; only the remainder, at most half a pixel, is a Fourier shift.

    Parameters
    ----------
    field : (H, W) complex128
        Image with a margin of at least `TAPER_PX` plus the shift around `shape`.
    shape : (int, int)
        Rows and columns to return.
    ramp : (2,) float
        Phase gained per row and per column [rad/px].
    shift : (2,) float
        Displacement of the content towards larger row and column [px].

    Returns
    -------
    (h, w) complex128
    """
    y, x = centered_coordinates(field.shape)
    field = field * np.exp(-1j * (ramp[0] * y + ramp[1] * x))
    whole = np.rint(shift).astype(int)
    rest = shift - whole
    if rest.any():
        down, across = shift_ramps(-rest[0], -rest[1], field.shape)
        field = fft.ifft2(fft.fft2(taper(field)) * (down * across))
    return crop(field, shape, whole)


def crop(field: NDArray, shape: tuple[int, ...], offset: ArrayLike = (0, 0)) -> NDArray:
    """Crop the middle of a field, displaced by whole pixels.

    Parameters
    ----------
    field : (H, W) array
    shape : (int, int)
        Rows and columns to return.
    offset : (int, int)
        Displacement of the crop towards larger row and column [px].

    Returns
    -------
    (h, w) array
        A view.
    """
    top, left = ((n - m) // 2 + int(d) for n, m, d in zip(field.shape, shape, np.asarray(offset).tolist(), strict=True))
    return field[top : top + shape[0], left : left + shape[1]]


def extend(image: ArrayLike, region: tuple[slice, slice], margin: int) -> NDArray[np.complex128]:
    """Cut a region with a margin: real data where the image has any, mirrored beyond its edge.

    Parameters
    ----------
    image : (H, W) complex
        Values that are not finite become 0.
    region : (slice, slice)
        Rows and columns, both ends given.
    margin : int
        Width of the margin [px]; its moduli are limited to the largest one in the region.

    Returns
    -------
    (h + 2 margin, w + 2 margin) complex128
    """
    image = np.asarray(image)
    spans = [(s.start - margin, s.stop + margin, n) for s, n in zip(region, image.shape, strict=True)]
    field = np.asarray(image, np.complex128)[tuple(slice(max(a, 0), min(b, n)) for a, b, n in spans)]
    field = np.where(np.isfinite(field), field, 0)
    field = np.pad(field, [(max(-a, 0), max(b - n, 0)) for a, b, n in spans], mode="symmetric")
    largest = np.abs(image[region]).max()
    return field * np.minimum(1, largest / np.maximum(np.abs(field), np.finfo(float).tiny))


def taper(field: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Fade the outer `TAPER_PX` of an (H, W) field smoothly to the mean of what they enclose."""
    mean = field[TAPER_PX:-TAPER_PX, TAPER_PX:-TAPER_PX].mean()
    rise = np.sin(np.pi / 2 * (np.arange(TAPER_PX) + 0.5) / TAPER_PX) ** 2
    rows, columns = (np.concatenate([rise, np.ones(n - 2 * TAPER_PX), rise[::-1]]) for n in field.shape)
    return mean + (field - mean) * rows[:, None] * columns


def frequencies(shape: tuple[int, ...]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Spatial frequencies of the rows, (H, 1), and columns, (1, W), of an image [cycles/px], zero first."""
    return fft.fftfreq(shape[0])[:, None], fft.fftfreq(shape[1])[None, :]


def centered_coordinates(shape: tuple[int, ...]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Coordinates of the rows, (H, 1), and columns, (1, W), of an image relative to its center [px]."""
    return (np.arange(shape[0]) - (shape[0] - 1) / 2)[:, None], (np.arange(shape[1]) - (shape[1] - 1) / 2)[None, :]
