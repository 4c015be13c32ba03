"""Objects on disk: what a method returns and how it is saved, and samples read from an NPZ or a pair of images."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.data.formats.arrays import OBJECT_KEYS, PROBE_KEYS, load_plain, take
from ptycho.data.npz import check_keys, keys_of, load_arrays, row_blocks, save_arrays
from ptycho.physics.forward import as_modes
from ptycho.workflow.files import ContractError, save_table

KEYS = ("object", "illumination", "origin_px", "metadata")
"""Arrays of an object file; `probe` is there too where a method has refined it."""


@dataclass(frozen=True, kw_only=True)
class Refined:
    """What a method has changed of what it was given; None for what it has kept."""

    probe: NDArray[np.complex64] | None = None
    """(modes, N, N) [sqrt(photon)]."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What every method returns for a view."""

    object: NDArray[np.complex64]
    """(H, W) transmittance."""
    illumination: NDArray[np.floating]
    """(H, W) incident photons [photon/px]; of merged patches the sum of their weights, probe intensities."""
    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""
    history: pd.DataFrame | None = None
    """Progress, a row a step; columns as the method documents them."""
    refined: Refined | None = None
    """What was refined; None where probe and positions are as given."""
    cpu_s: float | None = None
    """CPU time of the reconstruction, training and start-up left out [s]."""
    chosen: Mapping[str, float] = field(default_factory=dict)
    """Numbers that the method has chosen by itself, such as `tv_weight` or `best_epoch`."""


def save_reconstruction(path, reconstruction: Reconstruction, *, history=None, **metadata: Any) -> None:
    """Write a reconstruction as an object file, and its history as a CSV; each is whole or not there.

    Parameters
    ----------
    path : path
        NPZ with the arrays `KEYS`.
    history : path, optional
        Where `reconstruction.history` goes.
    **metadata
        What JSON can say, such as `method` and `provenance`; cost and chosen numbers are added.
    """
    weight = np.asanyarray(reconstruction.illumination)
    illumination = np.empty(weight.shape, np.float32)
    for rows in row_blocks(weight):  # of a canvas in a file, a block at a time
        illumination[rows] = weight[rows]
    known = {**reconstruction.chosen} | ({} if reconstruction.cpu_s is None else {"cpu_s": reconstruction.cpu_s})
    probe = reconstruction.refined.probe if reconstruction.refined else None
    if history is not None:
        save_table(history, reconstruction.history)
    save_arrays(
        path,
        object=np.asarray(reconstruction.object, np.complex64),
        illumination=illumination,
        origin_px=np.asarray(reconstruction.origin_px, np.int64),
        **({} if probe is None else {"probe": probe}),
        metadata=np.array(json.dumps({**known, **metadata})),
    )


def load_reconstruction(path) -> tuple[Reconstruction, dict]:
    """Read an object file; its history is a file of its own and is not read.

    Returns
    -------
    reconstruction : Reconstruction
    metadata : dict
        All that was saved with it.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing, damaged, something else, or was written by ptycho 0.1.
    """
    check_keys(path, KEYS, old={"weight"})
    obj, illumination, origin, text = load_arrays(path, *KEYS)
    metadata = json.loads(str(text))
    probe = load_arrays(path, "probe")[0] if "probe" in keys_of(path) else None
    return (
        Reconstruction(
            object=obj,
            illumination=illumination,
            origin_px=tuple(origin.tolist()),
            refined=None if probe is None else Refined(probe=probe),
            cpu_s=metadata.get("cpu_s"),
        ),
        metadata,
    )


def paste(obj, origin_px: tuple[int, int], shape: tuple[int, int], fill: complex = 1.0):
    """Put an object on a larger or smaller grid whose first pixel is (0, 0); `fill` where it has nothing.

    Parameters
    ----------
    obj : (h, w) array
    origin_px : (int, int)
        Row and column of its first pixel on the grid.
    shape : (int, int)
        Rows and columns of the grid.
    """
    whole = np.full(shape, fill, obj.dtype)
    y, x = origin_px
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + obj.shape[0], shape[0]), min(x + obj.shape[1], shape[1])
    whole[top:bottom, left:right] = obj[top - y : bottom - y, left - x : right - x]
    return whole


