"""The headline metrics of a study, in the order in which figures, tables, page and summary show them."""

from dataclasses import dataclass
from typing import Literal

ReferenceName = Literal["truth", "reference"]
"""What a study is scored against: the truth of a simulation, or the reference reconstruction of a measured scan."""


@dataclass(frozen=True)
class Headline:
    """How a metric is presented."""

    label: str
    """Name in figures and tables, with its unit."""
    better: Literal["higher", "lower"]
    """Direction in which the metric improves."""
    figure: bool = True
    """Whether it is plotted against dose and fluence."""


HEADLINES = {
    "ssim_amplitude": Headline("SSIM of amplitude", "higher"),
    "ssim_phase": Headline("SSIM of phase", "higher"),
    "error": Headline("Relative complex error", "lower"),
    "frc50_phase": Headline(
        "Resolution: frequency where the FRC of phase falls to 0.5 [Nyquist]", "higher", figure=False
    ),
    "heldout_deviance": Headline("Poisson deviance of holdout exposures", "lower"),
    "heldout_misfit": Headline("Misfit of holdout exposures: deviance over its expected value", "lower"),
    "cpu_s": Headline("CPU time of a reconstruction, without training [s]", "lower", figure=False),
}
"""Metric -> how it is presented."""
