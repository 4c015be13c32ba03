"""Masks and backgrounds in files of their own: NPY, NPZ, HDF5, TIFF, PNG; the mask and background of a conversion."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.contract import MAX_PHOTONS
from ptycho.data.npz import read_header
from ptycho.formats.image_files import SUFFIXES, read_image
from ptycho.formats.inputs import TABLES, Inputs, check_size
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import RawScan
from ptycho.workflow.damage import reading, require_file
from ptycho.workflow.files import ContractError

FROM_FRAMES = "frames"
"""The flux that is in proportion to the photons of the exposures."""


def read_npy(path: Path) -> NDArray[Any]:
    """Read a `.npy`; pickles are refused.

    Raises
    ------
    ContractError
        If it is missing, damaged, or pickled.
    """
    require_file(path)
    with reading(path), path.open("rb") as file:
        shape, _, dtype = read_header(file)
        if dtype.hasobject or dtype.kind not in "buifc":
            raise ContractError(f"{path}: an array of {dtype}; wanted numbers, and pickles are never read")
        check_size(path, "the array", shape, dtype)
        size, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
        if size != there:
            raise ContractError(f"{path}: {dtype} with shape {shape} by its header, {size} bytes; the file has {there}")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def read_plane(path: Path, keys: tuple[str, ...], follow_links: bool = False) -> tuple[str, NDArray[Any]]:
    """Read an image of the detector; return the key that it was found under, and the array without axes of length 1.

    Parameters
    ----------
    path : path
        NPY, TIFF, PNG, or an NPZ or HDF5 file that has one of the keys, or one array.
    keys : tuple of str
        Tried in this order.
    follow_links : bool
        Read files in other folders that the file links to.

    Raises
    ------
    ContractError
        If the file is missing, damaged, or has no such array.
    """
    if path.suffix == ".npy":
        return "", np.squeeze(read_npy(path))
    if path.suffix.lower() in SUFFIXES:
        return "", read_image(path, "buif")
    with Inputs([path], follow_links) as inputs:
        if not inputs.keyed:
            raise ContractError(f"{path}: wanted an NPY, NPZ, HDF5, TIFF or PNG file")
        file = inputs.keyed[0]
        only = file.names() if len(file.names()) == 1 else []
        key = next((key for key in (*keys, *only) if key in file), None)
        if key is None:
            raise ContractError(f"{path}: no key {' or '.join(map(repr, keys))}; found {file.names()}")
        return key, np.squeeze(file.array(key))


def read_vector(path: Path, keys: tuple[str, ...], follow_links: bool = False) -> NDArray[np.float64]:
    """Read a number for each exposure, from a text file, or as `read_plane` does, (M,).

    Raises
    ------
    ContractError
        If the file is missing, damaged, or has no such array.
    """
    if path.suffix.lower() in TABLES:
        require_file(path)
        with reading(path):
            return np.loadtxt(path, np.float64, ndmin=1, encoding="utf-8").ravel()
    key, values = read_plane(path, keys, follow_links)
    if values.dtype.kind not in "uif":
        raise ContractError(f"{path}: '{key}' is {values.dtype}; wanted numbers")
    return values.astype(np.float64).ravel()


def read_mask(raw: RawScan, options: ConversionOptions, steps: list[str]) -> NDArray[np.bool_]:
    """Combine the mask of a scan with that of the option; (H, W), True where a pixel is bad.

    Raises
    ------
    ContractError
        If a mask has another shape than the frames, or leaves no pixel.
    """
    shape = raw.frames.shape[1:]
    bad = np.zeros(shape, bool)
    if raw.bad_pixels is not None:
        key = raw.key("bad_pixels")
        bad |= _checked(raw.name, key, raw.bad_pixels, shape)
        _ask_what_is_good(f"{raw.name}: '{key}'", bad, options)
        steps.append(f"mask of the file: {_share(bad)} bad")
    if options.mask is not None:
        key, values = read_plane(options.mask, ("bad_pixels", "mask"), options.follow_links)
        marked = _checked(str(options.mask), key or "mask", values, shape) != 0
        marks = options.mask_marks or "bad"
        more = marked if marks == "bad" else ~marked
        _ask_what_is_good(f"{options.mask}:", more, options)
        bad |= more
        steps.append(f"mask {options.mask.name}, which marks {marks} pixels: {_share(more)} bad")
    if bad.all():
        raise ContractError(f"{raw.name}: the mask leaves no pixel")
    return bad


def read_background(raw: RawScan, options: ConversionOptions, steps: list[str]) -> NDArray[np.float64] | None:
    """Return the mean counts of an exposure that do not come from the sample, (H, W); None without any.

    Raises
    ------
    ContractError
        If it has another shape than the frames, or is negative, not finite, or above `MAX_PHOTONS`.
    """
    shape, name = raw.frames.shape[1:], raw.name
    if options.background is None:
        if raw.background is None:
            return None
        key, values = raw.key("background"), raw.background
    else:
        try:
            key, values = "", np.full(shape, float(options.background))
        except ValueError:
            name = options.background
            key, values = read_plane(Path(name), ("background", "data_dark"), options.follow_links)
    background = _checked(name, key or "background", values, shape).astype(np.float64)
    wrong = background[~((background >= 0) & (background <= MAX_PHOTONS))]  # NaN, too
    if wrong.size:
        what = f"'{key}' holds" if key else "a background of"
        raise ContractError(f"{name}: {what} {wrong[0]:.4g} somewhere; wanted mean counts, 0 to {MAX_PHOTONS:.0e}")
    verb = "added to the frames, and kept" if options.background_subtracted else "kept"
    steps.append(f"background of {background.mean():.4g} mean counts per pixel {verb}")
    return background


def read_flux(
    raw: RawScan, used: NDArray[np.int64], options: ConversionOptions, steps: list[str]
) -> NDArray[np.float64] | None:
    """Return the flux of every exposure of the file, (M,), in any unit; None if the frames alone can show it.

    Parameters
    ----------
    raw : RawScan
        The scan.
    used : (m,) int64
        Exposures that are converted: what stands for the others does not matter.
    options : ConversionOptions
        `exposure_scale` is used.
    steps : list of str
        What is taken is appended.

    Raises
    ------
    ContractError
        If there is another number of values than of frames, or one of them is not above 0.
    """
    name, key, flux, asked = raw.name, raw.key("exposure_scale"), raw.exposure_scale, options.exposure_scale
    if asked == FROM_FRAMES:
        return None
    if asked is not None:
        name, key = asked, "exposure_scale"
        flux = read_vector(Path(asked), (key, "ic"), options.follow_links)
        steps.append(f"flux of the exposures: that of {Path(asked).name}")
    if flux is None:
        return None
    count, frames = len(raw.frames), raw.key("frames")
    if flux.shape != (count,):
        found = f"{len(flux)} values" if flux.ndim == 1 else f"shape {flux.shape}"
        raise ContractError(f"{name}: '{key}' has {found} but '{frames}' {count} frames; wanted one for each")
    scale = flux[used].astype(np.float64)
    wrong = scale[~(np.isfinite(scale) & (scale > 0))]
    if wrong.size:
        raise ContractError(f"{name}: '{key}' holds {wrong[0]:g}; wanted numbers above 0")
    return flux.astype(np.float64)


def _checked(name: str, key: str, plane: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if plane.shape != shape or plane.dtype.kind not in "buif":
        raise ContractError(
            f"{name}: '{key}' is {plane.dtype} with shape {plane.shape}; wanted that of a frame in the file, {shape}"
        )
    return plane


def _ask_what_is_good(name: str, bad: NDArray[np.bool_], options: ConversionOptions) -> None:
    if options.mask_marks is None and 0.5 < bad.mean() < 1:
        raise ContractError(
            f"{name} marks {_share(bad)}; are those the good ones? --mask-marks good, or --mask-marks bad"
        )


def _share(bad: NDArray[np.bool_]) -> str:
    return f"{int(bad.sum())} px ({bad.mean():.2%})"
