"""Reconstruct a view with only some parts of a trained unrolled network."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.grouping import FIT, STOP
from ptycho.likelihood import Counts, Likelihood
from ptycho.model.inference import load_network
from ptycho.model.ingredients import take_apart
from ptycho.provenance import record_of
from ptycho.scan import open_scan
from ptycho.stitch import save_object
from ptycho.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
counts = Counts.of(scan, view.of_role(FIT, STOP))
likelihood = Likelihood(counts, scan.probe)
record = record_of(snakemake, __file__)
paths = {Path(path).stem: path for path in snakemake.output}
for part, obj, cpu_s in take_apart(load_network(snakemake.input.model), counts, scan.probe):
    made = {"cpu_s": cpu_s, "provenance": record}
    save_object(paths[part], obj, likelihood.light(), likelihood.origin_px, method=f"unrolled/{part}", **made)
