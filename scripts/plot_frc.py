"""Plot the Fourier ring correlation of every method with the truth, or the reference, under one condition."""

from typing import TYPE_CHECKING

from ptycho.reporting.figures import save
from ptycho.reporting.frc_figures import plot_frc, read_frc
from ptycho.workflow import job
from ptycho.workflow.paths import label
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
title = label(dict(snakemake.wildcards.items()))
figure = plot_frc(read_frc(snakemake.input[0]), title, reference_name=snakemake.params.reference_name)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
