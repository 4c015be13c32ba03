"""Picture of one condition: truth and every method, with error maps."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ptycho import log
from ptycho.plots import comparison, save

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
arrays = dict(np.load(snakemake.input.arrays))
table = pd.read_csv(snakemake.input.metrics)
metrics = {method: dict(zip(rows["metric"], rows["value"], strict=True)) for method, rows in table.groupby("method")}
where = snakemake.wildcards
title = f"{where.split} split, {where.view} view, {int(where.dose):,} photons per exposure, seed {where.seed}"
save(comparison(arrays.pop("truth"), arrays, metrics, title), snakemake.output[0])
