"""Plot the error against the CPU time of a reconstruction."""

from typing import TYPE_CHECKING

from ptycho.reporting.figures import save
from ptycho.reporting.quality_figures import plot_cost
from ptycho.scoring.metric_tables import read_study_metrics
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
metrics = snakemake.input.metrics
figure = plot_cost(read_study_metrics(metrics), split=snakemake.wildcards.split, name=metrics)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
