"""The forward model, in NumPy: illuminate and diffract; `ptycho.physics.noise` counts the photons.

This is the reference that the network layers and the iterative solver are tested against. Pixel (0, 0) is at
coordinate 0.0; a position is the center of a patch, pixel index N/2 of its window.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_POSITION_PX = 2.0**52
"""Largest coordinate of a position: beyond it, floats do not tell a pixel from the next, and integers may overflow."""


def split_position(coordinate: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Split positions into the nearest pixel and the sub-pixel remainder.

    Ties round up, so that the split does not depend on an integer offset of the origin.

    Parameters
    ----------
    coordinate : array_like, float64
        Patch centers [px].

    Returns
    -------
    pixel : array, int64
        The nearest pixel.
    rest : array, float64
        Position minus pixel, in [-0.5, 0.5) [px].

    Raises
    ------
    ValueError
        If a position is not finite, or further than `MAX_POSITION_PX` from 0.
    """
    coordinate = np.asarray(coordinate, dtype=np.float64)
    farthest = np.abs(coordinate).max(initial=0)
    if not farthest <= MAX_POSITION_PX:
        raise ValueError(f"a position of ±{farthest:g} px; wanted finite ones, at most {MAX_POSITION_PX:g} px from 0")
    pixel = np.floor(coordinate + 0.5)
    return pixel.astype(np.int64), coordinate - pixel


def window_start(coordinate: ArrayLike, n: int) -> NDArray[np.int64]:
    """First row (or column) of the n-pixel window whose pixel n // 2 is the one nearest to the position."""
    return split_position(coordinate)[0] - n // 2


