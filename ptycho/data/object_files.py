"""Objects from files: an NPZ, or a pair of amplitude and phase images."""

from pathlib import Path

import numpy as np
from skimage.color import rgb2gray
from skimage.io import imread

from ptycho.formats import OBJECT_KEYS, PROBE_KEYS, load_plain, take
from ptycho.npz import ContractError, keys_of
from ptycho.physics import as_modes
from ptycho.stitch import load_object, save_object


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
    ptycho.npz.ContractError
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
    ptycho.npz.ContractError
        If there is none, or it is not square.
    """
    key, probe = take(load_plain(path, path), PROBE_KEYS, path)
    probe = np.squeeze(probe)
    if probe.ndim not in (2, 3) or probe.shape[-1] != probe.shape[-2] or not np.iscomplexobj(probe):
        raise ContractError(
            f"{path}: '{key}' is {probe.dtype} with shape {probe.shape}; wanted complex (N, N) or (modes, N, N)"
        )
    return as_modes(probe).astype(np.complex64)


def import_object(path, destination, shape, **made) -> None:
    """Write a reconstruction, a study's `object.npz` or an NPZ with `objectGuess`, as an object file.

    Parameters
    ----------
    shape : (int, int)
        Of the truth's object plane, which an `objectGuess` has to cover.
    **made
        Further metadata, as JSON can say it; what the file says under the same names is replaced.

    Raises
    ------
    ptycho.npz.ContractError
        If the file is something else, or of another shape.
    """
    if {"object", "weight", "origin_px"} <= set(keys_of(path)):
        obj, weight, origin, metadata = load_object(path)
        return save_object(destination, obj, weight, origin, **metadata | made)
    obj, _ = read_object(path)
    if obj.shape != tuple(shape):
        raise ContractError(f"{path}: an object of {obj.shape} px; wanted the truth's {tuple(shape)} px")
    return save_object(destination, obj, np.ones(obj.shape), (0, 0), source=str(path), **made)


def read_image_pair(amplitude_path, phase_path, *, amplitude_range=(0.5, 1.0), phase_range_rad=(-0.8, 0.8)):
    """Make a sample of two images of one size.

    Parameters
    ----------
    amplitude_path, phase_path : Path
        TIFF or PNG. Integers (8, 16 bit) are scaled: 0 becomes the range's first value, the type's largest its second.
        Floats are taken as they are: amplitude, and radians. Colour becomes luminance.
    amplitude_range, phase_range_rad : (float, float)
        Values of black and white; a range may fall.

    Returns
    -------
    (H, W) complex64
        Transmittance.

    Raises
    ------
    ptycho.npz.ContractError
        If an image is missing, unreadable or not flat, or the sizes differ.
    """
    amplitude = _grey(amplitude_path, amplitude_range)
    phase = _grey(phase_path, phase_range_rad)
    if amplitude.shape != phase.shape:
        raise ContractError(
            f"{phase_path}: {phase.shape} px, but {amplitude_path} has {amplitude.shape}; wanted one size"
        )
    return (amplitude * np.exp(1j * phase)).astype(np.complex64)


def _grey(path, limits):
    try:
        image = np.squeeze(imread(path))
    except (OSError, ValueError, SyntaxError) as error:
        raise ContractError(f"{path}: {str(error).splitlines()[0]}; wanted a TIFF or PNG image") from None
    scaled = np.issubdtype(image.dtype, np.integer)
    image = image / np.iinfo(image.dtype).max if scaled else image.astype(np.float64)
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        image = rgb2gray(image[..., :3])
    if image.ndim != 2 or not np.isfinite(image).all():
        raise ContractError(f"{path}: an image of shape {image.shape}; wanted two axes of finite grey values")
    return limits[0] + (limits[1] - limits[0]) * image if scaled else image
