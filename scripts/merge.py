"""Add the chunks of one reconstruction and divide."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho import log
from ptycho.stitch import merge_chunks, run_of, save_object
from ptycho.views import open_view

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
run = run_of(snakemake.input.model, snakemake.input.view, len(open_view(snakemake.input.view).nn_indices))
canvas = merge_chunks(snakemake.input.chunks, run, Path(snakemake.output[0]).parent)
save_object(snakemake.output[0], canvas.mean(), canvas.weight, canvas.origin_px, method=snakemake.wildcards.method)
print(f"{len(snakemake.input.chunks)} chunks, object {canvas.weight.shape} px from {canvas.origin_px}")
