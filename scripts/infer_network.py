"""Apply a trained model to one chunk of a view's tiles, and save their canvases."""

from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.data.canvas import save_parts
from ptycho.data.chunks import chunk_bounds, run_of
from ptycho.data.knowledge import open_known
from ptycho.data.tiles import load_tiles
from ptycho.loader import open_tiles
from ptycho.model.inference import load_model, probe_warning, reconstruct_tiles
from ptycho.workflow.provenance import record_of

scan = open_known(snakemake.input.scan, snakemake.input.knowledge)
tiles = load_tiles(snakemake.input.tiles, scan)
path, container = snakemake.input.model, open_tiles(scan, tiles)
if warning := probe_warning(path, scan.probe):
    print(f"WARNING: {warning}")
start, stop = chunk_bounds(len(container), int(snakemake.wildcards.i) - 1, int(snakemake.wildcards.n))
model = load_model(path, **snakemake.params.where)
provenance, clock = record_of(snakemake, __file__), job.CpuClock()
parts = reconstruct_tiles(model, container, tiles, range(start, stop), snakemake.params.batch_size)
run = run_of(path, snakemake.input.tiles, len(container))
metadata = {"run": run, "tiles": [start, stop], "chosen": model.chosen, "provenance": provenance}
refined = model.refined(scan.probe)
arrays = {} if refined is None or refined.probe is None else {"probe": refined.probe}
save_parts(snakemake.output[0], parts, lambda: {**metadata, "cpu_s": clock.seconds}, **arrays)
