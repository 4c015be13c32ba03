"""Claims of the papers on physics-informed networks: run each as a named study, tabulate, draw, and judge.

A claim is a study file, config/claims/CLAIM.yaml, and variants of it that differ in the keys listed in `CLAIMS`. Every
variant is a study of its own, claims-CLAIM-VARIANT, which Snakemake runs; what is there already is not run again. Their
scores are gathered in CLAIM.csv, drawn beside the published values in CLAIM.png, and judged in a few sentences.

    python benchmarks/claims.py dose
    python benchmarks/claims.py dose --no-run     # only gather, draw and judge
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from ptycho.reporting.figures import new_figure
from ptycho.scoring.region import Region
from ptycho.workflow.config import CONFIG, read_file
from ptycho.workflow.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOT = CONFIG.parent
METRICS = (
    "frc50_amplitude",
    "frc50_phase",
    "ssim_amplitude",
    "ssim_phase",
    "ms_ssim_amplitude",
    "ms_ssim_phase",
    "error",
)
REPRODUCED = 0.5
"""Share of a published effect from which on it counts as reproduced."""
IN_PART = 0.1
"""Share from which on it counts as reproduced in part."""
GAUSSIAN = {"kind": "gaussian", "n_pixels": 64, "fwhm_px": 16.0}
"""An ideal probe: smooth, without phase, and as wide as the zone plate's (29 px hold 90 % of the photons)."""
SINGLE = {"grouping.gridsize": 1, "inference.tile_px": 0}
"""One pattern at a time, in training and in inference."""
DIRECT = {"network.physics_iterations": 0}
"""The network sees one inverse diffraction of the patterns, and no iterations: next to the patterns themselves."""
AS_MANY = {"training.steps": 5600}
"""As many patterns in training as 350 groups of 16 hold."""
INPUTS = {"": "30 iterations", "direct-": "inverse diffraction"}
"""Prefix of a variant -> what its network sees."""

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


@dataclass(frozen=True)
class Claim:
    """What a claim compares, and how it is drawn and judged."""

    variants: dict[str, dict[str, Any]]
    """Name: values that differ from the claim's study file, by dotted key. A mapping replaces the whole section."""
    draw: Callable[[pd.DataFrame, "Figure"], None]
    """Draw scores, as `gather` returns them, beside the published values."""
    judge: Callable[[pd.DataFrame], Iterator[str]]
    """Yield sentences from scores."""


