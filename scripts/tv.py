"""Reconstruct a view with a total-variation prior, whose strength is found by thinning the photons."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)

from ptycho.files import save_table
from ptycho.grouping import FIT, STOP
from ptycho.likelihood import Counts
from ptycho.provenance import record_of
from ptycho.scan import open_scan
from ptycho.stitch import save_object
from ptycho.tv import TotalVariation, reconstruct
from ptycho.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
counts = Counts.of(scan, view.of_role(FIT, STOP))
options = TotalVariation(**snakemake.params.tv)
folder = Path(snakemake.output.object).parent
clock = log.CpuClock()
result = reconstruct(counts, scan.probe, options, seed=int(snakemake.wildcards.seed), folder=folder)
cpu_s = clock.seconds
print(result.history.to_string(index=False))
print(f"strength {result.strength:.4g}")
save_table(snakemake.output.history, result.history)
made = {"method": "tv", "strength": result.strength, "cpu_s": cpu_s, "provenance": record_of(snakemake, __file__)}
save_object(snakemake.output.object, result.object, result.weight, result.origin_px, **made)
