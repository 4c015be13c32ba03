"""Model card: the description of a network, saved in its `.keras` archive; saving and loading of both."""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

import ptycho.model.layers  # noqa: F401 - registers a layer that saved models name
from ptycho.workflow.files import ContractError, StrPath, replacing
from ptycho.workflow.provenance import CARD, array_digest, versions

PROBE = "probe.npy"
"""Member of the archive with the probe of the training."""


def make_card(
    method: str, probe: ArrayLike, *, n_pixels: int, channels: int, transmittance: float, **facts: Any
) -> dict[str, Any]:
    """Describe a network: what is needed to use it, and its provenance.

    Parameters
    ----------
    method : str
        Method that the network belongs to.
    probe : (..., N, N) complex
        Illumination of the training [sqrt(photon)].
    n_pixels, channels : int
        N, side of a pattern, and C, patterns in a group.
    transmittance : float
        Mean amplitude transmittance of the training data: the normalization.
    **facts
        Further JSON-serializable facts: the epoch that was kept, `provenance`.

    Returns
    -------
    dict
        JSON-serializable card.
    """
    probe = np.asarray(probe, np.complex64)
    return {
        "method": method,
        "n_pixels": n_pixels,
        "channels": channels,
        "transmittance": transmittance,
        "probe": array_digest(probe),
        "probe_photons": float(np.sum(np.abs(probe) ** 2, dtype=np.float64)),
        "versions": versions("ptycho", "tensorflow", "keras", "numpy"),
        **facts,
    }


def save_network(path: StrPath, network: keras.Model, card: dict[str, Any], probe: ArrayLike) -> None:
    """Write a `.keras` file with its card and the probe of the training; it is complete or absent."""
    with replacing(path) as temporary:
        network.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(CARD, json.dumps(card, indent=2))
            with archive.open(PROBE, "w") as member:
                np.lib.format.write_array(member, np.asarray(probe, np.complex64), allow_pickle=False)


def read_probe(path: StrPath) -> NDArray[np.complex64]:
    """Read the probe of a saved model's training, (modes, N, N) [sqrt(photon)].

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is not an archive, or has no probe.
    """
    try:
        with zipfile.ZipFile(Path(path)) as archive, archive.open(PROBE) as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ContractError(f"{path}: no '{PROBE}' that can be read ({error})") from None


def read_card(path: StrPath) -> dict[str, Any]:
    """Read the card of a saved model; the network is not loaded.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is not an archive, has no card, or was saved by ptycho 0.1.
    """
    try:
        with zipfile.ZipFile(Path(path)) as archive:
            card = json.loads(archive.read(CARD))
    except KeyError:
        raise ContractError(f"{path}: no '{CARD}' in it: saved by something else, or saved again by Keras") from None
    except (OSError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ContractError(f"{path}: not a saved model ({error})") from None
    if "transmittance" not in card:
        raise ContractError(f"{path}: a model saved by ptycho 0.1, which this version does not read: train it again")
    return card


def load_network(path: StrPath) -> keras.Model:
    """Load a `.keras` file in safe mode; the card may be missing, as in files saved by Keras itself.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is not a Keras model, was saved by ptycho 0.1, or contains layers of another package.
    """
    if _has_card(path):
        read_card(path)
    try:
        return keras.saving.load_model(path, safe_mode=True, compile=False)
    except Exception as error:  # Keras raises whatever its reader of archives, JSON or HDF5 does
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise ContractError(f"{path}: not a model that can be loaded ({type(error).__name__}: {reason})") from error


def _has_card(path: StrPath) -> bool:
    try:
        with zipfile.ZipFile(Path(path)) as archive:
            return CARD in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
