"""Picture of one condition: truth and every method, with error maps."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ptycho import log
from ptycho.compare import Region, warnings_of
from ptycho.places import label
from ptycho.plots import comparison, save
from ptycho.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
arrays = dict(np.load(snakemake.input.arrays))
del arrays["metadata"]
table = pd.read_csv(snakemake.input.metrics)
metrics = {method: dict(zip(rows["metric"], rows["value"], strict=True)) for method, rows in table.groupby("method")}
title = label(dict(snakemake.wildcards.items()))
region = Region.load(snakemake.input.region)
options = {"origin_px": (region.y0, region.x0), "warnings": warnings_of(table)}
figure = comparison(arrays.pop("truth"), arrays, metrics, title, **options)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
