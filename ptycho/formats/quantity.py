"""What frames hold, counts or amplitudes: asked for, said by the file, or shown by values that leave no doubt."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Quantity, RawScan
from ptycho.formats.survey import WHOLE_TOLERANCE
from ptycho.workflow.files import ContractError

MAX_TOLERANCE = 0.1
"""Distance from a whole number from which on every value would pass for one."""


def resolve_quantity(raw: RawScan, options: ConversionOptions, frames: NDArray[Any], steps: list[str]) -> Quantity:
    """Return what the frames of a scan hold.

    Integers, and floats that are whole everywhere and not all below 2, are counts; floats whose squares are whole
    are amplitudes. Other floats may be either.

    Parameters
    ----------
    raw : RawScan
        The scan.
    options : ConversionOptions
        `quantity` decides where it is set.
    frames : (b, H, W) array
        Some of the frames.
    steps : list of str
        What was decided, and why, is appended.

    Raises
    ------
    ContractError
        If it cannot be known.
    """
    quantity, reason = options.quantity, "as asked"
    if quantity is None and raw.quantity is not None:
        quantity, reason = raw.quantity, "as its format says"
        if quantity == "amplitude" and _are_counts(frames):
            raise ContractError(
                f"{raw.name}: '{raw.key('frames')}' should be amplitudes, but holds whole numbers alone, as of counts: "
                "--quantity counts, or --quantity amplitude if it is right"
            )
    if quantity is None and frames.dtype.kind in "ui":
        quantity, reason = "counts", "as integers are"
    if quantity is None:
        quantity, reason = shown_by(frames)
    if quantity is None:
        raise ContractError(
            f"{raw.name}: frames of {frames.dtype} that are neither whole numbers nor their roots; are they counts or "
            "amplitudes? --quantity counts or --quantity amplitude"
        )
    steps.append(f"frames hold {quantity}, {reason}: {'the root is' if quantity == 'counts' else 'no root is'} taken")
    return quantity


def _are_counts(frames: NDArray[Any]) -> bool:
    """Whether values are whole, and some above 1."""
    return frames.max(initial=0) > 1 if frames.dtype.kind in "ui" else shown_by(frames)[0] == "counts"


def shown_by(frames: NDArray[np.floating]) -> tuple[Quantity | None, str]:
    """Return what the finite values of floating-point frames leave no doubt of, and why; None and "" if they do."""
    values = frames[np.isfinite(frames)].astype(np.float64)
    if values.max(initial=0) > 1:
        if _whole(values):
            return "counts", "as whole numbers are"
        if _whole(np.square(values)):
            return "amplitude", "as roots of whole numbers are"
    return None, ""


def _whole(values: NDArray[np.float64]) -> bool:
    """Whether all values are whole but for rounding, and some are not 0 and small enough to show it."""
    tolerance = WHOLE_TOLERANCE + 1e-6 * np.abs(values)
    shows = (tolerance < MAX_TOLERANCE) & (values != 0)
    return bool(shows.any() and (np.abs(values - np.rint(values)) <= tolerance)[shows].all())
