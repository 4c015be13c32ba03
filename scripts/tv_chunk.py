"""Reconstruct one chunk of TV-MAP's tiles, and save their canvases; the first chunk accounts for the start."""

from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)

import numpy as np

from ptycho.data.canvas import save_parts
from ptycho.data.chunks import chunk_bounds, run_of
from ptycho.data.knowledge import open_known
from ptycho.data.object_files import load_reconstruction
from ptycho.data.tiles import load_tiles
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.tv import TiledView, TVOptions
from ptycho.workflow.damage import check_fields, number_in
from ptycho.workflow.provenance import record_of

scan = open_known(snakemake.input.scan, snakemake.input.knowledge)
tiles, path = load_tiles(snakemake.input.tiles, scan), snakemake.input.start
start, known = load_reconstruction(path)
where, chunk = f"{path}: 'metadata'", int(snakemake.wildcards.i)
chosen = {"tv_weight": number_in(known, where, "chosen", "tv_weight", above=0)}
number_in(known, where, "chosen", "transmittance", above=0)
check_fields(known, where, steps=list)
view = TiledView(Counts.of(scan, np.arange(len(scan))), scan.probe, tiles, TVOptions(**snakemake.params.tv))
first, stop = chunk_bounds(len(tiles), chunk - 1, int(snakemake.wildcards.n))
run, provenance = run_of(path, snakemake.input.tiles, len(tiles), "start"), record_of(snakemake, __file__)
steps, clock = [], job.CpuClock()
if chunk == 1:
    steps += known["steps"]
    clock.add(number_in(known, where, "cpu_s"))
parts = (view.reconstruct(number, start, steps) for number in range(first, stop))
metadata = {"run": run, "tiles": [first, stop], "chosen": chosen, "steps": steps, "provenance": provenance}
save_parts(snakemake.output[0], parts, lambda: {**metadata, "cpu_s": clock.seconds})
print(f"tiles {first + 1} to {stop} of {len(tiles)}: {len(steps)} steps" if stop > first else "no tile is left for it")
