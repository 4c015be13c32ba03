"""CXI files: HDF5 in the layout of the Coherent X-ray Imaging Data Bank (Maia, Nature Methods 9, 854, 2012)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.geometry import read_length, wavelength_of
from ptycho.formats.inputs import Inputs, KeyedFile, first_of, numbers, require
from ptycho.formats.layouts import open_frames, read_file_mask, read_vectors
from ptycho.formats.options import POSITIVE, ConversionOptions
from ptycho.formats.raw import JOULE_PER_EV, Format, Geometry, RawScan
from ptycho.workflow.files import ContractError

INSTRUMENT, DETECTOR = "entry_1/instrument_1", "entry_1/instrument_1/detector_1"
DATA = ("entry_1/data_1/data", f"{DETECTOR}/data")
"""Where frames are, in this order."""
TRANSLATION = (
    "entry_1/data_1/translation",
    "entry_1/sample_1/geometry_1/translation",
    f"{DETECTOR}/translation",
)
"""Where positions are, in this order."""
MASK = f"{DETECTOR}/mask"
HAS_SIGNAL = 0x1000
"""Bit of a mask that is set in good pixels: signal above the background."""
SAMPLE, BEAM = "sample", "beam"
"""What `translation` is that of: the sample, as the specification says, or the beam."""


def recognizes(inputs: Inputs) -> bool:
    """Whether there are frames in `entry_1`, or a place for them that is empty."""
    return any(inputs.find(key) is not None for key in (*DATA, "entry_1/data_1", DETECTOR))


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open the first entry of a CXI file.

    Raises
    ------
    ContractError
        If something is missing, pixels are not square, or the energy is not in joule.
    """
    file = next((file for file in inputs.keyed if first_of(file, *DATA) is not None), None)
    if file is None:
        raise ContractError(f"{inputs.name}: neither '{DATA[0]}' nor '{DATA[1]}' leads to an array; wanted frames")
    key = require(file, *DATA)
    slow, fast, in_file = _axes(file)
    moved_key = require(file, *TRANSLATION)
    frames, order, _ = open_frames(file, key, max(file.shape(moved_key), default=0), options, is_specified=True)
    moved = _translation(file, moved_key, len(frames))
    bad_pixels, mask_said = (None, []) if MASK not in file else read_file_mask(file, MASK, options, _is_bad)
    sign = 1.0 if options.variant == BEAM else -1.0
    positions = sign * np.stack([moved @ fast, moved @ slow], axis=1)
    illumination = f"{INSTRUMENT}/source_1/illumination"
    return RawScan(
        name=inputs.name,
        frames=frames,
        quantity="counts",
        positions=positions,
        unit="m",
        probe=numbers(file, illumination, "uifc") if illumination in file else None,
        probe_key=illumination,
        geometry=Geometry(
            wavelength_m=_wavelength(file, options),
            distance_m=read_length(file, options, "distance_m", f"{DETECTOR}/distance"),
            detector_pixel_m=_detector_pixel(file, options),
        ),
        bad_pixels=bad_pixels,
        background=_background(file),
        keys={"frames": key, "positions": moved_key, "bad_pixels": MASK, "background": f"{DETECTOR}/data_dark"},
        conventions=(
            f"frames: '{key}', rows and columns as they are; zero frequency taken at [H/2, W/2]",
            *order,
            f"positions: '{moved_key}' [m] of the {'beam' if sign > 0 else 'sample, negated'}, from "
            f"McStas axes (y up, x to the left, looking downstream) to those of the detector ({in_file})",
            *mask_said,
        ),
    )


def _axes(file: KeyedFile) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Return the unit vectors of rows and columns of the detector, (3,) each, and where they come from."""
    key = f"{DETECTOR}/basis_vectors"
    if key not in file:
        return np.array([0.0, -1.0, 0.0]), np.array([-1.0, 0.0, 0.0]), "rows down, columns to the right, as usual"
    vectors = numbers(file, key).astype(np.float64)
    vectors = vectors if vectors.shape == (2, 3) else vectors.T
    lengths = np.linalg.norm(vectors, axis=-1)
    if vectors.shape != (2, 3) or not (lengths > 0).all():
        raise ContractError(f"{file.path}: '{key}' is {vectors.tolist()}; wanted two vectors of three components")
    slow, fast = vectors / lengths[:, None]
    return slow, fast, "basis_vectors"


def _translation(file: KeyedFile, key: str, n_frames: int) -> NDArray[np.float64]:
    """Return x, y and z of every exposure, (K, 3) [m]."""
    moved = read_vectors(file, key, n_frames, (3, 2))
    still = [axis for axis, span in zip("xyz", np.ptp(moved, axis=0), strict=False) if not span]
    if "z" not in still and moved.shape[1] == 3 and still:
        raise ContractError(
            f"{file.path}: '{key}' has one {' and one '.join(still)} everywhere, but many z; wanted columns x, y, z"
        )
    return np.pad(moved, ((0, 0), (0, 3 - moved.shape[1])))


def _wavelength(file: KeyedFile, options: ConversionOptions) -> float | None:
    wavelength = read_length(file, options, "wavelength_m", f"{INSTRUMENT}/source_1/wavelength")
    if wavelength is not None:
        return wavelength
    energy = read_length(file, options, "wavelength_m", f"{INSTRUMENT}/source_1/energy")
    if energy is None:
        return None
    try:
        return wavelength_of(energy / JOULE_PER_EV, energy, str(file.path), "J")
    except ValueError as error:
        raise ContractError(str(error)) from None


def _detector_pixel(file: KeyedFile, options: ConversionOptions) -> float | None:
    if options.detector_pixel_m is not None:
        return None
    x, y = (read_length(file, options, "detector_pixel_m", f"{DETECTOR}/{axis}_pixel_size") for axis in "xy")
    if x is None and y is None and f"{DETECTOR}/basis_vectors" in file:
        vectors = numbers(file, f"{DETECTOR}/basis_vectors").astype(np.float64)
        y, x = (float(length) for length in np.linalg.norm(vectors if vectors.shape == (2, 3) else vectors.T, axis=-1))
    if x is not None and y is not None and not np.isclose(x, y, rtol=1e-3):
        raise ContractError(
            f"{file.path}: pixels of {x:.6g} × {y:.6g} m, along x and y, of the detector; wanted square ones, or "
            f"{POSITIVE['detector_pixel_m']}, if they are square"
        )
    return x if x is not None else y


def _is_bad(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a bit other than that of good pixels is set."""
    mask = np.nan_to_num(mask, nan=1.0) if mask.dtype.kind == "f" else mask
    return (mask.astype(np.int64) & ~HAS_SIGNAL) != 0


def _background(file: KeyedFile) -> NDArray[np.floating] | None:
    """Return the mean of the dark frames that cdtools writes, (H, W)."""
    key = f"{DETECTOR}/data_dark"
    if key not in file:
        return None
    dark = numbers(file, key)
    return np.nanmean(dark.reshape(-1, *dark.shape[-2:]).astype(np.float64), axis=0)


FORMAT = Format(name="cxi", title="CXI", recognizes=recognizes, read=read, variants=(SAMPLE, BEAM))
