"""Plot the dose at which every method reaches a resolution."""

from typing import TYPE_CHECKING

from ptycho.reporting.figures import save
from ptycho.reporting.price_figure import plot_price
from ptycho.scoring.price import read_prices
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
figure = plot_price(*read_prices(snakemake.input.price, snakemake.input.fluence))
save(figure, snakemake.output[0], record_of(snakemake, __file__))
