"""Applying a saved network to groups: patches onto a canvas, batch by batch."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import ptycho.model.layers  # noqa: F401 - registers the layers that saved models name
from ptycho.loader import PtychoDataContainer
from ptycho.physics import blocks
from ptycho.stitch import Canvas


def load_network(path: Path) -> keras.Model:
    """Load a `.keras` file in safe mode."""
    return keras.saving.load_model(path, safe_mode=True, compile=False)


def check_fit(network: keras.Model, container: PtychoDataContainer) -> None:
    """Hold a network's N and C against the data's.

    Raises
    ------
    ValueError
        If they differ.
    """
    wanted, found = tuple(network.input_shape[1:]), tuple(container._X_np.shape[1:])
    if wanted != found:
        raise ValueError(f"the model takes groups of {wanted} (N, N, C), but the data's are {found}")


def add_groups(network: keras.Model, container: PtychoDataContainer, groups: range, batch_size: int) -> Canvas:
    """Add the patches of some groups, weighted by the probe's intensity, to a canvas around them.

    The last batch is filled up, so that one compiled function serves all; results do not depend on the batch size.

    Parameters
    ----------
    groups : range
        Which groups; may be empty.

    Returns
    -------
    Canvas
        Over the bounding box of these groups' windows.

    Raises
    ------
    ValueError
        If the network was made for another N or C.
    """
    check_fit(network, container)
    part = np.s_[groups.start : groups.stop]
    # whole-pixel group centres plus rests: (B, C), float64
    positions = (container.global_offsets[part] + container.local_offsets[part])[:, 0]
    xcoords, ycoords = positions[:, 0], positions[:, 1]
    n = container._X_np.shape[1]
    if not len(groups):
        return Canvas(np.zeros((0, 0), np.complex128), np.zeros((0, 0)), (0, 0))
    canvas = Canvas.around(xcoords.ravel(), ycoords.ravel(), n)
    weight = np.abs(np.asarray(container._probe_np)) ** 2
    predict = tf.function(lambda batch: network(batch, training=False), reduce_retracing=True)
    for block in tqdm(list(blocks(len(groups), batch_size)), desc="groups", unit="batch", mininterval=2):
        frames = container._X_np[groups.start + block.start : groups.start + block.stop]
        full = np.concatenate([frames, np.zeros((batch_size - len(frames), *frames.shape[1:]), frames.dtype)])
        amplitude, phase = np.split(predict(tf.constant(full)).numpy()[: len(frames)].astype(np.float64), 2, axis=-1)
        patches = np.moveaxis(amplitude * np.exp(1j * phase), -1, 1).reshape(-1, n, n)
        weights = np.broadcast_to(weight, patches.shape)
        canvas.add(patches, weights, xcoords[block].ravel(), ycoords[block].ravel())
    return canvas
