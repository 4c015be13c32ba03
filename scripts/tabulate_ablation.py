"""Tabulate the scores of the ablations: all in one tidy table, and mean and standard deviation over seeds as text."""

from typing import TYPE_CHECKING

from ptycho.data.written import digests_of
from ptycho.reporting.tables import spread_table
from ptycho.scoring.metric_tables import read_metrics
from ptycho.workflow import job
from ptycho.workflow.files import save_table, save_text
from ptycho.workflow.provenance import record_of, save_record

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
metrics = read_metrics(snakemake.input)
save_table(snakemake.output.metrics, metrics)
save_text(snakemake.output.table, spread_table(metrics) + "\n")
digests = digests_of(snakemake.output.metrics, snakemake.output.table)
save_record(snakemake.output.provenance, record_of(snakemake, __file__), digests=digests)
