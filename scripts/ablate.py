"""Ablation of a trained unrolled model: reconstruct a view with some of its parts left out."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.data.knowledge import open_known
from ptycho.data.object_files import save_reconstruction
from ptycho.data.views import FIT, VALIDATION, open_view
from ptycho.model.ablation import ablate
from ptycho.model.inference import load_model
from ptycho.reconstruction.counts import Counts
from ptycho.workflow.provenance import record_of

scan = open_known(snakemake.input.scan, snakemake.input.knowledge)
view = open_view(snakemake.input.view, scan)
counts = Counts.of(scan, view.of_role(FIT, VALIDATION))
paths, record = {Path(path).stem: path for path in snakemake.output}, record_of(snakemake, __file__)
for part, result in ablate(load_model(snakemake.input.model), counts, scan.probe):
    save_reconstruction(paths[part], result, method=f"unrolled/{part}", provenance=record)
