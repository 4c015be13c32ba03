"""Scans of PtychoPINN, in an NPZ: like ours, but counts or scaled amplitudes, and positions of several stages."""

from dataclasses import replace

import numpy as np

from ptycho.formats.inputs import Inputs, KeyedFile, first_of
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, Quantity, RawScan
from ptycho.formats.readers import plain

SIGNS = ("xcoords_start", "ycoords_start", "_metadata", "norm_Y_I", "YY_full", "scale_contract_version", "Y")
"""Keys, pickled or not, that tell its files from plain ones."""
COUNTS, AMPLITUDE = "ci_intensity_v2", "legacy_v1"
"""Its contracts: counts, and amplitudes scaled so that the mean of their sum of squares is (N/2)²."""


def recognizes(inputs: Inputs) -> bool:
    """Whether there are frames and one of the keys that only its files have."""
    if len(inputs.paths) != 1 or not inputs.keyed or first_of(inputs.keyed[0], "diff3d", "diffraction") is None:
        return False
    file = inputs.keyed[0]
    return any(key in file or key in file.pickled for key in SIGNS)


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open the scan; what its frames hold is asked for, unless the file or the option says it.

    Raises
    ------
    ContractError
        If a key is missing, or an array has the wrong shape.
    """
    raw = plain.read(inputs, options)
    contract = options.variant or _contract(inputs.keyed[0])
    quantities: dict[str, Quantity] = {COUNTS: "counts", AMPLITUDE: "amplitude"}
    said = [] if contract is None else [f"frames: contract {contract}"]
    return replace(raw, quantity=quantities.get(contract or ""), conventions=(*raw.conventions, *said))


def _contract(file: KeyedFile) -> str | None:
    """Return what the file says about its contract."""
    if "scale_contract_version" not in file:
        return None
    value = np.ravel(file.array("scale_contract_version"))
    return str(value[0]) if value.size else None


FORMAT = Format(
    name="ptychopinn", title="PtychoPINN NPZ", recognizes=recognizes, read=read, variants=(COUNTS, AMPLITUDE)
)
