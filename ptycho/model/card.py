"""What a saved model says of itself: a card in its `.keras` archive, so that one file is enough."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np

from ptycho.files import replacing
from ptycho.npz import ContractError
from ptycho.provenance import CARD, array_digest, versions


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
        Further ones that JSON can say: the epoch that was kept, and `provenance`, what made it.
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
            archive.writestr(CARD, json.dumps(card, indent=2))


def read_card(path) -> dict:
    """Read the card of a saved model; no TensorFlow function is run.

    Raises
    ------
    ptycho.npz.ContractError
        If the file is no archive, or has no card.
    """
    try:
        with zipfile.ZipFile(Path(path)) as archive:
            return json.loads(archive.read(CARD))
    except KeyError:
        raise ContractError(f"{path}: no '{CARD}' in it: saved by something else, or saved again by Keras") from None
    except (OSError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ContractError(f"{path}: not a saved model ({error})") from None
