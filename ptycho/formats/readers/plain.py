"""Scans in an NPZ or HDF5 file of your own, or of the contract, also in an older layout of it."""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.contract import LENGTHS
from ptycho.formats.inputs import Inputs, KeyedFile, first_of, numbers, require, skipped
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, Geometry, OpenConvention, Quantity, RawFrames, RawObject, RawScan
from ptycho.workflow.files import ContractError

FRAME_KEYS: dict[str, Quantity | None] = {
    "diffraction": None,
    "diff3d": None,
    "intensity": "counts",
    "counts": "counts",
}
"""Keys under which frames are found, in this order, and what the name says about them."""
PROBE_KEYS, OBJECT_KEYS = ("probeGuess", "probe"), ("objectGuess", "object")
"""Keys of probe and object, in this order."""
NUMBER_KEYS = ("position_index", "scan_index", "indexes")
"""Keys of the position of every frame, by its number, where there are not as many positions as frames."""


def recognizes(inputs: Inputs) -> bool:
    """Whether there is one file with frames, or with positions under our names."""
    return len(inputs.paths) == 1 and any(inputs.find(key) is not None for key in (*FRAME_KEYS, "xcoords", "ycoords"))


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open a scan with frames, `xcoords`, `ycoords` [px] and a probe.

    Raises
    ------
    ContractError
        If a key is missing, or an array has the wrong shape.
    """
    file = inputs.keyed[0]
    key = require(file, *FRAME_KEYS)
    positions = read_positions(file)
    frames, order, unknown_order = open_frames(file, key, len(positions), options)
    probe_key, object_key = first_of(file, *PROBE_KEYS), first_of(file, *OBJECT_KEYS)
    bad_pixels, mask_conventions = read_bad_pixels(file, options)
    frame_numbers = read_frame_numbers(file, len(frames), len(positions))
    background, flux = (numbers(file, name) if name in file else None for name in ("background", "exposure_scale"))
    earlier = read_earlier(file)
    index = numbers(file, "scan_index", "iu").ravel() if earlier and "scan_index" in file else None
    return RawScan(
        name=inputs.name,
        frames=frames,
        quantity=FRAME_KEYS[key],
        positions=positions,
        unit=None,
        frame_numbers=frame_numbers,
        probe=None if probe_key is None else np.squeeze(numbers(file, probe_key, "uifc")),
        probe_key=probe_key or "probe",
        object=None if object_key is None else RawObject(array=numbers(file, object_key, "uifc")),
        object_key=object_key or "object",
        bad_pixels=bad_pixels,
        background=None if background is None else np.squeeze(background),
        exposure_scale=None if flux is None else flux.ravel(),
        geometry=Geometry(object_pixel_m=earlier.get("pixel_size_m"), wavelength_m=earlier.get("wavelength_m")),
        keys={} if "bad_pixels" in file else {"bad_pixels": "mask"},
        conventions=(f"frames: '{key}'", *order, *skipped(file), *_said(earlier)),
        earlier=earlier,
        scan_index=None if index is None or len(index) != len(frames) else index.astype(np.int64),
        open=(*unknown_order, *mask_conventions),
    )


def read_earlier(file: KeyedFile) -> dict[str, Any]:
    """Return source, steps and lengths of a scan that has been converted before; empty for any other file."""
    if "metadata" not in file or file.array("metadata").dtype.kind != "U":
        return {}
    try:
        metadata = json.loads(str(file.array("metadata")))
    except (ValueError, RecursionError):
        return {}
    steps = metadata.get("conversion") if isinstance(metadata, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        return {}
    known = {key: metadata[key] for key in LENGTHS if _is_positive(metadata.get(key))}
    return {"source": str(metadata.get("source", file.path.name)), "conversion": steps, **known}


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _said(earlier: dict[str, Any]) -> list[str]:
    return [f"converted before, from {earlier['source']}: lengths and steps are kept"] if earlier else []


def read_positions(file: KeyedFile, keys: tuple[str, str] = ("xcoords", "ycoords")) -> NDArray[np.float64]:
    """Read x and y from two arrays, (K, 2).

    Raises
    ------
    ContractError
        If one is missing, or they have other lengths or no numbers.
    """
    axes = [numbers(file, require(file, key)) for key in keys]
    x, y = (axis.astype(np.float64).ravel() for axis in axes)
    if len(x) != len(y):
        raise ContractError(f"{file.path}: {len(x)} x-coordinates but {len(y)} y-coordinates")
    return np.stack([x, y], axis=1)


def open_frames(
    file: KeyedFile, key: str, n_positions: int, options: ConversionOptions
) -> tuple[RawFrames, list[str], list[OpenConvention]]:
    """Open frames whose exposures are on the first or on the last axis.

    Parameters
    ----------
    file : KeyedFile
        The file.
    key : str
        Where its frames are.
    n_positions : int
        Number of positions: that of the exposures, as a rule.
    options : ConversionOptions
        `frames_last` decides where it is set.

    Returns
    -------
    frames : RawFrames
    conventions : list of str
        What was done.
    open : list of OpenConvention
        The order, if it cannot be known.

    Raises
    ------
    ContractError
        If there are fewer than three axes, or no numbers.
    """
    shape = tuple(side for side in file.shape(key))
    if len(shape) < 3:
        raise ContractError(f"{file.path}: '{key}' has shape {shape}; wanted (M, N, N) or (N, N, M)")
    last, ambiguous = _frames_last(shape, n_positions)
    unknown = []
    if ambiguous:
        unknown.append(
            OpenConvention(f"which axis of '{key}', {shape}, has the exposures", "--frames-last or --frames-first", ())
        )
    if options.frames_last is not None:
        last, unknown = options.frames_last, []
    source = file.frames(key, last)
    if source.dtype.kind not in "buif":
        raise ContractError(f"{file.path}: '{key}' is {source.dtype}; wanted counts or amplitudes")
    said = [f"frames: exposures moved from the last axis of {shape} to the first"] if last else []
    return RawFrames(source, last=last), said, unknown


def _frames_last(shape: tuple[int, ...], n_positions: int) -> tuple[bool, bool]:
    """Return whether exposures are on the last axis, and whether that is a guess."""
    if len(shape) != 3:
        return False, False
    by_count = shape[0] == n_positions, shape[2] == n_positions
    by_square = shape[1] == shape[2], shape[0] == shape[1]
    says = [pair[1] for pair in (by_count, by_square) if pair[0] != pair[1]]
    if len(says) == 2 and says[0] != says[1]:
        return False, True
    return (says[0], False) if says else (False, any(by_count + by_square))


def read_frame_numbers(file: KeyedFile, count: int, given: int) -> NDArray[np.int64] | None:
    """Return the number of the position of each frame; None if there are as many positions, or no numbers."""
    for key in NUMBER_KEYS:
        if given != count and key in file and file.shape(key) == (count,):
            values = file.array(key)
            if values.dtype.kind in "iu" and len(np.unique(values)) == count:
                return values.astype(np.int64)
    return None


def read_bad_pixels(
    file: KeyedFile, options: ConversionOptions
) -> tuple[NDArray[np.bool_] | None, list[OpenConvention]]:
    """Read `bad_pixels` (True is bad) or `mask`, of which the options have to say what it marks."""
    if "bad_pixels" in file:
        return np.squeeze(numbers(file, "bad_pixels", "buif")) != 0, []
    if "mask" not in file:
        return None, []
    marked = np.squeeze(numbers(file, "mask", "buif")) != 0
    asked = OpenConvention("which pixels 'mask' marks", "--mask-marks bad or --mask-marks good", ("mask_marks",))
    return (~marked if options.mask_marks == "good" else marked), [asked]


FORMAT = Format(name="plain", title="plain NPZ or HDF5", recognizes=recognizes, read=read)
