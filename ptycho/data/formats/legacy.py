"""Foreign scans in, arrays of the data contract out: the one place where units, order and centring are converted.

Every reader returns a dict with the contract's keys, which `ptycho.scan.ScanWriter` takes.
"""

import bz2
import io
import logging
import zipfile
from pathlib import Path

import numpy as np

from ptycho.npz import ContractError
from ptycho.physics import as_modes, predict_intensity, window_start

FRAME_KEYS = ("diffraction", "diff3d", "intensity")
PROBE_KEYS = ("probeGuess", "probe")
OBJECT_KEYS = ("objectGuess", "object")
MARGIN_PX = 2
"""Free pixels between the outermost windows and the edge of an object that is laid out here."""

_logger = logging.getLogger(__name__)


def read_siemens(path) -> dict:
    """Read the measured X-ray scan of a Siemens star that tike's source distribution carries.

    Counts with the zero frequency in the corner become centred amplitudes; top-left corners around zero become patch
    centres in the smallest object that holds every window. The probe is scaled to the mean counts, not refined.

    Parameters
    ----------
    path : Path
        `siemens-star-small.npz.bz2`.

    Returns
    -------
    dict
        The contract's keys; `objectGuess` is flat until a reference has been reconstructed.

    Raises
    ------
    ptycho.npz.ContractError
        If the file is something else.
    """
    try:
        arrays = load_plain(io.BytesIO(bz2.decompress(Path(path).read_bytes())), path)
    except OSError as error:
        raise ContractError(f"{path}: {error}; wanted a bzip2-compressed NPZ") from None
    counts, corner, probe = (take(arrays, (key,), path)[1][0] for key in ("data", "scan", "probe"))
    n = counts.shape[-1]
    if counts.ndim != 3 or counts.shape[1] != n or corner.shape != (len(counts), 2):
        raise ContractError(f"{path}: 'data' {counts.shape} and 'scan' {corner.shape}; wanted (M, N, N) and (M, 2)")
    corner = corner.astype(np.float64)
    corner += MARGIN_PX - np.floor(corner.min(axis=0))
    return _complete(
        diffraction=np.fft.fftshift(np.sqrt(counts), axes=(-2, -1)),
        xcoords=corner[:, 1] + n / 2,
        ycoords=corner[:, 0] + n / 2,
        probe=probe.reshape(-1, n, n),
        metadata={"source": "tike, siemens-star-small", "measured": True},
    )


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
    ptycho.npz.ContractError
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
            f"{path}: positions span {span:.2g}; wanted object pixels: metres / (wavelength · distance / (N · detector "
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
        return _complete(diffraction=frames, xcoords=xcoords, ycoords=ycoords, probe=probe, obj=obj, metadata=metadata)
    except ValueError as error:
        raise ContractError(f"{path}: {error}") from None


def load_plain(file, path) -> dict:
    """Read every array of an NPZ; refuse pickles."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if archive[key].dtype != object}
    except FileNotFoundError:
        raise ContractError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, EOFError):
        raise ContractError(f"{path}: not an NPZ, or cut short") from None
    except ValueError as error:
        raise ContractError(f"{path}: {error}; wanted an NPZ of plain arrays") from None


def take(arrays: dict, keys, path):
    """First key that is there, and its array."""
    for key in keys:
        if key in arrays:
            return key, arrays[key]
    raise ContractError(f"{path}: no key {' or '.join(map(repr, keys))}; found {sorted(arrays)}")


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


def _complete(*, diffraction, xcoords, ycoords, probe, metadata: dict, obj=None) -> dict:
    """Fill in the object, put the counts into the probe, and cast everything to the contract's types."""
    n = diffraction.shape[-1]
    if obj is None:
        obj = np.ones([int(window_start(axis, n).max()) + n + MARGIN_PX for axis in (ycoords, xcoords)])
    probe = as_modes(probe).astype(np.complex128)
    sample = np.unique(np.linspace(0, len(xcoords) - 1, 32).astype(int))
    predicted = predict_intensity(obj, probe, xcoords[sample], ycoords[sample]).sum()
    measured = np.square(diffraction[sample], dtype=np.float64).sum()
    probe *= np.sqrt(measured / predicted)
    return {
        "diffraction": np.ascontiguousarray(diffraction, np.float32),
        "xcoords": xcoords,
        "ycoords": ycoords,
        "probeGuess": probe.astype(np.complex64),
        "objectGuess": np.asarray(obj, np.complex64),
        "metadata": {**metadata, "dose": float(np.sum(np.abs(probe) ** 2))},
    }
