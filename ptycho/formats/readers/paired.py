"""Paired HDF5 files, `X_dp.hdf5` with frames and `X_para.hdf5` with positions, as fold_slice and others have them."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.geometry import read_length
from ptycho.formats.inputs import Inputs, KeyedFile, first_of, numbers
from ptycho.formats.layouts import open_frames
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, Geometry, OpenConvention, RawScan, Turn
from ptycho.formats.readers.plain import read_positions
from ptycho.formats.readers.ptychodus import POSITIONS, product_scan
from ptycho.workflow.files import ContractError

MATLAB, UNCHANGED = "matlab", "unchanged"
"""As MATLAB programs take the files: frames transposed, positions [-ppY, -ppX]; or everything as h5py reads it."""
ORIENTATION = ("variant", "transpose", "flip_x", "flip_y", "swap_positions", "negate_x", "negate_y")
"""Options that say how such a file is oriented."""


def recognizes(inputs: Inputs) -> bool:
    """Whether there are the frames of such a pair."""
    return inputs.find("dp") is not None


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open the frames of one file with the positions of the other.

    Raises
    ------
    ContractError
        If one file of the two is missing, or an array has another shape.
    """
    diffraction, para = inputs.find("dp"), inputs.find("ppX", "ppY") or inputs.find(*POSITIONS)
    if diffraction is None or para is None:
        raise ContractError(
            f"{inputs.name}: frames without positions; wanted the file X_para.hdf5, too, with ppX and ppY"
        )
    swapped = options.variant == MATLAB
    count = math.prod(para.shape("ppX" if "ppX" in para else POSITIONS[0]))
    turn = Turn(swap=swapped)
    frames, order, _ = open_frames(diffraction, "dp", count, options, turn=turn, is_specified=True)
    if "ppX" not in para:
        raw = product_scan(para, frames, options, name=inputs.name)
        return replace(raw, keys={**raw.keys, "frames": "dp"}, conventions=(*raw.conventions, *order))
    positions, said = read_positions(para, ("ppX", "ppY")), "[ppX, ppY]"
    if swapped:  # PtychoShelves' [rows, columns] = [-ppY, -ppX]
        positions, said = -positions, "[x, y] = [-ppX, -ppY]"
    obj_key = first_of(para, "probe")
    how = "frames: 'dp', rows and columns " + ("exchanged, as MATLAB has them" if swapped else "as they are")
    return RawScan(
        name=inputs.name,
        frames=frames,
        quantity="counts",
        positions=positions,
        unit="m",
        probe=None if obj_key is None else _probe(para, obj_key, swapped),
        geometry=Geometry(
            wavelength_m=read_length(para, options, "wavelength_m", "lambda"),
            object_pixel_m=read_length(para, options, "pixel_size_m", "dx"),
        ),
        keys={"frames": "dp", "positions": "ppX"},
        conventions=(f"{how}; zero frequency taken at [H/2, W/2]", *order, f"positions: {said} [m]"),
        open=(
            OpenConvention(
                "how frames and positions are oriented",
                f"--variant {MATLAB} (frames transposed, positions negated), --variant {UNCHANGED}, or any of "
                "--transpose, --flip-x, --flip-y, --swap-positions, --negate-positions",
                ORIENTATION,
            ),
        ),
    )


def _probe(file: KeyedFile, key: str, swapped: bool) -> NDArray[np.complexfloating]:
    probe = numbers(file, key, "uifc")
    return np.swapaxes(probe, -1, -2) if swapped and probe.ndim > 1 else probe


FORMAT = Format(
    name="paired", title="paired _dp and _para HDF5", recognizes=recognizes, read=read, variants=(MATLAB, UNCHANGED)
)
