"""Scans of ptychodus: a diffraction file and a product, HDF5 or NPZ, in one file or two."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.geometry import wavelength_of
from ptycho.formats.inputs import Inputs, KeyedFile, numbers
from ptycho.formats.layouts import open_frames, read_file_mask
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, Geometry, OpenConvention, RawFrames, RawObject, RawScan
from ptycho.workflow.files import ContractError

BEFORE, SINCE = "before-1.7", "since-1.7"
"""Versions that take the object's center at size / 2, and at (size - 1) / 2."""
WINDOW_OFFSETS_PX = (0.0, 0.5)
"""A position is pixel N/2 of its window, or, as pty-chi 2.1 has it, (N - 1)/2, which is half a pixel before."""
POSITIONS = ("probe_position_x_m", "probe_position_y_m")
KEYS = {"frame_numbers": "indexes", "position_numbers": "probe_position_indexes"}
"""Field of a scan -> its key."""


def recognizes(inputs: Inputs) -> bool:
    """Whether there are the patterns of a diffraction file, or a product without other frames."""
    return inputs.find("patterns") is not None or (inputs.find(*POSITIONS) is not None and inputs.find("dp") is None)


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open patterns and product; they are matched by their indexes.

    Raises
    ------
    ContractError
        If there is no product, or something in it is missing or has another shape.
    """
    diffraction, product = inputs.find("patterns"), inputs.find(*POSITIONS)
    if diffraction is None:
        raise ContractError(f"{inputs.name}: a product without patterns; wanted the file of its diffraction data, too")
    if product is None:
        raise ContractError(f"{inputs.name}: patterns without a product; wanted its file, too: the positions are in it")
    count = math.prod(product.shape(POSITIONS[0]))
    frames, order, _ = open_frames(diffraction, "patterns", count, options, is_specified=True)
    frame_numbers = _indexes(diffraction, "indexes", len(frames))
    has_mask = "bad_pixels" in diffraction
    bad, said = read_file_mask(diffraction, "bad_pixels", options, lambda v: v != 0) if has_mask else (None, [])
    raw = product_scan(product, frames, options, name=inputs.name, frame_numbers=frame_numbers, bad_pixels=bad)
    return replace(raw, conventions=(*raw.conventions, *order, *said))


def product_scan(product: KeyedFile, frames: RawFrames, options: ConversionOptions, **more: Any) -> RawScan:
    """Combine a product with frames.

    Parameters
    ----------
    product : KeyedFile
        With positions, probe, object.
    frames : RawFrames
        The frames.
    options : ConversionOptions
        `variant` and `without_object` are used.
    **more
        Further fields of the scan: name, frame_numbers, bad_pixels.

    Raises
    ------
    ContractError
        If something is missing or has another shape.
    """
    x, y = (numbers(product, key).astype(np.float64).ravel() for key in POSITIONS)
    if len(x) != len(y):
        names = [f"'{key}'" for key in POSITIONS]
        raise ContractError(
            f"{product.path}: {names[0]} has {len(x)} positions but {names[1]} {len(y)}; wanted as many"
        )
    indexes = _indexes(product, "probe_position_indexes", len(x))
    if len(np.unique(indexes)) != len(indexes) and len(x) == len(frames):
        indexes, more["frame_numbers"] = np.arange(len(x)), np.arange(len(x))
    if value_of(product, "far_field") == 0:
        raise ContractError(f"{product.path}: a near-field scan; wanted a far-field one")
    probe = numbers(product, "probe", "uifc") if "probe" in product else None
    obj, said, unknown = _object(product, options)
    return RawScan(
        frames=frames,
        quantity="counts",
        positions=np.stack([x, y], axis=1),
        unit="m",
        position_numbers=indexes,
        probe=probe,
        object=obj,
        geometry=Geometry(
            wavelength_m=_wavelength(product, options),
            distance_m=value_of(product, "detector_object_distance_m") or None,
            object_pixel_m=_pixel(product, "probe") or _pixel(product, "object"),
            object_pixel_side=None if probe is None else probe.shape[-1],
        ),
        conventions=(
            "frames: rows and columns as they are; zero frequency taken at [H/2, W/2]",
            "positions: of the probe on the object, columns along x, rows along y",
            *said,
        ),
        open=tuple(unknown),
        keys={"frames": "patterns", "positions": POSITIONS[0], **KEYS},
        **more,
    )


def _wavelength(file: KeyedFile, options: ConversionOptions) -> float | None:
    """Return the wavelength of the photon energy [m]; None if there is none, or an option gives one."""
    key = next((key for key in ("photon_energy_eV", "probe_energy_eV") if value_of(file, key)), None)
    energy = None if key is None else value_of(file, key)
    if not energy or options.wavelength_m or options.energy_ev:
        return None
    try:
        return wavelength_of(energy, energy, f"{file.path}: '{key}'")
    except ValueError as error:
        raise ContractError(str(error)) from None


def _indexes(file: KeyedFile, key: str, count: int) -> NDArray[np.int64]:
    return np.arange(count) if key not in file else numbers(file, key, "iu").astype(np.int64).ravel()


def value_of(file: KeyedFile, name: str, of: str = "") -> float | None:
    """Return a number that is an attribute in HDF5, or, with the name of what it is of before its own, an array."""
    value = file.attribute(of, name)
    key = f"{of}_{name}" if of else name
    if value is None and key in file:
        value = file.array(key)
    if value is None or not np.size(value):
        return None
    number = np.ravel(value)[0]
    if np.asarray(number).dtype.kind not in "buif" or not np.isfinite(number):
        raise ContractError(f"{file.path}: '{key}' is {number}; wanted a finite number")
    return float(number)


def _pixel(file: KeyedFile, of: str) -> float | None:
    width, height = (value_of(file, f"pixel_{side}_m", of) for side in ("width", "height"))
    if width and height and not np.isclose(width, height, rtol=1e-3):
        raise ContractError(f"{file.path}: {of} pixels of {width:.6g} × {height:.6g} m; wanted square ones")
    return width or height or None


def _object(file: KeyedFile, options: ConversionOptions) -> tuple[RawObject | None, list[str], list[OpenConvention]]:
    """Return the object, where it lies, what was applied, and its center's convention if that is not known."""
    pixel = _pixel(file, "object")
    center = [value_of(file, f"center_{axis}_m", "object") for axis in "xy"]
    if "object" not in file or options.without_object:
        return None, [], []
    array = numbers(file, "object", "uifc")
    version, reason = options.variant, "as asked"
    if version is None:
        version, reason = _version(file)
    asked = OpenConvention(
        "where the center of the object is", f"--variant {BEFORE}, --variant {SINCE}, or --without-object", ("variant",)
    )
    if pixel is None or None in center:
        return RawObject(array=array), [], []
    shift = 0.5 if version == SINCE else 0.0
    origin = [
        middle - pixel * (size / 2 - shift)
        for middle, size in zip(center, array.shape[: -3 if array.ndim > 2 else None : -1], strict=True)
        if middle is not None
    ]
    obj = RawObject(array=array, origin=(origin[0], origin[1]), window_offsets_px=WINDOW_OFFSETS_PX)
    middle = "(size - 1) / 2" if version == SINCE else "size / 2"
    return (obj, [], [asked]) if version is None else (obj, [f"object: center at {middle}, {reason}"], [])


def _version(file: KeyedFile) -> tuple[str | None, str]:
    """Return what the file says about the version that wrote it."""
    if value_of(file, "photon_energy_eV") is not None:
        return SINCE, "as of version 1.7, which names photon_energy_eV"
    if "costs" in file:
        return BEFORE, "as before version 1.7, which named costs"
    return None, ""


FORMAT = Format(name="ptychodus", title="ptychodus", recognizes=recognizes, read=read, variants=(BEFORE, SINCE))
