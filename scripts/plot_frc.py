"""Picture of one condition: Fourier ring correlation of every method with the truth."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho import log
from ptycho.frc_curves import against_truth
from ptycho.places import label
from ptycho.plots import save
from ptycho.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
title = label(dict(snakemake.wildcards.items()))
save(against_truth(pd.read_csv(snakemake.input[0]), title), snakemake.output[0], record_of(snakemake, __file__))
