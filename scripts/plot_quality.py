"""Picture that answers the study: quality against dose and against fluence."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho import log
from ptycho.curves import study
from ptycho.plots import save
from ptycho.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
metrics, fluence = pd.read_csv(snakemake.input.metrics), pd.read_csv(snakemake.input.fluence)
where = snakemake.wildcards
figure = study(metrics, fluence, metric=where.metric, split=where.split)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
