"""What the summary of a measured study says beyond its tables: the check of its scan, the misfit of its reference."""

from collections.abc import Mapping
from typing import Any

from ptycho.inspection.findings import Verdict
from ptycho.inspection.position_refinement import PositionRefinement
from ptycho.scoring.metric_tables import LEARNED_NOTHING
from ptycho.workflow.damage import check_fields, read_json
from ptycho.workflow.files import ContractError, StrPath


def read_reference(path: StrPath) -> dict[str, Any]:
    """Read how well the reference of a measured study predicts exposures.

    Parameters
    ----------
    path : path
        JSON of `ptycho.inspection.judgment.Judgment.as_dict`, and what a refinement of its positions has gained.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it is missing or damaged, or lacks a number.
    """
    numbers, where = read_json(path), f"{path}: its content"
    floats = ("misfit", "standard_error", "explained_by_shot_noise")
    check_fields(numbers, where, exceeds_shot_noise=bool, **dict.fromkeys(floats, float))
    ratio = numbers.get("over_mean_pattern")
    if not isinstance(ratio, float):  # may be infinite, or none
        raise ContractError(f"{where}: 'over_mean_pattern' is {ratio!r}; wanted a number")
    PositionRefinement.read(numbers, path)
    return numbers


def reference_notes(numbers: Mapping[str, Any], path: StrPath) -> list[str]:
    """Say how well the reference of a measured study predicts photons that it was not made from, and what was refined.

    Parameters
    ----------
    numbers : mapping
        As `read_reference` returns it.
    path : path
        The file that it was read from.
    """
    note = (
        f"Reference: misfit {numbers['misfit']:.3g} ± {numbers['standard_error']:.1g} of photons that it was not made "
        f"from (1 is perfect); shot noise explains {numbers['explained_by_shot_noise']:.3g}."
    )
    gain = PositionRefinement.read(numbers, path)
    return [note] if gain is None else [note, refinement_note(gain)]


def refinement_note(gain: PositionRefinement) -> str:
    """Say by how much the positions of a reference were refined, and what that does to its misfit."""
    moved = f"by {gain.moved_px:.2g} px rms ({gain.moved_affine_px:.2g} px without their affine map)"
    if gain.is_kept:
        return (
            f"Reference: positions moved {moved}; with the probe refined together with them the misfit fell from "
            f"{gain.misfit_recorded:.4g} to {gain.misfit_refined:.4g}."
        )
    return (
        f"Reference: positions are the recorded ones: moving them {moved} raises the misfit from "
        f"{gain.misfit_recorded:.4g} to {gain.misfit_refined:.4g}."
    )


def reference_warnings(numbers: Mapping[str, Any]) -> list[str]:
    """Warn of a reference that does not predict the photons of its study; `numbers` as for `reference_notes`."""
    warnings = []
    if numbers["exceeds_shot_noise"]:
        warnings.append(
            f"reference: misfit {numbers['misfit']:.3g}; shot noise explains {numbers['explained_by_shot_noise']:.3g}: "
            "probe, positions, detector or reconstruction are not exact, and scores against it say as much less"
        )
    if not numbers["over_mean_pattern"] < 1:
        warnings.append(
            "reference, and so scores against it, mean nothing: predicts exposures no better than their mean pattern, "
            f"{numbers['over_mean_pattern']:.3g} times its deviance; {LEARNED_NOTHING}"
        )
    return warnings


def verdict_warnings(verdict: Verdict, page: StrPath) -> list[str]:
    """List what the check of a study's scan found wrong, errors first; these the config accepts."""
    wrong = [part for level in ("error", "warning") for part in verdict.findings if part.level == level]
    accepted = {"error": ", accepted by the config", "warning": ""}
    return [f"check of the scan, {part.topic}{accepted[part.level]}: {part.line} ({page})" for part in wrong]
