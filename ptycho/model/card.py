"""What a saved model says of itself: a card in its `.keras` archive, so that one file is enough."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np

from ptycho.files import replacing
from ptycho.npz import ContractError
from ptycho.provenance import array_digest, versions

MEMBER = "ptycho.json"
"""Name of the card in the archive; Keras reads the others."""


def make_card(method: str, probe, *, n_pixels: int, channels: int, transmission: float, **facts) -> dict:
    """Write down what is needed to use a network, and what made it.

    Parameters
    ----------
    probe : (..., N, N) complex
        Illumination of the training [sqrt(photon)].
    n_pixels, channels : int
        N, side of a pattern, and C, patterns in a group.
    transmission : float
        Mean amplitude transmittance of the training data: the normalisation.
    **facts
        Further ones that JSON can say: seed, config, code and data digests, the epoch that was kept.
    """
    probe = np.asarray(probe, np.complex64)
    return {
        "method": method,
        "n_pixels": n_pixels,
        "channels": channels,
        "transmission": transmission,
        "probe": array_digest(probe),
        "probe_photons": float(np.sum(np.abs(probe) ** 2, dtype=np.float64)),
        "versions": versions("ptycho", "tensorflow", "keras", "numpy"),
        **facts,
    }


def save_network(path, network: keras.Model, card: dict) -> None:
    """Write a `.keras` file with its card; it is either whole or not there."""
    with replacing(path) as temporary:
        network.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(MEMBER, json.dumps(card, indent=2))


def read_card(path) -> dict:
    """Read the card of a saved model; no TensorFlow function is run.

    Raises
    ------
    ptycho.npz.ContractError
        If the file is no archive, or has no card.
    """
    try:
        with zipfile.ZipFile(Path(path)) as archive:
            return json.loads(archive.read(MEMBER))
    except KeyError:
        raise ContractError(f"{path}: no '{MEMBER}' in it: saved by something else, or saved again by Keras") from None
    except (OSError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ContractError(f"{path}: not a saved model ({error})") from None
