"""Align and score all methods under one condition."""

import json
from typing import TYPE_CHECKING

import numpy as np

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)

from ptycho.compare import Region, compare, condition_of, frc_table, tidy, warnings_of
from ptycho.files import save_table
from ptycho.npz import save_arrays
from ptycho.provenance import record_of
from ptycho.scan import open_scan
from ptycho.views import open_view

objects = dict(zip(snakemake.params.methods, snakemake.input.objects, strict=True))
scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
region = Region.load(snakemake.input.region)
metrics, arrays = compare(objects, scan, view, region)
metrics = tidy(metrics, **condition_of(snakemake.output.metrics), split=snakemake.wildcards.split)
save_table(snakemake.output.metrics, metrics)
metadata = {"origin_px": [region.y0, region.x0], "provenance": record_of(snakemake, __file__)}
save_arrays(snakemake.output.arrays, **arrays, metadata=np.array(json.dumps(metadata)))
save_table(snakemake.output.frc, frc_table(arrays))
print(metrics.to_string(index=False))
for warning in warnings_of(metrics):
    print(f"WARNING: {warning}")
