"""The headline metrics of a study: what figures, tables, page and summary show, in this order."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Headline:
    """What is said of a metric."""

    label: str
    """On the page, with its unit."""
    better: Literal["higher", "lower"]
    figure: bool = True
    """Drawn against dose and fluence."""


HEADLINES = {
    "ssim_amplitude": Headline("SSIM of amplitude", "higher"),
    "ssim_phase": Headline("SSIM of phase", "higher"),
    "error": Headline("Relative complex error", "lower"),
    "frc50_phase": Headline("Resolution: FRC of phase falls to 0.5 at [Nyquist]", "higher", figure=False),
    "heldout_deviance": Headline("Poisson deviance per pixel of holdout exposures", "lower"),
    "cpu_s": Headline("CPU time of a reconstruction, training left out [s]", "lower", figure=False),
}
"""Metric -> what is said of it."""