def study_of(claim: str, variant: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the study file of a variant as a mapping."""
    study = read_file(CONFIG / "claims" / f"{claim}.yaml")
    for path, value in {**changes, "study": f"claims-{claim}-{variant}"}.items():
        part = study
        *sections, key = path.split(".")
        for section in sections:
            part = part.setdefault(section, {})
        part[key] = value
    return study


def tables_of(study: dict[str, Any]) -> list[str]:
    """Return the tables of scores that a study makes, one for each condition, relative to the working folder."""
    return [
        f"results/{study['study']}/dose_{dose}/{view}/seed_{seed}/test/comparison_metrics.csv"
        for dose in study["doses"]
        for view in study["views"]
        for seed in study["seeds"]
    ]


def run(study: dict[str, Any], folder: Path, cores: int) -> None:
    """Run a study as far as its scores."""
    path = folder / "results" / f"{study['study']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(study, sort_keys=False, allow_unicode=True), encoding="utf-8")
    where = ["--snakefile", ROOT / "Snakefile", "--directory", folder, "--configfile", path]
    how = ["--cores", cores, "--quiet", "all", "--", *tables_of(study)]
    subprocess.run([sys.executable, "-m", "snakemake", *map(str, [*where, *how])], check=True)


def gather(claim: str, folder: Path) -> pd.DataFrame:
    """Gather the scores that are there: columns variant, dose, seed, method, metric, value; and ring_px of the FRC.

    Raises
    ------
    SystemExit
        If there are none.
    """
    parts = []
    for variant, changes in CLAIMS[claim].variants.items():
        study = study_of(claim, variant, changes)
        region = folder / "results" / study["study"] / "region/test.json"
        for table in filter(Path.exists, (folder / name for name in tables_of(study))):
            scores = pd.read_csv(table)
            chosen = scores[scores["metric"].isin(METRICS)].assign(variant=variant)
            parts.append(chosen.assign(rings=min(Region.load(region).shape) // 2))
    if not parts:
        raise SystemExit(f"{folder}: no scores of the claim '{claim}'; run it without --no-run")
    return pd.concat(parts)[["variant", "dose", "seed", "method", "metric", "value", "rings"]]


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
        axes.legend(fontsize=8)


CLAIMS = {
    "dose": Claim(
        {"poisson-all": {}, "mae-all": {"training.loss": "mae"}, "poisson-unseen": {"training.target": "unseen"}},
        draw_dose,
        judge_dose,
    ),
    "overlap": Claim(
        {
            "several-zone-plate": {},
            "single-zone-plate": SINGLE,
            "several-gaussian": {"source.probe": GAUSSIAN},
            "single-gaussian": {**SINGLE, "source.probe": GAUSSIAN},
            "direct-several-zone-plate": DIRECT,
            "direct-single-zone-plate": {**DIRECT, **SINGLE, **AS_MANY},
            "direct-several-gaussian": {**DIRECT, "source.probe": GAUSSIAN},
            "direct-single-gaussian": {**DIRECT, **SINGLE, **AS_MANY, "source.probe": GAUSSIAN},
        },
        draw_overlap,
        judge_overlap,
    ),
    "training-size": Claim(
        {str(size): {"training.exposures": size} for size in (128, 256, 512, 1024, 2048, 4096)},
        draw_training_size,
        judge_training_size,
    ),
}
"""Name of a study file in config/claims -> the claim."""


def save_small(figure: "Figure", path: Path) -> None:
    """Write a figure as a PNG of at most 256 colors."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=110, metadata={"Software": None})
    buffer.seek(0)
    with replacing(path) as temporary:
        Image.open(buffer).convert("RGB").quantize(256).save(temporary, "PNG", optimize=True)


def summary_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the means over seeds, a row for each variant, dose and method and a column for each metric."""
    keys = ["variant", "dose", "method"]
    wide = scores.pivot_table(index=keys, columns="metric", values="value", sort=False)
    return wide.assign(seeds=scores.groupby(keys)["seed"].nunique()).reset_index().round(3)


def main() -> None:
    """Parse the command line, run, gather, draw, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claim", choices=CLAIMS, help="name of a study file in config/claims")
    parser.add_argument("--folder", type=Path, default=Path(), help="where results/ is (default: here)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/claims", help="folder for table and figure")
    parser.add_argument("--cores", type=int, default=2, help="for Snakemake (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds of noise and training (default: the study's)")
    parser.add_argument("--variants", nargs="+", help="variants to run (default: all)")
    parser.add_argument("--no-run", action="store_true", help="take the scores that are there")
    options = parser.parse_args()
    claim = CLAIMS[options.claim]
    for variant, changes in {} if options.no_run else claim.variants.items():
        if options.variants is None or variant in options.variants:
            study = study_of(options.claim, variant, changes)
            run(study | ({"seeds": options.seeds} if options.seeds else {}), options.folder, options.cores)
    scores = gather(options.claim, options.folder)
    scores.to_csv(options.out / f"{options.claim}.csv", index=False, float_format="%.5g", lineterminator="\n")
    figure = new_figure(13.5 if options.claim == "dose" else 10, 4.4)
    claim.draw(scores, figure)
    save_small(figure, options.out / f"{options.claim}.png")
    print(summary_of(scores).to_string(index=False))
    print(*claim.judge(scores), sep="\n")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU time of what was run now: {(used.ru_utime + used.ru_stime) / 60:.1f} min")


if __name__ == "__main__":
    main()
