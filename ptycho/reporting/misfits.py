"""Misfits as text: a table of judged reconstructions, what was assumed, and what exceeds shot noise."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ptycho.inspection.judgment import Judgment
from ptycho.scoring.half_frc import WARNING, half_crossings

WORST = 5
"""Exposures with the highest misfit that are named."""
STANDS_OUT = 2.0
"""Misfit, as a multiple of the median exposure's, from which on an exposure is named."""


def judgment_text(judgments: Sequence[Judgment], heading: str) -> str:
    """Lay out judgments: a table, one line per file, then notes and warnings.

    Parameters
    ----------
    judgments : sequence of Judgment
        At least one.
    heading : str
        First line.
    """
    rows = [
        {
            "file": judgment.candidate.path.name,
            "misfit": f"{judgment.misfit.ratio:.3f} ± {judgment.misfit.standard_error:.1g}",
            "explained": f"{judgment.explained:.3f}",
            "deviance/px": f"{judgment.misfit.as_dict()['deviance_per_pixel']:.4g}",
            "expected/px": f"{judgment.misfit.as_dict()['expected_deviance_per_pixel']:.4g}",
            "exposures": len(judgment.misfit.deviance),
        }
        for judgment in judgments
    ]
    lines = [heading, pd.DataFrame(rows).to_string(index=False), ""]
    lines.append("misfit: deviance of the counts over its expected value for an exact prediction; 1 is perfect.")
    lines.append("explained: what shot noise alone would give exposures that were held out.")
    for judgment in judgments:
        lines += [f"{judgment.candidate.path.name}: {text}" for text in _remarks(judgment)]
    if any(judgment.curves is not None for judgment in judgments):
        lines.append(f"Half scans: {WARNING}")
    lines += [f"WARNING: {warning}" for judgment in judgments if (warning := misfit_warning(judgment))]
    return "\n".join(lines) + "\n"


def misfit_warning(judgment: Judgment) -> str:
    """Say that a misfit is more than shot noise explains; "" if it is not."""
    if not judgment.exceeds_shot_noise:
        return ""
    return (
        f"{judgment.candidate.path.name}: misfit {judgment.misfit.ratio:.3g}; shot noise explains "
        f"{judgment.explained:.3g}: probe, positions, orientation, detector or reconstruction are not exact"
    )


def _remarks(judgment: Judgment) -> list[str]:
    """What was assumed, exposures that stand out, and where the FRC of half scans ends."""
    remarks = list(judgment.candidate.notes)
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
