"""Refine the TV-MAP reconstruction of a view with a network that is trained on the view's own photons."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.data.knowledge import open_known
from ptycho.data.object_files import load_reconstruction, save_reconstruction
from ptycho.data.views import FIT, VALIDATION, open_view
from ptycho.model.checkpoints import Backup, training_key
from ptycho.model.refined import RefinedOptions, RefinedRun, refine
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.tv_weight import TVOptions
from ptycho.workflow.damage import number_in
from ptycho.workflow.provenance import origin_of, record_of, versions

scan = open_known(snakemake.input.scan, snakemake.input.knowledge)
view = open_view(snakemake.input.view, scan)
counts = Counts.of(scan, view.of_role(FIT, VALIDATION))
_, known = load_reconstruction(snakemake.input.tv)
where = f"{snakemake.input.tv}: 'metadata'"
seed, params = int(snakemake.wildcards.seed), snakemake.params
origin = origin_of(seed, {"refined": params.refined, "tv": params.tv}, params.code, snakemake.input)
packages = versions("tensorflow", "keras", "numpy", "scipy")
folder = Path(snakemake.output.object).parent
backup = Backup(folder / "backup", training_key(method="refined", made_with=packages, **origin))
clock = job.CpuClock()
clock.add(number_in(known, where, "cpu_s"))
run = RefinedRun(
    tv_weight=number_in(known, where, "chosen", "tv_weight", above=0),
    prior=TVOptions(**params.tv),
    options=RefinedOptions(**params.refined),
    seed=seed,
    backup=backup,
    clock=clock,
)
results = refine(counts, scan.probe, run, folder=folder)
record, history = record_of(snakemake, __file__), snakemake.output.history
save_reconstruction(snakemake.output.object, results["refined"], history=history, method="refined", provenance=record)
for part in ("whole", "splits"):
    save_reconstruction(snakemake.output[part], results[part], method=f"refined/{part}", provenance=record)
backup.remove()
