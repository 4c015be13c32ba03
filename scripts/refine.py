"""Refine TV-MAP of a view by a network that is trained on the view's own photons."""

from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.grouping import FIT, STOP
from ptycho.likelihood import Counts
from ptycho.model.refined import Refinement, refine
from ptycho.provenance import record_of
from ptycho.scan import open_scan
from ptycho.stitch import load_object, save_object
from ptycho.tv import TotalVariation
from ptycho.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
counts = Counts.of(scan, view.of_role(FIT, STOP))
tv = load_object(snakemake.input.tv)[3]
strength, clock = tv["strength"], log.CpuClock()
prior, options = TotalVariation(**snakemake.params.tv), Refinement(**snakemake.params.refined)
seed = int(snakemake.wildcards.seed)
objects, light, origin, history = refine(counts, scan.probe, strength, prior, options, seed=seed)
cpu_s = tv["cpu_s"] + clock.seconds
history.to_csv(snakemake.output.history, index=False)
made = {"strength": strength, "cpu_s": cpu_s, "provenance": record_of(snakemake, __file__)}
files = {"refined": snakemake.output.object, "whole": snakemake.output.whole, "deals": snakemake.output.deals}
for name, path in files.items():
    save_object(path, objects[name], light, origin, method=name, **made)
