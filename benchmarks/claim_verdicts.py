"""What the papers on physics-informed networks have published, and whether scores reproduce it: see `claims.py`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

REPRODUCED = 0.5
"""Share of a published effect from which on it counts as reproduced."""
IN_PART = 0.1
"""Share from which on it counts as reproduced in part."""
FRC50_PX = {"poisson-all": {100: 21, 1000: 45, 10_000: 72, 100_000: 165}, "mae-all": {10_000: 52, 100_000: 71}}
"""Published FRC50 [px], for doses [photon/exposure]; the size of the image is not known here."""
SSIM_AMPLITUDE = {
    "single-gaussian": 0.620,
    "single-zone-plate": 0.904,
    "several-gaussian": 0.952,
    "several-zone-plate": 0.968,
}
"""Published SSIM of the amplitude at 10⁹ photons."""
SSIM_PHASE = {"pinn": {512: 0.72, 1024: 0.87, 16_384: 0.93}, "baseline": {512: 0.455, 1024: 0.68, 16_384: 0.85}}
"""Published SSIM of the phase, for numbers of training exposures; read off a figure."""


def mean(scores: pd.DataFrame, metric: str, **where: Any) -> float:
    """Mean of a metric over seeds; NaN if nothing matches."""
    chosen = scores[scores["metric"] == metric]
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    return float(chosen["value"].mean())


def verdict(ours: float, published: float) -> str:
    """Compare an effect with the published one: both are zero if there is none, and positive in the claimed direction.

    Parameters
    ----------
    ours, published : float
        Differences of scores, or logarithms of their ratios.
    """
    share = ours / published
    if np.isnan(share):
        return "not measured"
    return "reproduced" if share >= REPRODUCED else "reproduced in part" if share >= IN_PART else "not reproduced"


def judge_dose(scores: pd.DataFrame) -> Iterator[str]:
    """Compare growth per decade, and the ratio of the two losses."""
    published = FRC50_PX["poisson-all"]
    for part in ("amplitude", "phase"):
        own = {dose: mean(scores, f"frc50_{part}", variant="poisson-all", dose=dose) for dose in published}
        growth, theirs = (np.log(values[100_000] / values[100]) / 3 for values in (own, published))
        word = verdict(growth, theirs)
        yield (
            f"{part}, growth of FRC50 from 10² to 10⁵ photons: {word}, a factor of {np.exp(growth):.2f} per decade "
            f"against {np.exp(theirs):.2f}"
        )
        for dose, mae_px in FRC50_PX["mae-all"].items():
            ratio, theirs = (
                own[dose] / mean(scores, f"frc50_{part}", variant="mae-all", dose=dose),
                published[dose] / mae_px,
            )
            word = verdict(np.log(ratio), np.log(theirs))
            yield f"{part}, Poisson over MAE at {dose:,} photons: {word}, {ratio:.2f} against {theirs:.2f}"


def judge_overlap(scores: pd.DataFrame) -> Iterator[str]:
    """Compare what one pattern loses with a structured probe, and what overlap and structure gain.

    That little is lost is reproduced if no more than the published loss, divided by `REPRODUCED`, is. The variants
    without iterations are not judged: trained this briefly, they are poor with overlap, too.
    """
    own = {variant: mean(scores, "ssim_amplitude", variant=variant) for variant in SSIM_AMPLITUDE}
    effects = {
        "loss with one pattern, structured probe": ("several-zone-plate", "single-zone-plate"),
        "gain by overlap, ideal probe": ("several-gaussian", "single-gaussian"),
        "gain by structure, one pattern": ("single-zone-plate", "single-gaussian"),
    }
    for name, (high, low) in effects.items():
        ours, published = (values[high] - values[low] for values in (own, SSIM_AMPLITUDE))
        word = verdict(ours, published)
        if name.startswith("loss") and not np.isnan(ours):
            word = "reproduced" if ours <= published / REPRODUCED else "not reproduced"
        yield f"{name}: {word}, SSIM of the amplitude {ours:.3f} against {published:.3f}"


def judge_training_size(scores: pd.DataFrame) -> Iterator[str]:
    """Compare the lead of the PINN over the Baseline at the published sizes that were run, and what data gain each."""
    for metric in ("ssim_phase", "ms_ssim_phase"):
        own = {
            method: {size: mean(scores, metric, method=method, variant=str(size)) for size in (512, 1024, 4096)}
            for method in SSIM_PHASE
        }
        for size in (512, 1024):
            ours, published = (values["pinn"][size] - values["baseline"][size] for values in (own, SSIM_PHASE))
            word = verdict(ours, published)
            yield f"{metric}, lead of the PINN at {size:,}: {word}, {ours:+.3f} against {published:+.3f}"
        ours, published = (
            own["pinn"][1024] - own["baseline"][4096],
            SSIM_PHASE["pinn"][1024] - SSIM_PHASE["baseline"][16_384],
        )
        yield (
            f"{metric}, PINN on 1,024 over Baseline on the largest set (ours 4,096, theirs 16,384): "
            f"{verdict(ours, published)}, {ours:+.3f} against {published:+.3f}"
        )
