"""Apply a trained unrolled model to one chunk of a view's tiles, and save their canvases."""

from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.data.canvas import save_parts
from ptycho.data.chunks import chunk_bounds, run_of
from ptycho.data.scan import open_scan
from ptycho.data.tiles import cut_tiles
from ptycho.data.views import FIT, VALIDATION, open_view
from ptycho.model.unrolled import UnrolledModel, reconstruct_tiles
from ptycho.reconstruction.counts import Counts
from ptycho.workflow.provenance import record_of

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
counts = Counts.of(scan, view.of_role(FIT, VALIDATION))
tiles = cut_tiles(counts.xcoords, counts.ycoords, snakemake.params.tile_px, scan.n_pixels)
start, stop = chunk_bounds(len(tiles), int(snakemake.wildcards.i) - 1, int(snakemake.wildcards.n))
model = UnrolledModel.load(snakemake.input.model)
metadata = {"run": run_of(snakemake.input.model, snakemake.input.view, len(tiles)), "groups": [start, stop]}
metadata["chosen"] = {"tv_weight": model.schedule.tv_weight}
metadata["provenance"], clock = record_of(snakemake, __file__), job.CpuClock()
parts = reconstruct_tiles(model, counts, scan.probe, tiles[start:stop])
save_parts(snakemake.output[0], parts, lambda: metadata | {"cpu_s": clock.seconds})
