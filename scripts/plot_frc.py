"""Plot the Fourier ring correlation of every method with the truth, or the reference, under one condition."""

from typing import TYPE_CHECKING

from ptycho.data.tables import read_table
from ptycho.reporting.figures import save
from ptycho.reporting.frc_figures import plot_frc
from ptycho.scoring.frc import TABLE_COLUMNS
from ptycho.workflow import job
from ptycho.workflow.paths import label
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
title, curves = label(dict(snakemake.wildcards.items())), read_table(snakemake.input[0], *TABLE_COLUMNS)
figure = plot_frc(curves, title, reference_name=snakemake.params.reference_name)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
