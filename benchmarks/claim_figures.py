"""Figures of the papers' claims: scores beside the published values, see `claims.py`."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from claim_verdicts import FRC50_PX, SSIM_AMPLITUDE, SSIM_PHASE, mean
from PIL import Image

from ptycho.workflow.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INPUTS = {"": "30 iterations", "direct-": "inverse diffraction"}
"""Prefix of a variant -> what its network sees."""

OURS = {"poisson-all": "#0072B2", "mae-all": "#D55E00", "poisson-unseen": "#009E73"}
PUBLISHED = {"color": "0.55", "markerfacecolor": "none", "linestyle": ":"}
NAMES = {"poisson-all": "Poisson", "mae-all": "MAE", "poisson-unseen": "Poisson, unseen photons"}
MARKERS = {"poisson-all": "o", "mae-all": "s", "poisson-unseen": "^", "pinn": "o", "baseline": "s"}


def _draw_seeds(axes: "Axes", x: Any, table: pd.DataFrame, **style: Any) -> None:
    """Draw the mean over seeds as a line, and every seed as a dot."""
    axes.plot(x, table.mean(axis=1), **style)
    for seed in table:
        axes.plot(x, table[seed], ".", color=style["color"], markersize=4, alpha=0.6)


def draw_dose(scores: pd.DataFrame, figure: "Figure") -> None:
    """Draw FRC50 against dose, and both relative to the Poisson loss at 10⁵ photons."""
    left, middle, right = figure.subplots(1, 3)
    for axes, part in ((left, "amplitude"), (middle, "phase")):
        chosen = scores[scores["metric"] == f"frc50_{part}"]
        for variant, rows in chosen.groupby("variant", sort=False):
            table = rows.pivot(index="dose", columns="seed", values="value")
            style = {"color": OURS[variant], "marker": MARKERS[variant], "label": NAMES[variant]}
            _draw_seeds(axes, table.index, table, **style)
            unit = mean(scores, f"frc50_{part}", variant="poisson-all", dose=100_000)
            if variant in FRC50_PX:
                dash = "-" if part == "phase" else "--"
                label = f"{NAMES[variant]}, {part}"
                relative = table.mean(axis=1) / unit
                right.plot(table.index, relative, dash, **{**style, "label": label})
        axes.set(xscale="log", ylim=(0, 1.02), title=f"{part}, this project", ylabel="FRC50 [Nyquist]")
        rings = float(chosen["rings"].iloc[0])
        other = axes.secondary_yaxis("right", functions=(lambda y, n=rings: y * n, lambda y, n=rings: y / n))
        other.set_ylabel("ring [px]")
        axes.legend(fontsize=8)
    for variant, values in FRC50_PX.items():
        x, y = np.array(list(values.items()), float).T
        right.plot(
            x,
            y / FRC50_PX["poisson-all"][100_000],
            **PUBLISHED,
            marker=MARKERS[variant],
            label=f"{NAMES[variant]}, published",
        )
    right.set(xscale="log", yscale="log", title="relative to Poisson at 10⁵", ylabel="FRC50 / FRC50 of Poisson at 10⁵")
    right.legend(fontsize=7)
    for axes in (left, middle, right):
        axes.set_xlabel("dose [photon/exposure]")


def draw_overlap(scores: pd.DataFrame, figure: "Figure") -> None:
    """Draw SSIM of amplitude and phase: one pattern against several, for both probes."""
    for axes, part in zip(figure.subplots(1, 2, sharey=True), ("amplitude", "phase"), strict=True):
        for probe, color, marker in (("gaussian", "#E69F00", "s"), ("zone-plate", "#0072B2", "o")):
            variants = [f"{patterns}-{probe}" for patterns in ("single", "several")]
            name = {"gaussian": "ideal probe", "zone-plate": "structured probe"}[probe]
            for prefix, dash in (("", "-"), ("direct-", "--")):
                own = [prefix + variant for variant in variants]
                chosen = scores[(scores["metric"] == f"ssim_{part}") & scores["variant"].isin(own)]
                table = chosen.pivot(index="variant", columns="seed", values="value").reindex(own)
                style = {"color": color, "marker": marker, "linestyle": dash, "label": f"{name}, {INPUTS[prefix]}"}
                _draw_seeds(axes, [0, 1], table, **style)
            if part == "amplitude":
                published = [SSIM_AMPLITUDE[variant] for variant in variants]
                axes.plot([0, 1], published, **PUBLISHED, marker=marker, label=f"{name}, published")
        ticks = ["one pattern", "overlapping patterns"]
        axes.set(xticks=[0, 1], xlim=(-0.3, 1.3), ylim=(0, 1.02), title=part, ylabel="SSIM")
        axes.set_xticklabels(ticks)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=8, ncols=3, loc="outside lower center")


def draw_training_size(scores: pd.DataFrame, figure: "Figure") -> None:
    """Draw SSIM and MS-SSIM of the phase against the number of training exposures."""
    names = {"pinn": ("PINN", "#0072B2"), "baseline": ("Baseline", "#D55E00")}
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ("ssim_phase", "ms_ssim_phase"), strict=True):
        for method, (name, color) in names.items():
            chosen = scores[(scores["metric"] == metric) & (scores["method"] == method)]
            table = chosen.assign(size=chosen["variant"].astype(int)).pivot(
                index="size", columns="seed", values="value"
            )
            _draw_seeds(axes, table.index, table, color=color, marker=MARKERS[method], label=name)
            x, y = np.array(list(SSIM_PHASE[method].items())).T
            axes.plot(x, y, **PUBLISHED, marker=MARKERS[method], label=f"{name}, published")
        title = {"ssim_phase": "SSIM of the phase", "ms_ssim_phase": "MS-SSIM of the phase"}[metric]
        axes.set(xscale="log", xlabel="training exposures", ylabel=title, title=title, ylim=(0.3, 1.02))
        axes.legend(fontsize=8, loc="lower right")


def save_small(figure: "Figure", path: Path) -> None:
    """Write a figure as a PNG of at most 256 colors."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=110, metadata={"Software": None})
    buffer.seek(0)
    with replacing(path) as temporary:
        Image.open(buffer).convert("RGB").quantize(256).save(temporary, "PNG", optimize=True)
