"""Scans in an NPZ or HDF5 file of your own, or of the contract, also in an older layout of it."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.contract import LENGTHS
from ptycho.formats.inputs import Inputs, KeyedFile, first_of, numbers, require, skipped
from ptycho.formats.layouts import open_frames, read_file_mask
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, Geometry, OpenConvention, Quantity, RawObject, RawScan
from ptycho.workflow.damage import is_of
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
    bad_pixels, mask_said, mask_open = read_bad_pixels(file, options)
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
        keys={"frames": key, "positions": "xcoords"} | ({} if "bad_pixels" in file else {"bad_pixels": "mask"}),
        conventions=(f"frames: '{key}'", *order, *mask_said, *skipped(file), *_said(earlier)),
        earlier=earlier,
        scan_index=None if index is None or len(index) != len(frames) else index.astype(np.int64),
        open=(*unknown_order, *mask_open, *_pickled_probe(file)),
    )


def _pickled_probe(file: KeyedFile) -> list[OpenConvention]:
    """Ask for another probe if the only one is pickled."""
    pickled = [key for key in PROBE_KEYS if key in file.pickled]
    if not pickled or first_of(file, *PROBE_KEYS) is not None:
        return []
    question = f"the probe: '{pickled[0]}' is pickled, and pickles are never read"
    answers = "--probe FILE gives one, --estimate-probe DEFOCUS makes one of the mean pattern"
    return [OpenConvention(question, answers, ("probe", "estimate_probe"))]


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
    return is_of(value, float) and value > 0


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
        raise ContractError(f"{file.path}: '{keys[0]}' has {len(x)} positions but '{keys[1]}' {len(y)}; wanted as many")
    return np.stack([x, y], axis=1)


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
) -> tuple[NDArray[np.bool_] | None, list[str], list[OpenConvention]]:
    """Read `bad_pixels` (True is bad) or `mask`, of which the options have to say what it marks."""
    if "bad_pixels" in file:
        return *read_file_mask(file, "bad_pixels", options, _is_marked), []
    if "mask" not in file:
        return None, [], []
    asked = OpenConvention("which pixels 'mask' marks", "--mask-marks bad or --mask-marks good", ("mask_marks",))
    return *read_file_mask(file, "mask", options, _is_marked, is_open=True), [asked]


def _is_marked(values: NDArray[Any]) -> NDArray[np.bool_]:
    return values != 0


FORMAT = Format(name="plain", title="plain NPZ or HDF5", recognizes=recognizes, read=read)
