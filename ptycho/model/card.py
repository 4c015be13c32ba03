"""Model card: the description of a network, saved in its `.keras` archive; saving and loading of both."""

import json
import math
import zipfile
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

import ptycho.model.layers  # noqa: F401 - registers a layer that saved models name
from ptycho.data.npz import SUFFIX, Npz
from ptycho.workflow.archives import Archive
from ptycho.workflow.damage import check_fields, parse_json, reading
from ptycho.workflow.files import ContractError, StrPath, replacing
from ptycho.workflow.provenance import CARD, array_digest, versions

PROBE = "probe.npy"
"""Member of the archive with the probe of the training."""
PROBE_TRAINED = "probe_trained"
"""Key of a card: whether that probe was trained with the network, which is then used with no other."""
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
"""Members that Keras writes: layers and their weights."""
UNLOADABLE = "not a model that can be loaded"
BYTES_PER_WEIGHT = 4
"""Size of a weight in float32."""


def make_card(
    method: str, probe: ArrayLike, *, n_pixels: int, channels: int, transmittance: float, **facts: Any
) -> dict[str, Any]:
    """Describe a network: what is needed to use it, and its provenance.

    Parameters
    ----------
    method : str
        Method that the network belongs to.
    probe : (..., N, N) complex
        Illumination of the training, as it was at its end if it was trained [sqrt(photon)].
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
        with Npz(path) as file:
            probe = file.array(PROBE.removesuffix(SUFFIX))
    except ContractError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ContractError(f"{path}: no '{PROBE}' that can be read ({reason})") from None
    square = probe.ndim == 3 and probe.shape[1] == probe.shape[2] and probe.size > 0
    if probe.dtype.kind != "c" or not square or not np.isfinite(probe).all():
        raise ContractError(
            f"{path}: '{PROBE}' is {probe.dtype} with shape {probe.shape}; wanted finite, complex (modes, N, N)"
        )
    return probe


def read_card(path: StrPath) -> dict[str, Any]:
    """Read the card of a saved model; the network is not loaded.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is not an archive, has no card, or was saved by ptycho 0.1.
    """
    try:
        with Archive(path) as archive:
            content = archive.read(CARD) if CARD in archive.names else None
    except ContractError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ContractError(f"{path}: not a saved model ({reason})") from None
    if content is None:
        raise ContractError(f"{path}: no '{CARD}' in it: saved by something else, or saved again by Keras")
    card = parse_json(content, f"{path}: '{CARD}'")
    if "transmittance" not in card:
        raise ContractError(f"{path}: a model saved by ptycho 0.1, which this version does not read: train it again")
    check_fields(card, f"{path}: '{CARD}'", transmittance=float, n_pixels=int)
    return card


def load_network(path: StrPath) -> keras.Model:
    """Load a `.keras` file in safe mode; the card may be missing, as in files saved by Keras itself.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is not a Keras model, was saved by ptycho 0.1, or contains layers of another package.
    """
    with Archive(path) as archive:
        has_card = CARD in archive.names
        archive.check(*archive.names)
        _check_weights(path, archive)
    if has_card:
        read_card(path)
    with reading(path, problem=UNLOADABLE):
        return keras.saving.load_model(path, safe_mode=True, compile=False)


def _check_weights(path: StrPath, archive: Archive) -> None:
    """Refuse a network that is larger than the weights in its file, before any of them is allocated."""
    content = parse_json(archive.read(CONFIG), f"{path}: '{CONFIG}'")
    stored = archive.info(WEIGHTS).file_size
    with reading(path, problem=UNLOADABLE), keras.StatelessScope(initialize_variables=False):
        network = keras.saving.deserialize_keras_object(content, safe_mode=True)
        wanted = sum(BYTES_PER_WEIGHT * math.prod(variable.shape) for variable in network.variables)
    if wanted > stored:
        raise ContractError(f"{path}: its layers have {wanted} bytes of weights, '{WEIGHTS}' {stored}; wanted as many")
