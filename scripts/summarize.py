"""Put all conditions in one tidy table, and the headline numbers in a text."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ptycho.reporting.study_tables import training_cost
from ptycho.reporting.tables import difference_table, paired_differences, summary_table, varied, warnings_of
from ptycho.workflow import job
from ptycho.workflow.files import save_table, save_text
from ptycho.workflow.paths import condition_of
from ptycho.workflow.provenance import record_of, save_record

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
metrics = pd.concat([pd.read_csv(path) for path in snakemake.input.metrics], ignore_index=True)
save_table(snakemake.output.metrics, metrics)
rows, warnings = [], warnings_of(metrics)
for path in snakemake.input.views:
    where, split, numbers = condition_of(path), Path(path).stem, json.loads(Path(path).read_text())
    overlap = numbers["overlap"]["between_exposures"]["linear"]
    counts, here = numbers["counts"], f"{split}, {where['view']} {where['dose']}"
    if counts["groups"] < counts["groups_wanted"]:
        wanted = counts["groups_wanted"]
        warnings.append(f"{here}: {counts['groups']} groups, for there are no more of the {wanted} wanted")
    if empty := counts.get("exposures_without_photons"):
        warnings.append(f"{here}: {empty} of {counts['exposures']} exposures without any photon; was the shutter open?")
    rows.append(
        {**where, "split": split, "overlap": overlap}
        | {key: numbers[key] for key in ("fluence_photons_per_px", "mean_detected_photons")}
    )
training = training_cost(snakemake.input.training)
save_table(snakemake.output.training, training)
fluence = pd.DataFrame(rows)
save_table(snakemake.output.fluence, fluence)
differences = paired_differences(metrics)
save_table(snakemake.output.differences, differences)
results, repeated = snakemake.params.results, (differences["n"] > 1).any()
text = [
    f"Study '{snakemake.params.study}': aligned to truth, scored on one shared rectangle per split.",
    f"{'Mean ± standard deviation over' if repeated else 'One repetition, no error bars:'} {varied(metrics)}.",
    "ssim, frc50: higher is better; error, heldout_deviance: lower is better; cpu_s: CPU-seconds of a reconstruction.",
    "",
    summary_table(metrics, fluence),
    "",
    *(("Error, paired differences of methods:", difference_table(differences), "") if repeated else ()),
    *(
        f"Training of {method}: {seconds.min():.0f} to {seconds.max():.0f} CPU-seconds a condition"
        for method, seconds in training.groupby("method", sort=False)["cpu_s"]
    ),
    *(f"WARNING: {warning}" for warning in warnings),
    "",
    f"Where things are: {results}/",
    "  metrics.csv, differences.csv           every metric; paired differences of methods",
    "  quality_*.png, cost_*.png              quality against dose and fluence; error against CPU time",
    "  **/comparison.png                      truth and every method under one condition",
    "  report.html                            all of it on one page: this study's command with -- report after it",
]
save_record(snakemake.output.provenance, record_of(snakemake, __file__))
save_text(snakemake.output.summary, "\n".join(text) + "\n")
