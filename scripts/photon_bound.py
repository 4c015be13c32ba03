"""Score the photon limit of a view: the error of the best unbiased estimate, at every dose."""

from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)

import numpy as np

from ptycho.data.scan import open_scan
from ptycho.data.views import open_view
from ptycho.data.written import digests_of
from ptycho.scoring.photon_bound import bound_table, draw_errors
from ptycho.scoring.region import Region
from ptycho.workflow.files import save_table
from ptycho.workflow.provenance import record_of, save_record

scan = open_scan(snakemake.input.scan)
view = open_view(snakemake.input.view, scan)
clock = job.CpuClock()
rngs = map(np.random.default_rng, range(snakemake.params.draws))
region = Region.load(snakemake.input.region, scan.object.shape)
errors, tile = draw_errors(scan, view, region, rngs)
bound = bound_table(errors, scan.object[tile.box], scan.metadata["dose"], snakemake.params.doses)
save_table(snakemake.output.bound, bound.assign(**dict(snakemake.wildcards.items())))
save_record(snakemake.output.provenance, record_of(snakemake, __file__), digests=digests_of(snakemake.output.bound))
print(bound.to_string(index=False))
print(f"{len(errors)} draws on {tile.shape[0]} × {tile.shape[1]} px, {clock.seconds:.1f} CPU-s")
