"""Plot a quality metric against dose and against fluence."""

from typing import TYPE_CHECKING

from ptycho.data.tables import read_table
from ptycho.reporting.figures import save
from ptycho.reporting.quality_figures import plot_quality
from ptycho.scoring.metric_tables import COLUMNS, read_scores
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
bound = read_table(snakemake.input.bound, *COLUMNS, may_be_empty=True)
tables = *read_scores(snakemake.input.metrics, snakemake.input.fluence), bound
metric, split = snakemake.wildcards.metric, snakemake.wildcards.split
figure = plot_quality(*tables, metric=metric, split=split, name=snakemake.input.metrics)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
