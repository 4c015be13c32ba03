"""Reconstruct a view with pty-chi's LSQML; keep the epoch with the lowest validation deviance."""

from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)  # before PyTorch is imported

from ptycho.data.knowledge import open_known
from ptycho.data.numbers import LINEAR_OVERLAP
from ptycho.data.object_files import save_reconstruction
from ptycho.data.views import FIT, HOLDOUT, VALIDATION, open_view
from ptycho.physics.forward import as_modes
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.location import with_located
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, reconstruct
from ptycho.workflow.damage import number_in
from ptycho.workflow.memory import claim_memory
from ptycho.workflow.provenance import record_of

scan = open_known(snakemake.input.scan, snakemake.input.knowledge)
view = open_view(snakemake.input.view, scan)
seed, unknown = int(snakemake.wildcards.seed), snakemake.params.unknown
options = LSQMLOptions(**snakemake.params.lsqml)
overlap = number_in(view.metadata, f"{snakemake.input.view}: 'metadata'", *LINEAR_OVERLAP)
compact = overlap < options.compact_batching_below_overlap
waves = options.batch_size * len(as_modes(scan.probe))
claim_memory("LSQML", len(view.of_role(FIT, VALIDATION)), scan.n_pixels, waves)
result = reconstruct(
    Exposures.of(scan, view.of_role(FIT)),
    Exposures.of(scan, view.of_role(VALIDATION)),
    scan.probe,
    options,
    LSQMLRun(seed=seed, compact=compact, refine_probe="probe" in unknown, refine_positions="positions" in unknown),
)
if len(holdout := view.of_role(HOLDOUT)):  # where positions are refined, theirs are found under the object
    result = with_located(result, Counts.of(scan, holdout), holdout, scan.probe, seed=seed)
kept = result.chosen["best_epoch"]
deviance = result.history.set_index("epoch").loc[kept, "validation_deviance"]
print(f"kept epoch {kept} of {len(result.history)}, validation deviance {deviance:.4f}")
metadata = {"method": "lsqml", "provenance": record_of(snakemake, __file__)}
save_reconstruction(snakemake.output.object, result, history=snakemake.output.history, **metadata)
