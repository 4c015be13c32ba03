"""What readers of foreign scans share: plain NPZ files, keys under several names, the contract's arrays completed."""

import zipfile

import numpy as np

from ptycho.physics.forward import as_modes, predict_intensity, window_start
from ptycho.workflow.files import ContractError

PROBE_KEYS = ("probeGuess", "probe")
OBJECT_KEYS = ("objectGuess", "object")
MARGIN_PX = 2
"""Free pixels between the outermost windows and the edge of an object that is laid out here."""


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


def complete(*, diffraction, xcoords, ycoords, probe, metadata: dict, obj=None) -> dict:
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
