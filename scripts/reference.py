"""Reconstruct the reference from half of the photons of all frames: object, and probe in incoherent modes."""

from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)  # before PyTorch is imported

from ptycho.data.object_files import save_reconstruction
from ptycho.data.scan import open_scan
from ptycho.physics.probes import add_modes
from ptycho.reconstruction.reference import lsqml_options, reconstruct_reference
from ptycho.workflow.memory import claim_memory
from ptycho.workflow.provenance import record_of
from ptycho.workflow.refusal import refusal

if why := refusal(snakemake.input.verdict, snakemake.config["source"].get("accept", [])):
    raise SystemExit(why)
scan, params = open_scan(snakemake.input.scan), snakemake.params
claim_memory("the reference", len(scan), scan.n_pixels, params.lsqml["batch_size"] * params.modes)
result = reconstruct_reference(scan, add_modes(scan.probe, params.modes), lsqml_options(**params.lsqml), params.seed)
metadata = {
    "method": "lsqml, probe refined; object by maximum likelihood",
    "provenance": record_of(snakemake, __file__),
}
save_reconstruction(snakemake.output.object, result, history=snakemake.output.history, **metadata)
