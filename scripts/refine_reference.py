"""Refine probe and positions of the reference; they are kept if they predict photons of the study better."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)  # before PyTorch is imported

from ptycho.data.object_files import load_reconstruction, save_reconstruction
from ptycho.data.scan import open_scan
from ptycho.inspection.position_refinement import KEY
from ptycho.inspection.position_trial import compare_positions
from ptycho.reconstruction.devices import choose_device
from ptycho.reconstruction.reference import lsqml_options, refine_reference
from ptycho.reconstruction.refinement import RefinementOptions
from ptycho.reporting.curves import read_history
from ptycho.workflow.files import save_table
from ptycho.workflow.memory import claim_memory
from ptycho.workflow.provenance import record_of

scan, params = open_scan(snakemake.input.scan), snakemake.params
recorded, metadata = load_reconstruction(snakemake.input.reference)
claim_memory("the reference", len(scan), scan.n_pixels, params.lsqml["batch_size"] * len(recorded.refined.probe))
options = RefinementOptions(unknown=("probe", "positions"), **params.refinement)
where = snakemake.config["tv"]  # no parameter: another device is no reason to refine anew
lsqml, device = lsqml_options(**params.lsqml), choose_device(where["device"], where["device_memory"])
refined, history = refine_reference(scan, recorded.refined.probe, lsqml, options, params.seed, device)
print(history.to_string(index=False))
gain = compare_positions(recorded, refined, open_scan(snakemake.input.study))
print(f"refined positions are {'kept' if gain.is_kept else 'not kept'}: {gain}")
result, method = replace(recorded, history=read_history(snakemake.input.history, "epoch", "loss")), metadata["method"]
if gain.is_kept:
    result, method = refined, f"{method}; positions and probe refined before"
known = {"method": method, KEY: gain.as_dict(), "provenance": record_of(snakemake, __file__)}
save_reconstruction(snakemake.output.object, result, history=snakemake.output.history, **known)
save_table(snakemake.output.refinement, history)
