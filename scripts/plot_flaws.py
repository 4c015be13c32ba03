"""Plot an error of every method against the size of what it was told wrong."""

from typing import TYPE_CHECKING

from ptycho.data.tables import read_table
from ptycho.reporting.figures import save
from ptycho.reporting.flaws import COLUMNS, plot_flaws
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
table, wildcards = read_table(snakemake.input[0], *COLUMNS), snakemake.wildcards
figure = plot_flaws(table, metric=wildcards.metric, split=wildcards.split, name=snakemake.input[0])
save(figure, snakemake.output[0], record_of(snakemake, __file__))
