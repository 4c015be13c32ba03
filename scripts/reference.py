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
from ptycho.reconstruction.lsqml import LSQMLOptions
from ptycho.reconstruction.reference import reconstruct_reference
from ptycho.workflow.provenance import record_of
from ptycho.workflow.refusal import refusal

if why := refusal(snakemake.input.verdict, snakemake.config["source"].get("accept", [])):
    raise SystemExit(why)
options = dict(snakemake.params.options)
modes = options.pop("modes")
lsqml = LSQMLOptions(early_stopping_patience=options["epochs"], compact_batching_below_overlap=0.0, **options)
result = reconstruct_reference(open_scan(snakemake.input.scan), lsqml, modes, snakemake.params.seed)
metadata = {
    "method": "lsqml, probe refined; object by maximum likelihood",
    "provenance": record_of(snakemake, __file__),
}
save_reconstruction(snakemake.output.object, result, history=snakemake.output.history, **metadata)
