"""What follows from the first pass over the frames: masked pixels, exposures without data, or a refusal."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.options import ConversionOptions, join_numbers
from ptycho.formats.quantity import shown_by
from ptycho.formats.raw import RawScan
from ptycho.formats.survey import GAP_MARKS, NEGATIVE_MARKS, Survey, suggest_unit
from ptycho.workflow.files import ContractError

MARKS = " or ".join(map(str, NEGATIVE_MARKS))
"""Values that mark gaps, in messages."""


def judge_survey(
    survey: Survey, raw: RawScan, sample: NDArray[Any], options: ConversionOptions, steps: list[str]
) -> tuple[NDArray[np.bool_], list[int]]:
    """Return the pixels that have to be masked, (H, W), and the exposures that hold no data.

    Parameters
    ----------
    survey : Survey
        Of all exposures.
    raw : RawScan
        The scan.
    sample : (b, H, W) array
        Some frames, from which a unit is suggested.
    options : ConversionOptions
        `mask_saturated` and `photons_per_unit` are used.
    steps : list of str
        What was found is appended.

    Raises
    ------
    ContractError
        If values are negative or no whole photons, single values are missing, or nothing is left.
    """
    if not survey.n_seen or len(survey.dark) == survey.n_seen:
        raise ContractError(f"{raw.name}: no photon in any exposure")
    if survey.negative:
        raise ContractError(f"{raw.name}: {_negative(survey)}")
    if survey.incomplete:
        names = join_numbers(survey.incomplete)
        raise ContractError(
            f"{raw.name}: NaN, infinite values or {MARKS} in exposure {names}, in pixels that have counts elsewhere: "
            "--leave-out these exposures, --mask the pixels, or, if they are negative counts, --background FILE "
            "--background-subtracted"
        )
    if survey.fractional is not None:
        raise ContractError(f"{raw.name}: {_fraction(survey.fractional, sample)}")
    if options.photons_per_unit is not None:
        _say_rounding(survey, options.photons_per_unit, steps)
    bad = _mask_gaps(survey, options, steps)
    if bad.all():
        raise ContractError(f"{raw.name}: every pixel is bad")
    left_out = sorted(survey.dark + survey.empty)
    if left_out:
        steps.append(f"exposures {join_numbers(left_out)} hold no photon, or no count at all: left out")
    return bad, left_out


def _negative(survey: Survey) -> str:
    """Say where values are negative, and what mends it: a mask if they are so in the same pixels of every exposure."""
    lowest, never = min(survey.negative.values()), survey.never_counts
    found = f"negative values, down to {lowest:.4g}, in exposure {join_numbers(survey.negative, 3)}"
    if never.any() and not (survey.low[~never] < 0).any():
        return f"{found}, in the same {int(never.sum())} px of all: wanted counts: --mask FILE masks these pixels"
    return (
        f"{found}; wanted counts as they were recorded: --background FILE --background-subtracted adds what was "
        "subtracted"
    )


def _fraction(value: float, sample: NDArray[Any]) -> str:
    if sample.dtype.kind == "f" and shown_by(sample)[0] == "amplitude":
        return f"frames hold {value:.6g} somewhere, and roots of whole numbers alone: --quantity amplitude squares them"
    unit = suggest_unit(np.asarray(sample, np.float64).ravel()) if sample.dtype.kind == "f" else None
    hint = "" if unit is None else f" (all are multiples of {unit:.6g}: if that is one photon, G is {1 / unit:.8g})"
    wanted = "wanted whole photons: --photons-per-unit G multiplies by G and rounds"
    return f"frames hold {value:.6g} somewhere; {wanted}{hint}"


def _say_rounding(survey: Survey, per_unit: float, steps: list[str]) -> None:
    pixels = survey.n_seen * survey.sum.size
    rms, change = np.sqrt(survey.rounding / pixels), survey.excess / survey.total if survey.total else 0.0
    steps.append(
        f"{per_unit:.6g} photons per unit, rounded to whole photons: {rms:.2g} photons rms per pixel lost, all photons "
        f"together changed by {change:.2%}"
    )


def _mask_gaps(survey: Survey, options: ConversionOptions, steps: list[str]) -> NDArray[np.bool_]:
    gaps, saturated = survey.gaps, survey.saturated
    if gaps.any():
        kind = f", or {GAP_MARKS[1]} or {GAP_MARKS[0]} in every exposure" if survey.highest in GAP_MARKS else ""
        steps.append(
            f"gaps: {int(gaps.sum())} px ({gaps.mean():.2%}) hold {MARKS}, an integer maximum or no number{kind}: "
            "masked"
        )
    if saturated.any():
        what = f"{survey.n_highest} values in {int(saturated.sum())} px are {survey.highest:.0f}, a detector's maximum"
        steps.append(f"saturation: {what}: " + ("masked" if options.mask_saturated else "--mask-saturated masks them"))
    return gaps | saturated if options.mask_saturated else gaps
