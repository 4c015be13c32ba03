"""Cut a view into the tiles of TV-MAP, choose the weight of its prior, and save where its chunks start."""

from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)

import numpy as np

from ptycho.data.knowledge import open_known
from ptycho.data.object_files import save_reconstruction
from ptycho.data.tiles import TilingOptions, cut_view, save_tiles, tile_numbers
from ptycho.data.views import FIT, VALIDATION, open_view
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.tv import TiledView, TVOptions
from ptycho.workflow.provenance import record_of

scan = open_known(snakemake.input.scan, snakemake.input.knowledge)
exposures = open_view(snakemake.input.view, scan).of_role(FIT, VALIDATION)
options, steps = TVOptions(**snakemake.params.tv), []
tiles = cut_view(scan, exposures, TilingOptions(tile_px=options.tile_px, halo_px=None))
print(tile_numbers(tiles))
view = TiledView(Counts.of(scan, np.arange(len(scan))), scan.probe, tiles, options)
start = view.choose_start(int(snakemake.wildcards.seed), steps)
print(f"TV weight {start.chosen['tv_weight']:.4g}")
record = record_of(snakemake, __file__)
save_tiles(snakemake.output.tiles, tiles, provenance=record)
save_reconstruction(snakemake.output.start, start, method="tv", steps=steps, provenance=record)
