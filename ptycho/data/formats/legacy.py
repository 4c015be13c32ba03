"""Scans in an older layout of the contract: other keys, intensity, frames last."""

import logging
from pathlib import Path

import numpy as np

from ptycho.data.formats.arrays import MARGIN_PX, OBJECT_KEYS, PROBE_KEYS, complete, load_plain, take
from ptycho.physics.forward import window_start
from ptycho.workflow.files import ContractError

FRAME_KEYS = ("diffraction", "diff3d", "intensity")

_logger = logging.getLogger(__name__)


def read_legacy(path, quantity: str = "auto") -> dict:
    """Read a scan in an older layout and convert it to the contract, saying what was done.

    Taken are frames under `diffraction`, `diff3d` or `intensity`, in order (M, N, N) or (N, N, M), compressed or not.
    What was converted is logged and kept in `metadata["conversion"]`.

    Parameters
    ----------
    path : Path
        NPZ.
    quantity : {"auto", "amplitude", "intensity"}
        What the frames hold. "auto": `intensity` is intensity; the others are amplitudes unless every value is an
        integer and some exceed 1, which square roots of counts never are.

    Returns
    -------
    dict
        The contract's keys.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If something is missing or does not fit; the message names file, key, what was found and what is wanted.
    """
    if quantity not in ("auto", "amplitude", "intensity"):
        raise ValueError(f"quantity '{quantity}'; wanted auto, amplitude or intensity")
    arrays, done = load_plain(path, path), []
    xcoords, ycoords = (take(arrays, (key,), path)[1].astype(np.float64).ravel() for key in ("xcoords", "ycoords"))
    if len(xcoords) != len(ycoords):
        raise ContractError(f"{path}: {len(xcoords)} x-coordinates but {len(ycoords)} y-coordinates")
    key, frames = take(arrays, FRAME_KEYS, path)
    frames = _frames_first(frames, len(xcoords), f"{path}: '{key}'", done)
    frames = _amplitude(frames, key, quantity, f"{path}: '{key}'", done)
    n = frames.shape[-1]
    probe = np.squeeze(take(arrays, PROBE_KEYS, path)[1])
    if probe.ndim not in (2, 3) or probe.shape[-2:] != (n, n):
        raise ContractError(f"{path}: the probe has shape {probe.shape}; wanted ({n}, {n}) or (modes, {n}, {n})")
    span = max(float(np.ptp(axis)) for axis in (xcoords, ycoords)) if len(xcoords) > 1 else 1.0
    if span < 1:
        raise ContractError(
            f"{path}: positions span {span:.2g}; wanted object pixels: meters / (wavelength · distance / (N · detector "
            "pixel))"
        )
    obj = np.squeeze(take(arrays, OBJECT_KEYS, path)[1]) if set(OBJECT_KEYS) & set(arrays) else None
    if obj is None:
        shift_y, shift_x = (MARGIN_PX - window_start(axis, n).min() for axis in (ycoords, xcoords))
        xcoords, ycoords = xcoords + shift_x, ycoords + shift_y
        done.append(f"no object: a flat one, positions moved by ({shift_y}, {shift_x}) px (y, x)")
    for step in done:
        _logger.info("%s: %s", path, step)
    metadata = {"source": Path(path).name, "measured": True, "conversion": done}
    try:
        return complete(diffraction=frames, xcoords=xcoords, ycoords=ycoords, probe=probe, obj=obj, metadata=metadata)
    except ValueError as error:
        raise ContractError(f"{path}: {error}") from None


def _frames_first(frames, count: int, where: str, done: list):
    frames = np.squeeze(frames) if frames.ndim > 3 else frames
    if frames.ndim == 3 and frames.shape[0] == count and frames.shape[1] == frames.shape[2]:
        return frames
    if frames.ndim == 3 and frames.shape[2] == count and frames.shape[0] == frames.shape[1]:
        done.append(f"frames reordered from {frames.shape} to exposure first")
        return np.moveaxis(frames, 2, 0)
    raise ContractError(
        f"{where} has shape {frames.shape}; wanted ({count}, N, N) or (N, N, {count}) for {count} positions"
    )


def _amplitude(frames, key: str, quantity: str, where: str, done: list):
    if np.iscomplexobj(frames) or not np.isfinite(frames).all() or frames.min() < 0:
        raise ContractError(f"{where} holds complex, negative or non-finite values; wanted amplitudes or counts ≥ 0")
    if quantity == "auto":
        counted = frames.max() > 1 and bool(np.all(frames == np.rint(frames)))
        quantity = "intensity" if key == "intensity" or counted else "amplitude"
    if quantity == "intensity":
        done.append(f"'{key}' is intensity: square root taken")
        return np.sqrt(frames)
    if key != "diffraction":
        done.append(f"'{key}' is amplitude: renamed to 'diffraction'")
    return frames
