"""Formats that are recognized, so that the refusal says what they are."""

from typing import NoReturn

from ptycho.formats.inputs import Inputs
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format
from ptycho.workflow.files import ContractError

EMPAD_FRAME_BYTES = 130 * 128 * 4
"""Size of an EMPAD frame, with its two rows of further values."""


def is_velociprobe(inputs: Inputs) -> bool:
    """Whether there is the master file of a detector, with the frames in others."""
    return any("data_000001" in file.names("entry/data") for file in inputs.keyed)


def refuse_velociprobe(inputs: Inputs, options: ConversionOptions) -> NoReturn:
    """Refuse it."""
    raise ContractError(
        f"{inputs.name}: a master file, as the Velociprobe of APS writes it; this format is not supported: write "
        "frames and positions as CXI, or as an NPZ with intensity, xcoords, ycoords and probe"
    )


def is_empad(inputs: Inputs) -> bool:
    """Whether there is a raw file whose size is a multiple of an EMPAD frame's."""
    return any(path.suffix == ".raw" and path.stat().st_size % EMPAD_FRAME_BYTES == 0 for path, _ in inputs.other)


def refuse_empad(inputs: Inputs, options: ConversionOptions) -> NoReturn:
    """Refuse it."""
    raise ContractError(
        f"{inputs.name}: frames of an EMPAD detector; this format is not supported: write electrons (ADU divided by "
        "ADU per electron) and positions as an NPZ with intensity, xcoords, ycoords and probe"
    )


VELOCIPROBE = Format(
    name="velociprobe", title="APS Velociprobe", recognizes=is_velociprobe, read=refuse_velociprobe, supported=False
)
EMPAD = Format(name="empad", title="EMPAD", recognizes=is_empad, read=refuse_empad, supported=False)
