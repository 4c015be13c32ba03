"""Reconstruct a view with a total-variation prior, whose weight is chosen by splitting the photons."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)

from ptycho.data.knowledge import open_known
from ptycho.data.object_files import save_reconstruction
from ptycho.data.views import FIT, VALIDATION, open_view
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.tv import TVOptions, reconstruct
from ptycho.workflow.provenance import record_of

scan = open_known(snakemake.input.scan, snakemake.input.knowledge)
view = open_view(snakemake.input.view, scan)
counts = Counts.of(scan, view.of_role(FIT, VALIDATION))
options, folder = TVOptions(**snakemake.params.tv), Path(snakemake.output.object).parent
result = reconstruct(counts, scan.probe, options, seed=int(snakemake.wildcards.seed), folder=folder)
print(result.history.to_string(index=False))
print(f"TV weight {result.chosen['tv_weight']:.4g}")
metadata = {"method": "tv", "provenance": record_of(snakemake, __file__)}
save_reconstruction(snakemake.output.object, result, history=snakemake.output.history, **metadata)
