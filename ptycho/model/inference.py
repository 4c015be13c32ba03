"""Inference: a network's patches of all groups on a canvas, batch by batch."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.canvas import Canvas
from ptycho.loader import PtychoDataContainer
from ptycho.model.layers import ComplexPatches, InverseDiffraction
from ptycho.physics.forward import blocks
from ptycho.workflow.files import StrPath

_logger = logging.getLogger(__name__)


def gridsize_of(network: keras.Model) -> int:
    """Side of a network's groups: gridsize² patterns."""
    return math.isqrt(network.input_shape[-1])


def check_fit(network: keras.Model, container: PtychoDataContainer) -> None:
    """Check that a network and the data have the same N and C.

    Raises
    ------
    ValueError
        If they differ.
    """
    wanted, given = tuple(network.input_shape[1:]), tuple(container.frames.shape[1:])
    if wanted != given:
        raise ValueError(f"the model takes groups of {wanted} (N, N, C), but the data's are {given}")


def probe_warning(network: keras.Model, container: PtychoDataContainer, tolerance: float = 0.01) -> str | None:
    """Return a warning if the data's probe is not that of the training, which the first layer stores; else None.

    A probe with another shape or other photons is not refused, since no probe is known exactly. The error of the object
    is about that of the probe.

    Parameters
    ----------
    network : keras.Model
        Trained network.
    container : PtychoDataContainer
        Data with a probe.
    tolerance : float
        Largest 1 - |<P, Q>| / (‖P‖ ‖Q‖) without a warning, and largest relative difference of the photons.
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
    folder: StrPath | None = None,
    label: str = "groups",
) -> Canvas:
    """Add the patches of some groups, weighted by the probe's intensity, to a canvas around them.

    The next batch is read while the network computes. The last batch is padded, so that one compiled function serves
    all; results do not depend on the batch size.

    Parameters
    ----------
    network : keras.Model
        Patterns to patches, see `ptycho.model.networks.build_network`.
    container : PtychoDataContainer
        Groups of a scan.
    groups : range
        Indices of the groups; may be empty.
    batch_size : int
        Groups that are predicted at once.
    folder : path, optional
        Folder for a canvas in files, of which only the rows in use are in memory; default: in memory.
    label : str
        Name in the progress bar.

    Returns
    -------
    Canvas
        Patches over the bounding box of these groups' windows.

    Raises
    ------
    ValueError
        If the network was built for another N or C.
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

    def read(block: slice) -> NDArray[np.float32]:
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
    """Return columns and rows of the patch centers of some groups, (B, C) each [px]."""
    part = slice(groups.start, groups.stop)
    positions = (container.global_offsets[part] + container.local_offsets[part])[:, 0]
    return positions[:, 0], positions[:, 1]


@lru_cache(maxsize=4)
def compiled(network: keras.Model) -> Callable[[NDArray[np.float32]], tf.Tensor]:
    """Compile a network, once: (B, n, n, C) patterns to (B, C, n, n) complex64 patches."""
    join = ComplexPatches()

    @tf.function(reduce_retracing=True)
    def predict(frames: tf.Tensor) -> tf.Tensor:
        return tf.transpose(join(network(frames, training=False)), (0, 3, 1, 2))

    return predict


def _read_ahead(
    read: Callable[[slice], NDArray[np.float32]], parts: Iterable[slice]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
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
    folder: StrPath | None = None,
    label: str = "groups",
) -> Canvas:
    """Add all groups of a container to a canvas in chunks: what the rules of the workflow do, in one process.

    Parameters
    ----------
    network : keras.Model
        Patterns to patches, see `ptycho.model.networks.build_network`.
    container : PtychoDataContainer
        Groups of a scan.
    chunk_size : int
        Groups with a canvas of their own, which is then added to the whole.
    batch_size : int
        Groups that are predicted at once.
    folder : path, optional
        Folder for canvases in files; default: in memory.
    label : str
        Name in the progress bar.

    Returns
    -------
    Canvas
        Patches over the bounding box of all windows; it does not depend on the sizes of chunks and batches.
    """
    groups = range(len(container))
    xcoords, ycoords = _positions(container, groups)
    whole = Canvas.around(xcoords.ravel(), ycoords.ravel(), container.n_pixels, folder)
    for number, block in enumerate(blocks(len(container), chunk_size), start=1):
        name = f"{label}, chunk {number}"
        whole.include(add_groups(network, container, groups[block], batch_size, folder=folder, label=name))
    return whole
