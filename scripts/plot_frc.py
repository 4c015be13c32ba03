"""Figure of one condition: Fourier ring correlation of every method with the truth."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho.reporting.figures import save
from ptycho.reporting.frc_figures import plot_frc
from ptycho.workflow import job
from ptycho.workflow.paths import label
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
title = label(dict(snakemake.wildcards.items()))
save(plot_frc(pd.read_csv(snakemake.input[0]), title), snakemake.output[0], record_of(snakemake, __file__))
