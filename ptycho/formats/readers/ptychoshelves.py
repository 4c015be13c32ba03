"""Scans of PtychoShelves and fold_slice, in MATLAB files of version 7.3, which are HDF5 with transposed arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.geometry import read_length
from ptycho.formats.inputs import Inputs, KeyedFile, first_of, numbers
from ptycho.formats.layouts import read_file_mask, read_vectors
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, Geometry, RawFrames, RawObject, RawScan, Turn
from ptycho.workflow.files import ContractError

FRAMES, MASK = ("fmag", "p/fmag"), ("fmask", "p/fmask")
"""Where root counts in Fourier order, and their mask, are."""
POSITIONS = "outputs/probe_positions"


def recognizes(inputs: Inputs) -> bool:
    """Whether there are frames in Fourier order, or the outputs of a reconstruction."""
    return any(inputs.find(key) is not None for key in (*FRAMES, POSITIONS))


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open amplitudes with the zero frequency in the corner; exposures are on MATLAB's last axis, h5py's first.

    Raises
    ------
    ContractError
        If frames or positions are missing, or have another shape.
    """
    data = next((file for file in inputs.keyed if first_of(file, *FRAMES) is not None), None)
    result = inputs.find(POSITIONS)
    if data is None or result is None:
        missing = "frames (fmag)" if data is None else f"positions ({POSITIONS})"
        raise ContractError(f"{inputs.name}: no {missing}; wanted the file with them, too")
    key = first_of(data, *FRAMES)
    assert key is not None
    frames = RawFrames(data.frames(key), turn=Turn(swap=True))
    positions = read_vectors(result, POSITIONS, len(frames), columns=True)
    probe = _transposed(numbers(result, "probe", "uifc")) if "probe" in result else None
    mask = first_of(data, *MASK)
    bad_pixels, mask_said = (None, []) if mask is None else read_file_mask(data, mask, options, _is_bad)
    return RawScan(
        name=inputs.name,
        frames=frames,
        quantity="amplitude",
        corner=True,
        positions=positions,
        unit="px",
        probe=None if probe is None else _modes_first(probe),
        object=_object(result, positions, frames.shape[1:]),
        geometry=Geometry(
            wavelength_m=read_length(result, options, "wavelength_m", "p/lambda", "lambda"),
            object_pixel_m=read_length(result, options, "pixel_size_m", "p/dx_spec", "dx_spec"),
        ),
        bad_pixels=None if bad_pixels is None else bad_pixels.T,
        keys={"frames": key, "positions": POSITIONS, "bad_pixels": mask or "fmask"},
        conventions=(
            f"frames: '{key}', amplitudes in Fourier order, MATLAB's axes",
            f"positions: '{POSITIONS}', [x, y] px about the center of the object",
            *mask_said,
        ),
    )


def _transposed(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an array with its axes as MATLAB has them."""
    return np.transpose(array)


def _modes_first(probe: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return (H, W), (H, W, modes) or (H, W, modes, OPR) as (modes, H, W); of OPR modes, the first."""
    probe = probe[..., 0] if probe.ndim == 4 else probe
    return probe if probe.ndim == 2 else np.moveaxis(probe, -1, 0)


def _is_bad(mask: NDArray[Any]) -> NDArray[np.bool_]:
    return mask != 0


def _object(file: KeyedFile, positions: NDArray[np.float64], shape: tuple[int, ...]) -> RawObject | None:
    """Return the object; windows are centered in it, and positions move them from there."""
    if "object" not in file:
        return None
    array = _transposed(numbers(file, "object", "uifc"))
    array = np.moveaxis(array, -1, 0) if array.ndim == 3 else array
    height, width = array.shape[-2:]
    # MATLAB's first pixel of a window, counted from 1, is ceil((object - window) / 2) + position
    y, x = (np.ceil((size - n) / 2) - 1 + n // 2 for size, n in zip((height, width), shape, strict=True))
    return RawObject(array=array, origin=(-float(x), -float(y)))


FORMAT = Format(name="ptychoshelves", title="PtychoShelves", recognizes=recognizes, read=read)
