"""Reconstruct a view iteratively with pty-chi's LSQML; keep the epoch that the stop exposures like best."""

from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before PyTorch is imported

from ptycho.files import save_table
from ptycho.grouping import FIT, STOP
from ptycho.iterative import Exposures, Iterative, load_library, reconstruct
from ptycho.provenance import record_of
from ptycho.scan import open_scan
from ptycho.stitch import save_object
from ptycho.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
overlap = view.metadata["overlap"]["between_exposures"]["linear"]
options = Iterative(**snakemake.params.iterative)
load_library()
clock = log.CpuClock()
result = reconstruct(
    Exposures.of(scan, view.of_role(FIT)),
    Exposures.of(scan, view.of_role(STOP)),
    scan.probe,
    options,
    seed=int(snakemake.wildcards.seed),
    compact=overlap < options.compact_below,
)
cpu_s = clock.seconds
chosen = result.history.loc[result.history["stop_deviance"].idxmin()]
print(f"kept epoch {chosen['epoch']:.0f} of {len(result.history)}, stop deviance {chosen['stop_deviance']:.4f}")
save_table(snakemake.output.history, result.history)
save_object(
    snakemake.output.object,
    result.object,
    result.weight,
    result.origin_px,
    method="lsqml",
    best_epoch=int(chosen["epoch"]),
    cpu_s=cpu_s,
    provenance=record_of(snakemake, __file__),
)
