"""Collect the metrics of all conditions in one tidy table, and the headline numbers in a text."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho.data.numbers import read_tile_numbers, read_view_numbers
from ptycho.data.tables import read_tables
from ptycho.data.written import digests_of
from ptycho.inspection.findings import Verdict
from ptycho.reporting.measured import read_reference, reference_notes, reference_warnings, verdict_warnings
from ptycho.reporting.study_tables import training_cost
from ptycho.reporting.summary import (
    StudyTables,
    detector_notes,
    fluence_table,
    summary_text,
    tile_table,
    tile_warnings,
    view_warnings,
)
from ptycho.reporting.tables import paired_differences
from ptycho.scoring.metric_tables import (
    COLUMNS,
    check_fluence,
    mean_pattern_warnings,
    misfit_warnings,
    read_metrics,
    warnings_of,
)
from ptycho.scoring.price import price_table
from ptycho.workflow import job
from ptycho.workflow.files import save_table, save_text
from ptycho.workflow.provenance import record_of, save_record

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
metrics, bounds = read_metrics(snakemake.input.metrics), snakemake.input.bounds
scores = pd.concat([metrics, *([read_tables(bounds, *COLUMNS)] if bounds else [])], ignore_index=True)
train_views, views = (
    {path: read_view_numbers(path) for path in snakemake.input[name]} for name in ("train_views", "views")
)
tiles = {path: read_tile_numbers(path) for path in snakemake.input.tiles}
fluence = fluence_table(views)
check_fluence(metrics, fluence)
tables = StudyTables(
    metrics=metrics,
    differences=paired_differences(metrics),
    fluence=fluence,
    training=training_cost(snakemake.input.training),
    bound=scores[len(metrics) :].drop(columns="flaw", errors="ignore"),  # that of all flaws
    price=price_table(scores, fluence),
    tiles=tile_table(tiles),
)
for name in ("metrics", "differences", "fluence", "training", "bound", "price"):
    save_table(snakemake.output[name], getattr(tables, name))
params, notes = snakemake.params, detector_notes(views)
warnings = [*warnings_of(metrics), *view_warnings(train_views | views), *tile_warnings(tiles)]
if snakemake.input.verdict:  # of a measured study
    reference = read_reference(snakemake.input.reference[0])
    notes += reference_notes(reference, snakemake.input.reference[0])
    warnings += verdict_warnings(Verdict.load(snakemake.input.verdict), f"{params.results}/data/check.html")
    warnings += reference_warnings(reference) + mean_pattern_warnings(metrics) + misfit_warnings(metrics)
names = {"results": params.results, "reference_name": params.reference_name}
text = summary_text(params.study, tables, warnings, **names, notes=notes)
save_text(snakemake.output.summary, text)
digests = digests_of(*(path for path in snakemake.output if path != snakemake.output.provenance))
save_record(snakemake.output.provenance, record_of(snakemake, __file__), digests=digests)
