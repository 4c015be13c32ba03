"""Reconstruct a view with a trained unrolled network: the whole scan at once."""

from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.grouping import FIT, STOP
from ptycho.likelihood import Counts
from ptycho.model.inference import load_network
from ptycho.model.unrolled import apply_unrolled
from ptycho.scan import open_scan
from ptycho.stitch import save_object
from ptycho.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
counts = Counts.of(scan, view.of_role(FIT, STOP))
obj, light, origin = apply_unrolled(
    load_network(snakemake.input.model), counts, scan.probe, snakemake.params.iterations
)
save_object(snakemake.output[0], obj, light, origin, method="unrolled")
