"""What readers of foreign scans share: plain NPZ files, alternative keys, and the contract's arrays from any subset."""

import zipfile
from collections.abc import Iterable, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.forward import as_modes, predict_intensity, window_start
from ptycho.workflow.files import ContractError, StrPath

PROBE_KEYS = ("probeGuess", "probe")
"""Keys under which a probe is found, in this order."""
OBJECT_KEYS = ("objectGuess", "object")
"""Keys under which an object is found, in this order."""
MARGIN_PX = 2
"""Free pixels between the outermost windows and the edge of an object that a reader creates."""


def load_plain(file: StrPath | IO[bytes], path: StrPath) -> dict[str, NDArray[Any]]:
    """Read every array of an NPZ; refuse pickles.

    Parameters
    ----------
    file : path or binary file
        The NPZ.
    path : path
        Its name in messages.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing, not an NPZ, cut short, or holds pickled objects.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if archive[key].dtype != object}
    except FileNotFoundError:
        raise ContractError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, EOFError):
        raise ContractError(f"{path}: not an NPZ, or cut short") from None
    except ValueError as error:
        raise ContractError(f"{path}: {error}; wanted an NPZ of plain arrays") from None


def find_array(arrays: Mapping[str, NDArray[Any]], keys: Iterable[str], path: StrPath) -> tuple[str, NDArray[Any]]:
    """Return the first of some keys that exists, and its array.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If none exists.
    """
    keys = list(keys)
    for key in keys:
        if key in arrays:
            return key, arrays[key]
    raise ContractError(f"{path}: no key {' or '.join(map(repr, keys))}; found {sorted(arrays)}")


def complete_scan(
    *,
    diffraction: NDArray[np.floating],
    xcoords: NDArray[np.float64],
    ycoords: NDArray[np.float64],
    probe: NDArray[np.complexfloating],
    metadata: dict[str, Any],
    obj: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Return the contract's arrays, with the contract's types.

    The probe is scaled so that 32 predicted patterns have the measured number of photons; `dose` is its Σ|P|².

    Parameters
    ----------
    diffraction : (M, N, N) float
        Amplitudes, sqrt(counts).
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    probe : (N, N) or (modes, N, N) complex
        In any unit.
    metadata : dict
        `dose` is added.
    obj : (H, W) complex, optional
        Transmittance; default: an object of ones that holds every window.

    Raises
    ------
    ValueError
        If a window leaves the object.
    """
    n = diffraction.shape[-1]
    if obj is None:
        obj = np.ones([int(window_start(axis, n).max()) + n + MARGIN_PX for axis in (ycoords, xcoords)], np.complex64)
    modes = as_modes(probe).astype(np.complex128)
    sample = np.unique(np.linspace(0, len(xcoords) - 1, 32).astype(int))
    predicted = predict_intensity(obj, modes, xcoords[sample], ycoords[sample]).sum()
    measured = np.square(diffraction[sample], dtype=np.float64).sum()
    modes *= np.sqrt(measured / predicted)
    return {
        "diffraction": np.ascontiguousarray(diffraction, np.float32),
        "xcoords": xcoords,
        "ycoords": ycoords,
        "probeGuess": modes.astype(np.complex64),
        "objectGuess": np.asarray(obj, np.complex64),
        "metadata": {**metadata, "dose": float(np.sum(np.abs(modes) ** 2))},
    }
