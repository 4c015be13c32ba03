"""Misfits as text: a table of judged reconstructions, what was assumed, and what exceeds shot noise."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ptycho.inspection.judgment import Judgment
from ptycho.scoring.half_frc import WARNING, half_crossings
from ptycho.scoring.metric_tables import LEARNED_NOTHING

WORST = 5
"""Exposures with the highest misfit that are named."""
STANDS_OUT = 2.0
"""Misfit, as a multiple of the median exposure's, from which on an exposure is named."""
OTHER_PHOTONS = 0.1
"""Relative difference of predicted and counted photons from which on it is said."""


def judgment_text(judgments: Sequence[Judgment], heading: str) -> str:
    """Lay out judgments: a table, one line per file, then notes and warnings.

    Parameters
    ----------
    judgments : sequence of Judgment
        At least one.
    heading : str
        First line.
    """
    names = short_names([judgment.candidate.path for judgment in judgments])
    rows = [
        {
            "file": name,
            "misfit": f"{judgment.misfit.ratio:.3f} ± {judgment.misfit.standard_error:.1g}",
            "explained": f"{judgment.explained:.3f}",
            "deviance/px": f"{judgment.misfit.as_dict()['deviance_per_pixel']:.4g}",
            "expected/px": f"{judgment.misfit.as_dict()['expected_deviance_per_pixel']:.4g}",
            "exposures": len(judgment.misfit.deviance),
        }
        for name, judgment in zip(names, judgments, strict=True)
    ]
    lines = [heading, pd.DataFrame(rows).to_string(index=False), ""]
    lines.append("misfit: deviance of the counts over its expected value for an exact prediction; 1 is perfect.")
    lines.append("explained: what shot noise alone would give exposures that were held out.")
    for name, judgment in zip(names, judgments, strict=True):
        lines += [f"{name}: {text}" for text in _remarks(judgment)]
    if any(judgment.curves is not None for judgment in judgments):
        lines.append(f"Half scans: {WARNING}")
    lines += [
        f"WARNING: {name}: misfit {judgment.misfit.ratio:.3g}; shot noise explains {judgment.explained:.3g}: probe, "
        "positions, orientation, detector or reconstruction are not exact"
        for name, judgment in zip(names, judgments, strict=True)
        if judgment.exceeds_shot_noise
    ]
    lines += [
        f"WARNING: {name}: predicts these exposures no better than their mean pattern: "
        f"{judgment.over_mean_pattern:.3g} times its deviance; {LEARNED_NOTHING}"
        for name, judgment in zip(names, judgments, strict=True)
        if judgment.is_useless
    ]
    return "\n".join(lines) + "\n"


def judged_of(judgments: Sequence[Judgment], wanted: int) -> str:
    """Say how many of the exposures that were to be judged were: "all 49", "40 of 49", "30 to 40 of 49"."""
    numbers = {len(judgment.candidate.exposures) for judgment in judgments}
    if numbers == {wanted}:
        return f"all {wanted}"
    fewest, most = min(numbers), max(numbers)
    return f"{fewest} of {wanted}" if fewest == most else f"{fewest} to {most} of {wanted}"


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of files, with as many of their folders as tell them apart; files given twice are numbered."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath([path.absolute().parent for path in paths])
    names = [path.absolute().relative_to(common).as_posix() for path in paths]
    return [
        f"{name} ({names[: number + 1].count(name)})" if names.count(name) > 1 else name
        for number, name in enumerate(names)
    ]


def _remarks(judgment: Judgment) -> list[str]:
    """What was assumed, exposures that stand out, and where the FRC of half scans ends."""
    remarks = list(judgment.candidate.notes)
    counted, predicted = judgment.misfit.photons.sum(), judgment.misfit.predicted.sum()
    if abs(predicted - counted) > OTHER_PHOTONS * counted:
        remarks.append(f"predicts {predicted / counted:.3g} times the photons that were counted: another dose or flux?")
    by_exposure = judgment.misfit.by_exposure
    limit = STANDS_OUT * np.nanmedian(by_exposure)
    worst = [index for index in np.argsort(-np.nan_to_num(by_exposure))[:WORST] if by_exposure[index] > limit]
    if worst:
        named = ", ".join(f"{judgment.candidate.exposures[index]} ({by_exposure[index]:.3g})" for index in worst)
        remarks.append(f"exposures with the highest misfit: {named}; their median is {limit / STANDS_OUT:.3g}")
    if judgment.curves is not None:
        crossings = half_crossings(judgment.curves.assign(method="")).query("threshold == 'half-bit'")
        ends = ", ".join(f"{row.part} {row.frequency:.2f}" for row in crossings.itertuples())
        remarks.append(f"half scans, fitted with its probe and positions, agree to ½ bit up to {ends} of Nyquist")
    return remarks