def shift_ramps(
    shift_y: ArrayLike, shift_x: ArrayLike, shape: int | tuple[int, int]
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return the phase ramps that shift a wave when they multiply its spectrum (Fourier shift theorem).

    Parameters
    ----------
    shift_y, shift_x : (...) float
        Shift towards larger row and column [px].
    shape : int or (int, int)
        Rows and columns of the wave [px]; one number for a square wave.

    Returns
    -------
    down : (..., H, 1) complex128
    across : (..., 1, W) complex128
        exp(-2πi · shift · frequency), zero frequency first; multiply the spectrum by both.
    """
    height, width = (shape, shape) if isinstance(shape, int) else shape
    down, across = (
        np.exp(-2j * np.pi * np.asarray(shift)[..., None] * np.fft.fftfreq(size))
        for shift, size in ((shift_y, height), (shift_x, width))
    )
    return down[..., :, None], across[..., None, :]


def shift_probe(
    probe: NDArray[np.complexfloating], shift_y: ArrayLike, shift_x: ArrayLike
) -> NDArray[np.complexfloating]:
    """Shift waves by a fraction of a pixel with the Fourier shift theorem (periodic, exact for band-limited waves).

    Parameters
    ----------
    probe : (..., n, n) complex
        Waves, sample-centered.
    shift_y, shift_x : (...) float
        Shift towards larger row and column [px]; their shape is broadcast against the leading axes of `probe`.

    Returns
    -------
    (..., n, n) complex
    """
    down, across = shift_ramps(shift_y, shift_x, probe.shape[-1])
    return np.fft.ifft2(np.fft.fft2(probe) * (down * across))


def diffract(exit_waves: NDArray[Any]) -> NDArray[np.complexfloating]:
    """Propagate exit waves to the detector; unitary (intensity is kept).

    Parameters
    ----------
    exit_waves : (..., n, n) complex
        Waves that leave the sample, sample-centered [sqrt(photon)].

    Returns
    -------
    (..., n, n) complex
        Waves at the detector, zero frequency at [n // 2, n // 2] [sqrt(photon)].
    """
    shifted = np.fft.ifftshift(exit_waves, axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))


def inverse_diffract(waves: NDArray[Any]) -> NDArray[np.complexfloating]:
    """Propagate detector waves back to the sample: the inverse, and the adjoint, of `diffract`."""
    shifted = np.fft.ifftshift(waves, axes=(-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))


def as_modes(probe: ArrayLike) -> NDArray[Any]:
    """Return the probe as (modes, n, n); a coherent (n, n) probe is one mode."""
    probe = np.asarray(probe)
    return probe[None] if probe.ndim == 2 else probe


def cut_patches(
    obj: NDArray[Any],
    xcoords: NDArray[np.float64],
    ycoords: NDArray[np.float64],
    n: int,
    origin_px: tuple[int, int] = (0, 0),
) -> NDArray[Any]:
    """Cut the n × n window of the object under each exposure.

    Parameters
    ----------
    obj : (H, W) array
        Object (or any image).
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    n : int
        Side of the windows [px].
    origin_px : (int, int)
        Row and column coordinate of the object's first pixel.

    Returns
    -------
    (M, n, n) array
        Copies of the windows.

    Raises
    ------
    ValueError
        If a window extends beyond the object, or a position is none, see `split_position`.
    """
    top, left = window_corners(obj.shape, xcoords, ycoords, n, origin_px)
    return np.lib.stride_tricks.sliding_window_view(obj, (n, n))[top, left]


def window_corners(
    shape: tuple[int, ...],
    xcoords: NDArray[np.float64],
    ycoords: NDArray[np.float64],
    n: int,
    origin_px: tuple[int, int] = (0, 0),
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row and the first column of every window in an object of a shape, (M,) each.

    Parameters and errors as those of `cut_patches`.
    """
    top = window_start(ycoords, n) - origin_px[0]
    left = window_start(xcoords, n) - origin_px[1]
    height, width = shape
    if len(top) and (min(top.min(), left.min()) < 0 or top.max() + n > height or left.max() + n > width):
        raise ValueError(
            f"windows of {n} px span rows {top.min()}..{top.max() + n} and columns {left.min()}..{left.max() + n}, "
            f"but the object has {height} × {width} px"
        )
    return top, left


def predict_intensity(
    obj: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    xcoords: NDArray[np.float64],
    ycoords: NDArray[np.float64],
    origin_px: tuple[int, int] = (0, 0),
) -> NDArray[np.float64]:
    """Mean counts on the detector: I_j = Σ_modes |F(O[window at r_j] · shift(P, δ_j))|².

    Parameters
    ----------
    obj : (H, W) complex
        Transmittance of the sample.
    probe : (n, n) or (modes, n, n) complex
        Illumination, Σ|P|² = incident photons [sqrt(photon)].
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    origin_px : (int, int)
        Row and column coordinate of the object's first pixel.

    Returns
    -------
    (M, n, n) float64
        Mean counts, zero frequency at [n // 2, n // 2] [photon].
    """
    probe = as_modes(probe).astype(np.complex128)
    _, rest_y = split_position(ycoords)
    _, rest_x = split_position(xcoords)
    patches = cut_patches(obj, xcoords, ycoords, probe.shape[-1], origin_px)
    intensity = np.zeros(patches.shape, np.float64)
    for mode in probe:
        intensity += np.abs(diffract(patches * shift_probe(mode, rest_y, rest_x))) ** 2
    return intensity


def blocks(n_items: int, block_size: int) -> Iterator[slice]:
    """Return consecutive slices of at most `block_size` items that cover `range(n_items)`."""
    return (slice(start, min(start + block_size, n_items)) for start in range(0, n_items, block_size))


def illumination(
    probe: NDArray[np.complexfloating],
    xcoords: NDArray[np.float64],
    ycoords: NDArray[np.float64],
    shape: tuple[int, ...],
    origin_px: tuple[int, int] = (0, 0),
    scale: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Incident photons per object pixel: Σ_j s_j |P_j|², every exposure with its sub-pixel shift.

    Parameters
    ----------
    probe : (n, n) or (modes, n, n) complex
        Illumination [sqrt(photon)].
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    shape : (int, int)
        Rows and columns of the map.
    origin_px : (int, int)
        Row and column coordinate of the map's first pixel; photons outside the map are not counted.
    scale : (M,) float, optional
        s, incident photons of every exposure in units of the probe's; default: 1.

    Returns
    -------
    (H, W) float64
        Incident photons [photon/px].
    """
    probe = as_modes(probe).astype(np.complex128)
    n = probe.shape[-1]
    padded = np.zeros((shape[0] + 2 * n, shape[1] + 2 * n))
    _, rest_y = split_position(ycoords)
    _, rest_x = split_position(xcoords)
    top = np.clip(window_start(ycoords, n) - origin_px[0] + n, 0, shape[0] + n)
    left = np.clip(window_start(xcoords, n) - origin_px[1] + n, 0, shape[1] + n)
    for block in blocks(len(top), 256):
        intensity = sum(np.abs(shift_probe(mode, rest_y[block], rest_x[block])) ** 2 for mode in probe)
        if scale is not None:
            intensity *= scale[block][:, None, None]
        for y, x, spot in zip(top[block], left[block], intensity, strict=True):
            padded[y : y + n, x : x + n] += spot
    return padded[n:-n, n:-n]


def mean_transmittance(detected_photons: float, n_exposures: float, probe: NDArray[np.complexfloating]) -> float:
    """Mean amplitude transmittance of a sample, sqrt(detected / incident photons).

    Parameters
    ----------
    detected_photons : float
        Photons detected in all exposures together [photon].
    n_exposures : float
        Number of exposures; where their flux differs, in units of the probe's.
    probe : (...) complex
        Illumination of each exposure, with all modes, before the sample or, without one, on the detector
        [sqrt(photon)].
    """
    return float(np.sqrt(detected_photons / (n_exposures * np.sum(np.abs(probe) ** 2, dtype=np.float64))))
