"""The object of a converted scan, and where its positions lie in it: that of the file, or one of ones."""

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.geometry import Lengths
from ptycho.formats.options import ConversionOptions
from ptycho.formats.positions import to_pixels
from ptycho.formats.raw import RawObject, RawScan
from ptycho.physics.forward import window_start
from ptycho.workflow.files import ContractError
from ptycho.workflow.limits import max_bytes

MARGIN_PX = 2
"""Free pixels between the outermost windows and the edge of an object of ones."""
MAX_POSITION_PX = 1e12
"""Farthest position from the origin: beyond it a float64 loses thousandths of a pixel, and integers overflow."""
MAX_OBJECT_PX = 1 << 28
"""Largest object: 2 GB."""
BYTES_PER_PIXEL = 24
"""Memory that a conversion takes for a pixel of the object: complex64, and copies of it."""


def place_scan(
    raw: RawScan,
    centers: NDArray[np.float64],
    lengths: Lengths,
    n: int,
    options: ConversionOptions,
    steps: list[str],
) -> tuple[NDArray[np.float64], NDArray[np.complex64]]:
    """Return patch centers in pixels of an object, (m, 2), and the object, (H, W).

    Parameters
    ----------
    raw : RawScan
        The scan.
    centers : (m, 2) float64
        Positions [x, y] in pixels of the converted object, oriented as options ask.
    lengths : Lengths
        Pixel of the object.
    n : int
        N, side of the windows [px].
    options : ConversionOptions
        `without_object` and `position_unit` are used, and whether positions were changed.
    steps : list of str
        What is done is appended.

    Raises
    ------
    ContractError
        If a position is too far away, the object of the file is invalid or does not hold every window, or an object of
        ones would be too large.
    """
    unit = options.position_unit or raw.unit or "px"
    reason = _why_not(raw.object, unit, lengths, options)
    if raw.object is not None and reason is None:
        if raw.object.origin is not None:
            centers = centers - to_pixels(np.array([raw.object.origin]), unit, lengths.pixel_m, lengths.scale, [])
        _check_farthest(raw, centers)
        return centers, _checked_object(raw, centers, n)
    if reason is not None:
        steps.append(f"'{raw.object_key}' left out: {reason}")
    _check_farthest(raw, centers)
    return _in_object_of_ones(raw, centers, n, steps)


def _check_farthest(raw: RawScan, centers: NDArray[np.float64]) -> None:
    farthest = float(np.abs(centers).max())
    if not farthest <= MAX_POSITION_PX:  # NaN, too
        raise ContractError(
            f"{raw.name}: a position of {farthest:.3g} px; wanted at most {MAX_POSITION_PX:.0e}: other units or lengths"
        )


def _why_not(obj: RawObject | None, unit: str, lengths: Lengths, options: ConversionOptions) -> str | None:
    """Return why the object of a file is not taken over; None if it is, or if there is none."""
    if obj is None:
        return None
    if options.without_object:
        return "as asked"
    if options.swap_positions or options.negate_x or options.negate_y:
        return "the positions were changed"
    if lengths.scale != (1.0, 1.0):
        return "its pixel is another one"
    if obj.origin is None and unit != "px":
        return "the file does not say where it lies"
    return None


def _checked_object(raw: RawScan, centers: NDArray[np.float64], n: int) -> NDArray[np.complex64]:
    assert raw.object is not None
    obj, key = raw.object.array, raw.object_key
    cure = "--without-object converts the scan without it"
    if obj.ndim > 2 and obj.shape[0] == 1:
        obj = obj.reshape(obj.shape[-2:]) if obj.size == obj.shape[-1] * obj.shape[-2] else obj
    if obj.ndim != 2 or obj.dtype.kind not in "cfiu":
        raise ContractError(
            f"{raw.name}: '{key}' is {obj.dtype} with shape {obj.shape}; wanted one layer, (H, W); {cure}"
        )
    n_invalid = int((~np.isfinite(obj)).sum())
    if n_invalid:
        raise ContractError(f"{raw.name}: '{key}' holds {n_invalid} values that are not finite; {cure}")
    start = window_start(centers, n)
    if (start < 0).any() or (start.max(axis=0) + n > obj.shape[::-1]).any():
        (left, top), (right, bottom) = start.min(axis=0), start.max(axis=0) + n
        raise ContractError(
            f"{raw.name}: windows of {n} px span rows {top}..{bottom} and columns {left}..{right}, but '{key}' has "
            f"{obj.shape[0]} × {obj.shape[1]} px; {cure}"
        )
    return obj.astype(np.complex64)


def _in_object_of_ones(
    raw: RawScan, centers: NDArray[np.float64], n: int, steps: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.complex64]]:
    first = window_start(centers, n).min(axis=0)
    centers = centers + (MARGIN_PX - first)
    width, height = (int(size) for size in window_start(centers, n).max(axis=0) + n + MARGIN_PX)
    if height * width > min(MAX_OBJECT_PX, max_bytes() // BYTES_PER_PIXEL):
        raise ContractError(
            f"{raw.name}: positions span {height} × {width} px, an object of {8 * height * width / 1e9:.0f} GB; wanted "
            "other units or lengths, or fewer exposures (--leave-out)"
        )
    shift_x, shift_y = MARGIN_PX - first
    steps.append(f"object of ones, positions shifted by ({shift_y}, {shift_x}) px (y, x)")
    return centers, np.ones((height, width), np.complex64)
