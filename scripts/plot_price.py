"""Plot the dose at which every method reaches a resolution."""

from typing import TYPE_CHECKING

from ptycho.data.tables import read_table
from ptycho.reporting.figures import save
from ptycho.reporting.price_figure import plot_price
from ptycho.scoring.metric_tables import CONDITION, FLUENCE
from ptycho.scoring.price import COLUMNS
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
prices, fluence = snakemake.input.price, snakemake.input.fluence
figure = plot_price(read_table(prices, *COLUMNS), read_table(fluence, *CONDITION, FLUENCE))
save(figure, snakemake.output[0], record_of(snakemake, __file__))
