"""Apply a trained unrolled network to one chunk of a view's tiles: a partial canvas."""

from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.chunks import chunk_bounds, run_of
from ptycho.grouping import FIT, STOP
from ptycho.likelihood import Counts
from ptycho.model.inference import load_network
from ptycho.model.unrolled import reconstruct_tiles
from ptycho.provenance import record_of
from ptycho.scan import open_scan
from ptycho.stitch import save_parts
from ptycho.tiles import cut_tiles
from ptycho.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
counts = Counts.of(scan, view.of_role(FIT, STOP))
tiles = cut_tiles(counts.xcoords, counts.ycoords, snakemake.params.tile_px, scan.n_pixels)
start, stop = chunk_bounds(len(tiles), int(snakemake.wildcards.i) - 1, int(snakemake.wildcards.n))
network = load_network(snakemake.input.model)
made = {"run": run_of(snakemake.input.model, snakemake.input.view, len(tiles)), "groups": [start, stop]}
made["provenance"], clock = record_of(snakemake, __file__), log.CpuClock()
parts = reconstruct_tiles(network, counts, scan.probe, tiles[start:stop])
save_parts(snakemake.output[0], parts, lambda: made | {"cpu_s": clock.seconds})
