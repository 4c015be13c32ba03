"""Scans in an NPZ of your own, or in an older layout of the contract: other keys, intensities, frames last."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.arrays import MARGIN_PX, OBJECT_KEYS, PROBE_KEYS, complete_scan, find_array, load_plain
from ptycho.physics.forward import window_start
from ptycho.workflow.files import ContractError, StrPath

FRAME_KEYS = ("diffraction", "diff3d", "intensity")
"""Keys under which frames are found, in this order."""
QUANTITIES = ("auto", "amplitude", "intensity")
"""What frames may hold; "auto": see `read_plain_npz`."""

_logger = logging.getLogger(__name__)


def read_plain_npz(path: StrPath, quantity: str = "auto") -> dict[str, Any]:
    """Read a scan in an NPZ of another layout and convert it to the data contract.

    Frames may be under `diffraction`, `diff3d` or `intensity`, in order (M, N, N) or (N, N, M), compressed or not.
    Every conversion is logged and listed in `metadata["conversion"]`.

    Parameters
    ----------
    path : path
        NPZ.
    quantity : {"auto", "amplitude", "intensity"}
        What the frames hold. "auto": `intensity` holds intensities. The other keys hold amplitudes, unless every value
        is an integer and some exceed 1, which does not happen for square roots of counts.

    Returns
    -------
    dict
        The contract's keys.

    Raises
    ------
    ValueError
        If the quantity is unknown.
    ptycho.workflow.files.ContractError
        If a key is missing or has the wrong shape or values; the message names file and key, what was found and what is
        wanted.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity '{quantity}'; wanted auto, amplitude or intensity")
    arrays = load_plain(path, path)
    conversion: list[str] = []
    xcoords, ycoords = (
        find_array(arrays, (key,), path)[1].astype(np.float64).ravel() for key in ("xcoords", "ycoords")
    )
    if len(xcoords) != len(ycoords):
        raise ContractError(f"{path}: {len(xcoords)} x-coordinates but {len(ycoords)} y-coordinates")
    key, frames = find_array(arrays, FRAME_KEYS, path)
    frames = _frames_first(frames, len(xcoords), f"{path}: '{key}'", conversion)
    frames = _to_amplitude(frames, key, quantity, f"{path}: '{key}'", conversion)
    n = frames.shape[-1]
    probe = np.squeeze(find_array(arrays, PROBE_KEYS, path)[1])
    if probe.ndim not in (2, 3) or probe.shape[-2:] != (n, n):
        raise ContractError(f"{path}: the probe has shape {probe.shape}; wanted ({n}, {n}) or (modes, {n}, {n})")
    _check_span(path, xcoords, ycoords)
    obj = np.squeeze(find_array(arrays, OBJECT_KEYS, path)[1]) if set(OBJECT_KEYS) & set(arrays) else None
    if obj is None:
        shift_y, shift_x = (MARGIN_PX - window_start(axis, n).min() for axis in (ycoords, xcoords))
        xcoords, ycoords = xcoords + shift_x, ycoords + shift_y
        conversion.append(f"no object: object of ones, positions shifted by ({shift_y}, {shift_x}) px (y, x)")
    metadata = {"source": Path(path).name, "measured": True, "conversion": conversion}
    try:
        arrays = complete_scan(
            diffraction=frames, xcoords=xcoords, ycoords=ycoords, probe=probe, obj=obj, metadata=metadata
        )
    except ValueError as error:
        raise ContractError(f"{path}: {error}") from None
    given, scaled = (float(np.sum(np.abs(modes) ** 2, dtype=np.float64)) for modes in (probe, arrays["probeGuess"]))
    conversion.append(f"probe scaled from Σ|P|² = {given:.6g} to {scaled:.6g}: it predicts the measured photons")
    for step in conversion:
        _logger.info("%s: %s", path, step)
    return arrays


def _check_span(path: StrPath, xcoords: NDArray[np.float64], ycoords: NDArray[np.float64]) -> None:
    span = max(float(np.ptp(axis)) for axis in (xcoords, ycoords)) if len(xcoords) > 1 else 1.0
    if span < 1:
        raise ContractError(
            f"{path}: positions span {span:.2g}; wanted object pixels: meters / (wavelength · distance / (N · detector "
            "pixel))"
        )


def _frames_first(frames: NDArray[Any], count: int, where: str, conversion: list[str]) -> NDArray[Any]:
    """Return frames as (M, N, N); append what was done to `conversion`."""
    frames = np.squeeze(frames) if frames.ndim > 3 else frames
    if frames.ndim == 3 and frames.shape[0] == count and frames.shape[1] == frames.shape[2]:
        return frames
    if frames.ndim == 3 and frames.shape[2] == count and frames.shape[0] == frames.shape[1]:
        conversion.append(f"frames reordered from {frames.shape} to exposure first")
        return np.moveaxis(frames, 2, 0)
    raise ContractError(
        f"{where} has shape {frames.shape}; wanted ({count}, N, N) or (N, N, {count}) for {count} positions"
    )


def _to_amplitude(
    frames: NDArray[Any], key: str, quantity: str, where: str, conversion: list[str]
) -> NDArray[np.floating]:
    """Return frames as amplitudes; append what was done to `conversion`."""
    if np.iscomplexobj(frames) or not np.isfinite(frames).all() or frames.min() < 0:
        raise ContractError(f"{where} holds complex, negative or non-finite values; wanted amplitudes or counts ≥ 0")
    if quantity == "auto":
        are_counts = frames.max() > 1 and bool(np.all(frames == np.rint(frames)))
        quantity = "intensity" if key == "intensity" or are_counts else "amplitude"
    if quantity == "intensity":
        conversion.append(f"'{key}' is intensity: square root taken")
        return np.sqrt(frames)
    if key != "diffraction":
        conversion.append(f"'{key}' is amplitude: renamed to 'diffraction'")
    return frames
