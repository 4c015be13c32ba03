"""Align and score all methods under one condition."""

from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)

from ptycho.compare import Region, compare, tidy, warnings_of
from ptycho.files import save_table
from ptycho.npz import save_arrays
from ptycho.scan import open_scan
from ptycho.views import open_view

objects = dict(zip(snakemake.params.methods, snakemake.input.objects, strict=True))
scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
metrics, arrays = compare(objects, scan, view, Region.load(snakemake.input.region))
where = snakemake.wildcards
metrics = tidy(metrics, dose=int(where.dose), view=where.view, split=where.split, seed=int(where.seed))
save_table(snakemake.output.metrics, metrics)
save_arrays(snakemake.output.arrays, **arrays)
print(metrics.to_string(index=False))
for warning in warnings_of(metrics):
    print(f"WARNING: {warning}")