def read_object(path, phase_path=None, *, amplitude_range=(0.5, 1.0), phase_range_rad=(-0.8, 0.8)):
    """Read a sample, and the probe where there is one: an NPZ, or a TIFF or PNG pair.

    Parameters
    ----------
    path : Path
        NPZ with `objectGuess` (and `probeGuess`), or the amplitude's image.
    phase_path : Path, optional
        The phase's image; required with an image, refused with an NPZ.
    amplitude_range, phase_range_rad : (float, float)
        As in `read_image_pair`.

    Returns
    -------
    obj : (H, W) complex64
    probe : (modes, N, N) complex64 or None

    Raises
    ------
    ptycho.workflow.files.ContractError
        If a file is missing or something else.
    """
    if Path(path).suffix != ".npz":
        if phase_path is None:
            raise ContractError(f"{path}: an image of the amplitude alone; wanted a second image, of the phase")
        return read_image_pair(path, phase_path, amplitude_range=amplitude_range, phase_range_rad=phase_range_rad), None
    if phase_path is not None:
        raise ContractError(f"{path}: an NPZ holds the phase too; wanted no second file, got {phase_path}")
    arrays = load_plain(path, path)
    key, obj = take(arrays, OBJECT_KEYS, path)
    obj = np.squeeze(obj)
    if obj.ndim != 2 or not np.iscomplexobj(obj) or not np.isfinite(obj).all():
        raise ContractError(
            f"{path}: '{key}' is {obj.dtype} with shape {obj.shape}; wanted two axes of finite complex numbers"
        )
    probe = next((np.squeeze(arrays[key]) for key in PROBE_KEYS if key in arrays), None)
    return obj.astype(np.complex64), None if probe is None else as_modes(probe).astype(np.complex64)


def read_probe(path):
    """Read a probe, (modes, N, N) complex64, from an NPZ with `probeGuess`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If there is none, or it is not square.
    """
    key, probe = take(load_plain(path, path), PROBE_KEYS, path)
    probe = np.squeeze(probe)
    if probe.ndim not in (2, 3) or probe.shape[-1] != probe.shape[-2] or not np.iscomplexobj(probe):
        raise ContractError(
            f"{path}: '{key}' is {probe.dtype} with shape {probe.shape}; wanted complex (N, N) or (modes, N, N)"
        )
    return as_modes(probe).astype(np.complex64)


def import_object(path, destination, shape: tuple[int, int], **metadata: Any) -> None:
    """Write a reconstruction, a study's `object.npz` or an NPZ with `objectGuess`, as an object file.

    Parameters
    ----------
    shape : (int, int)
        Of the truth's object plane, which an `objectGuess` has to cover.
    **metadata
        Further metadata, as JSON can say it; what the file says under the same names is replaced.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is something else, or of another shape.
    """
    if "object" in keys_of(path) and "objectGuess" not in keys_of(path):
        reconstruction, known = load_reconstruction(path)
        save_reconstruction(destination, reconstruction, **known | metadata)
        return
    obj, _ = read_object(path)
    if obj.shape != tuple(shape):
        raise ContractError(f"{path}: an object of {obj.shape} px; wanted the truth's {tuple(shape)} px")
    flat = Reconstruction(object=obj, illumination=np.ones(obj.shape, np.float32), origin_px=(0, 0))
    save_reconstruction(destination, flat, source=str(path), **metadata)


def read_image_pair(amplitude_path, phase_path, *, amplitude_range=(0.5, 1.0), phase_range_rad=(-0.8, 0.8)):
    """Make a sample of two images of one size.

    Parameters
    ----------
    amplitude_path, phase_path : Path
        TIFF or PNG. Integers (8, 16 bit) are scaled: 0 becomes the range's first value, the type's largest its second.
        Floats are taken as they are: amplitude, and radians. Color becomes luminance.
    amplitude_range, phase_range_rad : (float, float)
        Values of black and white; a range may fall.

    Returns
    -------
    (H, W) complex64
        Transmittance.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If an image is missing, unreadable or not flat, or the sizes differ.
    """
    amplitude = _gray(amplitude_path, amplitude_range)
    phase = _gray(phase_path, phase_range_rad)
    if amplitude.shape != phase.shape:
        raise ContractError(
            f"{phase_path}: {phase.shape} px, but {amplitude_path} has {amplitude.shape}; wanted one size"
        )
    return (amplitude * np.exp(1j * phase)).astype(np.complex64)


def _gray(path, limits):
    from skimage.color import rgb2gray  # a second of imports that most jobs do without
    from skimage.io import imread

    try:
        image = np.squeeze(imread(path))
    except (OSError, ValueError, SyntaxError) as error:
        raise ContractError(f"{path}: {str(error).splitlines()[0]}; wanted a TIFF or PNG image") from None
    scaled = np.issubdtype(image.dtype, np.integer)
    image = image / np.iinfo(image.dtype).max if scaled else image.astype(np.float64)
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        image = rgb2gray(image[..., :3])
    if image.ndim != 2 or not np.isfinite(image).all():
        raise ContractError(f"{path}: an image of shape {image.shape}; wanted two axes of finite gray values")
    return limits[0] + (limits[1] - limits[0]) * image if scaled else image
