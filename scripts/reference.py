"""Reconstruct the reference from half of the photons of all frames, and refine the probe in incoherent modes."""

from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)  # before PyTorch is imported

import numpy as np

from ptycho.data.object_files import save_reconstruction
from ptycho.data.scan import open_scan
from ptycho.physics.probes import add_modes
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, reconstruct
from ptycho.workflow.provenance import record_of
from ptycho.workflow.refusal import refusal

if why := refusal(snakemake.input.verdict, snakemake.config["source"].get("accept", [])):
    raise SystemExit(why)
options = dict(snakemake.params.options)
scan = open_scan(snakemake.input.scan)
probe = add_modes(scan.probe, options.pop("modes"))
result = reconstruct(
    Exposures.of(scan, np.arange(len(scan))),
    None,
    probe,
    LSQMLOptions(early_stopping_patience=options["epochs"], compact_batching_below_overlap=0.0, **options),
    LSQMLRun(seed=snakemake.params.seed, refine_probe=True),
)
metadata = {"method": "lsqml, probe refined", "provenance": record_of(snakemake, __file__)}
save_reconstruction(snakemake.output.object, result, history=snakemake.output.history, **metadata)
