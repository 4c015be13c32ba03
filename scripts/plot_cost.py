"""Picture of what quality costs: error against the CPU time of a reconstruction."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho import log
from ptycho.curves import cost
from ptycho.plots import save
from ptycho.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
figure = cost(pd.read_csv(snakemake.input.metrics), split=snakemake.wildcards.split)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
