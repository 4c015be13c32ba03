"""Tabulate the scores of every method by flaw, its kind and its size, and by what was refined."""

from typing import TYPE_CHECKING

from ptycho.data.written import digests_of
from ptycho.reporting.flaws import flaw_table
from ptycho.scoring.metric_tables import read_study_metrics
from ptycho.workflow import job
from ptycho.workflow.files import save_table
from ptycho.workflow.provenance import record_of, save_record

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
table = flaw_table(read_study_metrics(snakemake.input.metrics), snakemake.params.kinds, snakemake.params.refined)
save_table(snakemake.output.flaws, table)
record = record_of(snakemake, __file__)
save_record(snakemake.output.provenance, record, digests=digests_of(snakemake.output.flaws))
