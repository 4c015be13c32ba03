"""Refine probe, positions, flux or background of a view, for all methods that take them for known."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)

from ptycho.data.knowledge import Knowledge, open_known, save_knowledge
from ptycho.data.views import FIT, HOLDOUT, VALIDATION, open_view
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import choose_device
from ptycho.reconstruction.location import locate
from ptycho.reconstruction.refinement import RefinementOptions, refine
from ptycho.workflow.files import save_table
from ptycho.workflow.provenance import record_of

scan = open_known(snakemake.input.scan, snakemake.input.told)
view = open_view(snakemake.input.view, scan)
seed, unknown = int(snakemake.wildcards.seed), tuple(snakemake.params.unknown)
where = snakemake.config["tv"]  # no parameter: another device is no reason to refine anew
fitted, holdout = view.of_role(FIT, VALIDATION), view.of_role(HOLDOUT)
options, clock = RefinementOptions(unknown=unknown, **snakemake.params.refinement), job.CpuClock()
device = choose_device(where["device"], where["device_memory"])
refinement = refine(Counts.of(scan, fitted), scan.probe, options, seed=seed, device=device)
cost, parameters = clock.seconds, refinement.parameters
positions = np.stack([scan.ycoords, scan.xcoords])
scale = scan.detector.exposure_scale
flux = np.ones(len(scan)) if scale is None else scale.copy()
positions[:, fitted] += parameters.shifts
flux[fitted] *= parameters.flux
if len(holdout):  # nothing is fitted to them but where they are, and how bright
    shifts, factors = locate(Counts.of(scan, holdout), refinement, unknown, seed=seed)
    positions[:, holdout] += shifts
    flux[holdout] *= factors
background = scan.detector.background
if "background" in unknown:
    n = scan.n_pixels
    background = np.full((n, n), parameters.background, np.float32) + (0 if background is None else background)
knowledge = Knowledge(
    probe=np.asarray(parameters.probe, np.complex64),
    ycoords=positions[0],
    xcoords=positions[1],
    exposure_scale=flux,
    background=background,
)
print(refinement.history.to_string(index=False))
metadata = {"refined": list(unknown), "cpu_s": cost, "provenance": record_of(snakemake, __file__)}
save_knowledge(snakemake.output.knowledge, knowledge, **metadata)
save_table(snakemake.output.history, refinement.history)
