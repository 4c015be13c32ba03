"""Add the chunks of one reconstruction and divide."""

from typing import TYPE_CHECKING

from ptycho import log
from ptycho.stitch import merge_chunks, save_object

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
canvas = merge_chunks(snakemake.input)
save_object(snakemake.output[0], canvas.mean(), canvas.weight, canvas.origin_px, method=snakemake.wildcards.method)
print(f"{len(snakemake.input)} chunks, object {canvas.weight.shape} px from {canvas.origin_px}")
