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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml
from claim_figures import draw_dose, draw_overlap, draw_training_size, save_small
from claim_verdicts import judge_dose, judge_overlap, judge_training_size

from ptycho.data.tables import read_table
from ptycho.reporting.figures import new_figure
from ptycho.scoring.region import Region
from ptycho.workflow.config import CONFIG, read_file

if TYPE_CHECKING:
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
GAUSSIAN = {"kind": "gaussian", "n_pixels": 64, "fwhm_px": 16.0}
"""An ideal probe: smooth, without phase, and as wide as the zone plate's (29 px hold 90 % of the photons)."""
SINGLE = {"grouping.gridsize": 1, "inference.tile_px": 0}
"""One pattern at a time, in training and in inference."""
DIRECT = {"network.physics_iterations": 0}
"""The network sees one inverse diffraction of the patterns, and no iterations: next to the patterns themselves."""
AS_MANY = {"training.steps": 5600}
"""As many patterns in training as 350 groups of 16 hold."""


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
            scores = read_table(table)
            chosen = scores[scores["metric"].isin(METRICS)].assign(variant=variant)
            parts.append(chosen.assign(rings=min(Region.load(region).shape) // 2))
    if not parts:
        raise SystemExit(f"{folder}: no scores of the claim '{claim}'; run it without --no-run")
    return pd.concat(parts)[["variant", "dose", "seed", "method", "metric", "value", "rings"]]


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
