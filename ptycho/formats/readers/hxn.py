"""Scans of the Hard X-ray Nanoprobe of NSLS-II: amplitudes that were turned, motor positions."""

import numpy as np

from ptycho.formats.geometry import read_length
from ptycho.formats.inputs import Inputs
from ptycho.formats.layouts import open_frames, read_vectors
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, Geometry, RawScan, Turn

BACK = Turn(swap=True, flip_y=True)
"""Undoes the quarter turn clockwise by which the beamline's program has turned the frames."""


def recognizes(inputs: Inputs) -> bool:
    """Whether there are `diffamp` and `points`."""
    return inputs.find("diffamp", "points") is not None


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open amplitudes with the zero frequency in the corner, and motor positions in micrometers.

    Raises
    ------
    ContractError
        If `diffamp` or `points` has another shape.
    """
    file = inputs.find("diffamp", "points")
    assert file is not None
    count = max(file.shape("points"), default=0)
    frames, order, _ = open_frames(file, "diffamp", count, options, turn=BACK, is_specified=True)
    x, y = read_vectors(file, "points", len(frames), columns=True).T
    wavelength = read_length(file, options, "wavelength_m", "lambda_nm")
    pixel = read_length(file, options, "detector_pixel_m", "ccd_pixel_um")
    return RawScan(
        name=inputs.name,
        frames=frames,
        quantity="amplitude",
        corner=True,
        positions=np.stack([-x, y], axis=1),
        unit="um",
        geometry=Geometry(
            wavelength_m=None if wavelength is None else wavelength * 1e-9,
            distance_m=read_length(file, options, "distance_m", "z_m"),
            detector_pixel_m=None if pixel is None else pixel * 1e-6,
        ),
        keys={"frames": "diffamp", "positions": "points"},
        conventions=(
            "frames: 'diffamp', amplitudes, zero frequency in the corner; their quarter turn clockwise is undone",
            *order,
            "positions: [-points[0], points[1]] [um], as the beamline's program takes motors unless x_direction or "
            "y_direction was changed (--negate-x, --negate-y)",
        ),
    )


FORMAT = Format(name="hxn", title="NSLS-II HXN", recognizes=recognizes, read=read)
