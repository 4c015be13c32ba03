"""What a reader returns, held against itself: types, shapes and sizes, whatever the format."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.raw import RawScan
from ptycho.workflow.files import ContractError
from ptycho.workflow.limits import check_bytes

BYTES_PER_PIXEL = 128
"""Memory that a conversion takes for a pixel of the detector: a frame, the mask, the survey's planes in float64."""
BYTES_PER_EXPOSURE = 128
"""Memory that it takes for an exposure, but for its frame: numbers, positions, photons."""

_KINDS = {"fiu": "numbers", "iu": "integers", "b": "truth values", "cfiu": "numbers, complex or not"}


def check_raw(raw: RawScan) -> None:
    """Refuse arrays of other types and shapes than a scan's, and more than fits into memory.

    Raises
    ------
    ContractError
        At the first such array.
    """
    count, height, width = raw.frames.shape
    if raw.frames.dtype.kind not in "buif" or not height * width:
        raise ContractError(
            f"{raw.name}: the frames are {raw.frames.dtype} of {height} × {width} px; wanted counts or amplitudes"
        )
    check_bytes(raw.name, f"a frame of {height} × {width} px", BYTES_PER_PIXEL * height * width)
    check_bytes(raw.name, f"{count} exposures", BYTES_PER_EXPOSURE * max(count, len(raw.positions)))
    _check_array(raw, raw.key("positions"), raw.positions, "fiu", 2)
    if raw.positions.shape[1] != 2:
        raise ContractError(f"{raw.name}: the positions have shape {raw.positions.shape}; wanted (K, 2)")
    for name, kinds, ndim in (
        ("frame_numbers", "iu", 1),
        ("position_numbers", "iu", 1),
        ("scan_index", "iu", 1),
        ("exposure_scale", "fiu", 1),
        ("bad_pixels", "b", 2),
        ("background", "fiu", 2),
        ("probe", "cfiu", None),
    ):
        _check_array(raw, raw.key(name), getattr(raw, name), kinds, ndim)
    if raw.object is not None:
        _check_array(raw, raw.object_key, raw.object.array, "cfiu", None)
        if raw.object.origin is not None and not np.isfinite(raw.object.origin).all():
            raise ContractError(f"{raw.name}: '{raw.object_key}' lies at {raw.object.origin}; wanted finite numbers")
    _check_lengths(raw)


def _check_array(raw: RawScan, name: str, array: NDArray[Any] | None, kinds: str, ndim: int | None) -> None:
    if array is None:
        return
    if array.dtype.kind not in kinds or (array.ndim != ndim if ndim else array.ndim < 2):
        axes = f"{ndim} axes" if ndim else "at least two axes"
        raise ContractError(
            f"{raw.name}: '{name}' is {array.dtype} with shape {array.shape}; wanted {axes} of {_KINDS[kinds]}"
        )


def _check_lengths(raw: RawScan) -> None:
    for name, value in asdict(raw.geometry).items():
        if value is not None and not 0 < value < np.inf:
            raise ContractError(f"{raw.name}: '{raw.key(name)}' is {value:.6g}; wanted a number above 0")
