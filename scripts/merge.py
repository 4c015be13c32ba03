"""Add the chunks of one reconstruction and divide."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho import log
from ptycho.chunks import merge_chunks
from ptycho.provenance import file_digest, record_of
from ptycho.stitch import read_metadata, save_object

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
files = {name: file_digest(snakemake.input[name]) for name in ("model", "view")}
canvas = merge_chunks(snakemake.input.chunks, files, Path(snakemake.output[0]).parent)
save_object(
    snakemake.output[0],
    canvas.mean(),
    canvas.weight,
    canvas.origin_px,
    method=snakemake.wildcards.method,
    provenance=record_of(snakemake, __file__),
    cpu_s=sum(read_metadata(chunk)["cpu_s"] for chunk in snakemake.input.chunks),
)
print(f"{len(snakemake.input.chunks)} chunks, object {canvas.weight.shape} px from {canvas.origin_px}")
