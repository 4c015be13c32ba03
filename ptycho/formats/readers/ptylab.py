"""Scans of PtyLab, in HDF5 or in a MATLAB file of version 7.3."""

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.inputs import Inputs, number, numbers
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, Geometry, RawFrames, RawScan, Turn
from ptycho.workflow.files import ContractError

KEYS = ("ptychogram", "encoder")


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
    frames = RawFrames(file.frames("ptychogram"), turn=turn)
    encoder = numbers(file, "encoder").astype(np.float64)
    if encoder.ndim == 2 and encoder.shape[0] == 2 and encoder.shape[1] == len(frames):
        encoder = encoder.T
    if encoder.ndim != 2 or encoder.shape[1] != 2:
        raise ContractError(f"{inputs.name}: 'encoder' has shape {encoder.shape}; wanted ({len(frames)}, 2), in meters")
    geometry = Geometry(
        wavelength_m=number(file, "wavelength"), distance_m=number(file, "zo"), detector_pixel_m=number(file, "dxd")
    )
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
        conventions=(
            f"frames: 'ptychogram', turned by its orientation {code}; zero frequency taken at [H/2, W/2]",
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
