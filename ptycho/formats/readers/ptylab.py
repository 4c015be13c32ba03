"""Scans of PtyLab, in HDF5 or in a MATLAB file of version 7.3."""

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.geometry import read_length
from ptycho.formats.inputs import Inputs, number
from ptycho.formats.layouts import open_frames, read_vectors
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, Geometry, RawScan, Turn
from ptycho.workflow.files import ContractError

KEYS = ("ptychogram", "encoder")
LENGTHS = {"wavelength_m": "wavelength", "distance_m": "zo", "detector_pixel_m": "dxd"}
"""Field of the geometry -> its key."""


def recognizes(inputs: Inputs) -> bool:
    """Whether there are `ptychogram` and `encoder`."""
    return inputs.find(*KEYS) is not None


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open counts, turned as their orientation says, and encoder positions.

    Raises
    ------
    ContractError
        If the orientation is none, or `encoder` has another shape.
    """
    file = inputs.find(*KEYS)
    assert file is not None
    code = int(number(file, "orientation") or 0)
    if code not in range(8):
        raise ContractError(f"{inputs.name}: 'orientation' is {code}; wanted 0 to 7")
    turn = Turn(swap=code >= 4, flip_x=bool(code & 1), flip_y=bool(code & 2))
    count = max(file.shape("encoder"), default=0)
    frames, order, _ = open_frames(file, "ptychogram", count, options, turn=turn, is_specified=True)
    encoder = read_vectors(file, "encoder", len(frames))
    wavelength, distance, pixel = (read_length(file, options, name, key) for name, key in LENGTHS.items())
    geometry = Geometry(wavelength_m=wavelength, distance_m=distance, detector_pixel_m=pixel)
    diameter = number(file, "entrancePupilDiameter")
    probe, said = (None, ()) if not diameter else _disc(diameter, geometry, frames.shape[1:])
    return RawScan(
        name=inputs.name,
        frames=frames,
        quantity="counts",
        positions=encoder[:, ::-1],
        unit="m",
        probe=probe,
        probe_key="entrancePupilDiameter",
        geometry=geometry,
        keys={"frames": "ptychogram", "positions": "encoder"},
        conventions=(
            f"frames: 'ptychogram', turned by its orientation {code}; zero frequency taken at [H/2, W/2]",
            *order,
            "positions: 'encoder', [row, column] [m] of the beam on the object",
            *said,
        ),
    )


def _disc(
    diameter_m: float, geometry: Geometry, shape: tuple[int, ...]
) -> tuple[NDArray[np.complexfloating] | None, tuple[str, ...]]:
    """Return a flat disc of a diameter, as PtyLab starts from; None if no pixel of the object is known."""
    lengths = (geometry.wavelength_m, geometry.distance_m, geometry.detector_pixel_m)
    if not all(lengths):
        return None, ()
    wavelength, distance, pixel = (length or 0.0 for length in lengths)
    y, x = ((np.arange(n) - n // 2) * wavelength * distance / (n * pixel) for n in shape)
    disc = np.hypot(y[:, None], x) <= diameter_m / 2
    if not disc.any():
        return None, ()
    return disc.astype(complex), (f"probe: a disc of {diameter_m:.6g} m, the entrance pupil",)


FORMAT = Format(name="ptylab", title="PtyLab", recognizes=recognizes, read=read)
