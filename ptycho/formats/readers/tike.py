"""Scans of tike, in an NPZ that may be compressed with bzip2, as its source distribution holds them."""

import numpy as np

from ptycho.formats.inputs import Inputs, numbers, skipped
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, RawFrames, RawScan
from ptycho.workflow.files import ContractError


def recognizes(inputs: Inputs) -> bool:
    """Whether there are `data`, `scan` and `probe`."""
    return len(inputs.paths) == 1 and inputs.find("data", "scan", "probe") is not None


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open counts with the zero frequency in the corner, and positions of the top-left corners of windows.

    Raises
    ------
    ContractError
        If an array has another shape.
    """
    file = inputs.find("data", "scan", "probe")
    assert file is not None
    frames = RawFrames(file.frames("data"))
    corners, probe = numbers(file, "scan").astype(np.float64), numbers(file, "probe", "uifc")
    n = frames.shape[-1]
    if corners.size != 2 * len(frames) or corners.shape[-1] != 2 or probe.shape[-2:] != (n, n):
        raise ContractError(
            f"{inputs.name}: 'data' {frames.shape}, 'scan' {corners.shape}, 'probe' {probe.shape}; wanted (M, N, N), "
            "(M, 2) and (…, modes, N, N)"
        )
    return RawScan(
        name=inputs.name,
        frames=frames,
        quantity="counts",
        corner=True,
        positions=corners.reshape(-1, 2)[:, ::-1] + n // 2,
        unit="px",
        probe=probe,
        keys={"frames": "data", "positions": "scan"},
        conventions=(
            "frames: 'data', zero frequency in the corner",
            f"positions: [row, column] of the top-left corner of each window; its center is {n // 2} px from there",
            *skipped(file),
        ),
    )


FORMAT = Format(name="tike", title="tike NPZ", recognizes=recognizes, read=read)
