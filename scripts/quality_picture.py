"""Picture that answers the study: quality against dose and against fluence."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho import log
from ptycho.plots import save, study_figure

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
save(study_figure(pd.read_csv(snakemake.input.metrics), pd.read_csv(snakemake.input.fluence)), snakemake.output[0])
