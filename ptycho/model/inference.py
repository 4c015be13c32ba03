"""Applying a saved network to groups: patches onto a canvas, batch by batch."""

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.canvas import Canvas
from ptycho.loader import PtychoDataContainer
from ptycho.model.layers import ComplexPatches, InverseDiffraction
from ptycho.physics.forward import blocks

_logger = logging.getLogger(__name__)


def gridsize_of(network: keras.Model) -> int:
    """Side of a network's groups: gridsize² patterns."""
    return math.isqrt(network.input_shape[-1])


def check_fit(network: keras.Model, container: PtychoDataContainer) -> None:
    """Compare a network's N and C with the data's.

    Raises
    ------
    ValueError
        If they differ.
    """
    wanted, given = tuple(network.input_shape[1:]), tuple(container.frames.shape[1:])
    if wanted != given:
        raise ValueError(f"the model takes groups of {wanted} (N, N, C), but the data's are {given}")


def probe_warning(network: keras.Model, container: PtychoDataContainer, tolerance: float = 0.01) -> str | None:
    """Return a warning if the probe is not the one of the training, which the first layer keeps; else None.

    A probe of another shape or with other photons is not refused, since no probe is known exactly. The object is
    wrong by about as much as the probe.

    Parameters
    ----------
    tolerance : float
        Of 1 - |<P, Q>| / (‖P‖ ‖Q‖), and of the ratio of the photons.
    """
    layer = next((layer for layer in getattr(network, "layers", ()) if isinstance(layer, InverseDiffraction)), None)
    if layer is None:
        return None
    trained = np.array(layer.probe_real) + 1j * np.array(layer.probe_imag, np.float64)
    probe = np.asarray(container.probe_array, np.complex128)
    trained_photons, photons = (float(np.sum(np.abs(p) ** 2)) for p in (trained, probe))
    correlation = float(np.abs(np.vdot(trained, probe)) / np.sqrt(max(trained_photons * photons, 1e-300)))
    differences = []
    if 1 - correlation > tolerance:
        differences.append(f"another shape (correlation {correlation:.3f})")
    if not abs(photons / max(trained_photons, 1e-300) - 1) <= tolerance:
        differences.append(f"{photons:.4g} photons, not {trained_photons:.4g}")
    return "the data's probe is not the one of the training: " + " and ".join(differences) if differences else None


def add_groups(
    network: keras.Model,
    container: PtychoDataContainer,
    groups: range,
    batch_size: int,
    *,
    folder: Path | None = None,
    label: str = "groups",
) -> Canvas:
    """Add the patches of some groups, weighted by the probe's intensity, to a canvas around them.

    The next batch is read while the network computes. The last one is filled up, so that one compiled function serves
    all; results do not depend on the batch size.

    Parameters
    ----------
    groups : range
        Which groups; may be empty.
    folder : Path, optional
        Where the canvas lives in files, its band in use alone resident; without, it is in memory.
    label : str
        Of the progress bar.

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
    if warning := probe_warning(network, container):
        _logger.warning("%s", warning)
    if not len(groups):
        return Canvas.empty((0, 0), (0, 0))
    xcoords, ycoords = _positions(container, groups)
    n = container.n_pixels
    canvas = Canvas.around(xcoords.ravel(), ycoords.ravel(), n, folder)
    weight = np.abs(container.probe_array) ** 2
    predict = compiled(network)

    def read(block: slice):
        frames = container.frames[groups.start + block.start : groups.start + block.stop]
        return np.pad(frames, ((0, batch_size - len(frames)), (0, 0), (0, 0), (0, 0)))

    with tqdm(total=len(groups), desc=label, unit="group", mininterval=1) as progress:
        for block, frames in _read_ahead(read, blocks(len(groups), batch_size)):
            count = block.stop - block.start
            patches = predict(frames).numpy()[:count].reshape(-1, n, n)
            canvas.add(patches, np.broadcast_to(weight, patches.shape), xcoords[block].ravel(), ycoords[block].ravel())
            progress.update(count)
    return canvas


def _positions(container: PtychoDataContainer, groups: range) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(B, C) float64 columns and rows [px] of some groups' patches: whole-pixel group centers plus rests."""
    part = slice(groups.start, groups.stop)
    positions = (container.global_offsets[part] + container.local_offsets[part])[:, 0]
    return positions[:, 0], positions[:, 1]


@lru_cache(maxsize=4)
def compiled(network: keras.Model):
    """Compile a network, once: (B, n, n, C) patterns to (B, C, n, n) complex64 patches."""
    join = ComplexPatches()

    @tf.function(reduce_retracing=True)
    def predict(frames):
        return tf.transpose(join(network(frames, training=False)), (0, 3, 1, 2))

    return predict


def _read_ahead(read, parts):
    """Yield (part, read(part)); the next part is read in the background."""
    parts = iter(parts)
    with ThreadPoolExecutor(1) as reader:
        part = next(parts)
        pending = reader.submit(read, part)
        for following in parts:
            ready, pending = pending.result(), reader.submit(read, following)
            yield part, ready
            part = following
        yield part, pending.result()


def reconstruct_in_chunks(
    network: keras.Model,
    container: PtychoDataContainer,
    chunk_size: int,
    batch_size: int,
    *,
    folder: Path | None = None,
    label: str = "groups",
) -> Canvas:
    """Add all groups of a container, `chunk_size` at a time, and merge: what the rules do, in one process."""
    groups = range(len(container))
    xcoords, ycoords = _positions(container, groups)
    whole = Canvas.around(xcoords.ravel(), ycoords.ravel(), container.n_pixels, folder)
    for number, block in enumerate(blocks(len(container), chunk_size), start=1):
        name = f"{label}, chunk {number}"
        whole.include(add_groups(network, container, groups[block], batch_size, folder=folder, label=name))
    return whole
