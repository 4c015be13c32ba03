"""Merge the chunks of one reconstruction into an object."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.data.chunks import merge_chunks, run_of
from ptycho.data.object_files import save_reconstruction
from ptycho.data.tiles import load_tiles
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
tiles = load_tiles(snakemake.input.tiles)
name = "start" if "start" in snakemake.input.keys() else "model"  # noqa: SIM118  no dict
run = run_of(snakemake.input[name], snakemake.input.tiles, len(tiles), name)
result = merge_chunks(snakemake.input.chunks, run, Path(snakemake.output[0]).parent)
metadata = {"method": snakemake.wildcards.method, "provenance": record_of(snakemake, __file__)}
save_reconstruction(snakemake.output[0], result, history=snakemake.output.get("history"), **metadata)
print(f"{len(snakemake.input.chunks)} chunks, object {result.object.shape} px from {result.origin_px}")
