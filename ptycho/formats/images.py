"""Objects and probes of simulated studies: of your own from an NPZ or a pair of images, or calculated beams."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.npz import keys_of
from ptycho.data.object_files import Reconstruction, load_reconstruction, save_reconstruction
from ptycho.formats.image_files import read_image
from ptycho.formats.inputs import numbers, require
from ptycho.formats.npz_files import NpzFile
from ptycho.formats.readers.plain import OBJECT_KEYS, PROBE_KEYS
from ptycho.physics.forward import as_modes
from ptycho.physics.probes import simulate_probe
from ptycho.workflow.files import ContractError, StrPath


def read_object(
    path: StrPath,
    phase_path: StrPath | None = None,
    *,
    amplitude_range: tuple[float, float] = (0.5, 1.0),
    phase_range_rad: tuple[float, float] = (-0.8, 0.8),
) -> tuple[NDArray[np.complex64], NDArray[np.complex64] | None]:
    """Read a sample, and its probe if there is one, from an NPZ or from a pair of TIFF or PNG images.

    Parameters
    ----------
    path : path
        NPZ with `objectGuess` (and `probeGuess`), or the image of the amplitude.
    phase_path : path, optional
        The image of the phase: required with an image, refused with an NPZ.
    amplitude_range, phase_range_rad : (float, float)
        As for `read_image_pair`.

    Returns
    -------
    obj : (H, W) complex64
    probe : (modes, N, N) complex64 or None

    Raises
    ------
    ptycho.workflow.files.ContractError
        If a file is missing or has another format.
    """
    if Path(path).suffix != ".npz":
        if phase_path is None:
            raise ContractError(f"{path}: an image of the amplitude alone; wanted a second image, of the phase")
        return read_image_pair(path, phase_path, amplitude_range=amplitude_range, phase_range_rad=phase_range_rad), None
    if phase_path is not None:
        raise ContractError(f"{path}: an NPZ holds the phase, too; wanted no second file, found {phase_path}")
    file = NpzFile(Path(path))
    key = require(file, *OBJECT_KEYS)
    obj = np.squeeze(numbers(file, key, "uifc"))
    if obj.ndim != 2 or not np.iscomplexobj(obj) or not np.isfinite(obj).all():
        raise ContractError(
            f"{path}: '{key}' is {obj.dtype} with shape {obj.shape}; wanted two axes of finite complex numbers"
        )
    return obj.astype(np.complex64), read_probe(path) if any(key in file for key in PROBE_KEYS) else None


def read_probe(path: StrPath) -> NDArray[np.complex64]:
    """Read a probe, (modes, N, N), from an NPZ with `probeGuess`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If there is none, or it is not complex and square.
    """
    file = NpzFile(Path(path))
    key = require(file, *PROBE_KEYS)
    probe = np.squeeze(numbers(file, key, "uifc"))
    if probe.ndim not in (2, 3) or probe.shape[-1] != probe.shape[-2] or not np.iscomplexobj(probe):
        raise ContractError(
            f"{path}: '{key}' is {probe.dtype} with shape {probe.shape}; wanted complex (N, N) or (modes, N, N)"
        )
    if not np.isfinite(probe).all() or not probe.any():
        raise ContractError(f"{path}: '{key}' holds values that are not finite, or is zero everywhere")
    return as_modes(probe).astype(np.complex64)


def make_probe(kind: str, **options: Any) -> NDArray[np.complex64]:
    """Return the probe of a simulated study, (N, N) or (modes, N, N), with Σ|P|² = 1 if it is calculated.

    Parameters
    ----------
    kind : str
        "file", "gaussian" or "zone_plate".
    **options
        As `read_probe` or `simulate_probe` takes them.

    Raises
    ------
    ValueError
        If the beam does not fit its window; a `ContractError` if the file has no probe.
    """
    return read_probe(**options) if kind == "file" else simulate_probe(kind, **options)


def crop_object(shape: tuple[int, int], path: StrPath, phase_path: StrPath | None = None) -> NDArray[np.complex64]:
    """Read an object, see `read_object`, and return its first rows and columns.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it has fewer, or is no object.
    """
    obj, _ = read_object(path, phase_path)
    cropped = obj[: shape[0], : shape[1]]
    if cropped.shape != shape:
        raise ContractError(
            f"{path}: {obj.shape} px, but this raster scans {shape} px: wanted a smaller raster or a larger object"
        )
    return cropped


def read_image_pair(
    amplitude_path: StrPath,
    phase_path: StrPath,
    *,
    amplitude_range: tuple[float, float] = (0.5, 1.0),
    phase_range_rad: tuple[float, float] = (-0.8, 0.8),
) -> NDArray[np.complex64]:
    """Combine two images of one size to a sample.

    Parameters
    ----------
    amplitude_path, phase_path : path
        TIFF or PNG. Integers (8 or 16 bit) are scaled: 0 becomes the first value of the range, the type's largest value
        the second. Floats are used unchanged, as amplitude and radians. Color becomes luminance.
    amplitude_range, phase_range_rad : (float, float)
        Values of black and white; the second may be smaller than the first.

    Returns
    -------
    (H, W) complex64
        Transmittance.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If an image is missing, unreadable or not two-dimensional, or the sizes differ.
    """
    amplitude = _read_gray(amplitude_path, amplitude_range)
    phase = _read_gray(phase_path, phase_range_rad)
    if amplitude.shape != phase.shape:
        raise ContractError(
            f"{phase_path}: {phase.shape} px, but {amplitude_path} has {amplitude.shape}; wanted one size"
        )
    return (amplitude * np.exp(1j * phase)).astype(np.complex64)


def _read_gray(path: StrPath, limits: tuple[float, float]) -> NDArray[np.float64]:
    image = read_image(path)
    if image.dtype == bool:  # a PNG of one bit
        image = image.astype(np.uint8) * np.uint8(255)
    color = image.ndim == 3 and image.shape[-1] in (3, 4)
    if not color and (image.ndim != 2 or not image.size):
        raise ContractError(f"{path}: an image of shape {image.shape}; wanted two axes of finite gray values")
    scaled = np.issubdtype(image.dtype, np.integer)
    image = image / np.iinfo(image.dtype).max if scaled else image.astype(np.float64)
    if color:
        from skimage.color import rgb2gray  # takes a second to import, which most jobs save

        image = rgb2gray(image[..., :3])
    if not np.isfinite(image).all():
        raise ContractError(f"{path}: an image with values that are not finite; wanted finite gray values")
    return limits[0] + (limits[1] - limits[0]) * image if scaled else image


def import_object(path: StrPath, destination: StrPath, shape: tuple[int, int], **metadata: Any) -> None:
    """Convert a reconstruction, an object file or an NPZ with `objectGuess`, to an object file.

    Parameters
    ----------
    path : path
        The reconstruction.
    destination : path
        Object file to write.
    shape : (int, int)
        Rows and columns of the truth; an `objectGuess` must have the same.
    **metadata
        Further metadata, JSON-serializable; replaces the file's own values of the same names.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file has another format, or the object another shape.
    """
    if "object" in keys_of(path) and "objectGuess" not in keys_of(path):
        reconstruction, known = load_reconstruction(path)
        save_reconstruction(destination, reconstruction, **known | metadata)
        return
    obj, _ = read_object(path)
    if obj.shape != tuple(shape):
        raise ContractError(f"{path}: an object of {obj.shape} px; wanted the truth's {tuple(shape)} px")
    uniform = Reconstruction(object=obj, illumination=np.ones(obj.shape, np.float32), origin_px=(0, 0))
    save_reconstruction(destination, uniform, source=str(path), **metadata)
