"""Train a network on a view."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.data.knowledge import open_known
from ptycho.data.views import VALIDATION, open_view
from ptycho.data.written import digests_of
from ptycho.loader import open_groups
from ptycho.model.card import make_card, save_network
from ptycho.model.checkpoints import Backup, training_key
from ptycho.model.networks import NetworkOptions
from ptycho.model.training import TrainingOptions, TrainingRun, train
from ptycho.workflow.files import save_table
from ptycho.workflow.provenance import origin_of, record_of, versions

method, seed, params = snakemake.wildcards.method, int(snakemake.wildcards.seed), snakemake.params
scan = open_known(snakemake.input.scan, snakemake.input.knowledge)
view = open_view(snakemake.input.view, scan)
container = open_groups(scan, view)
print(container)
config = {"network": params.network, "training": params.training}
origin = origin_of(seed, config, params.code, snakemake.input)
packages = versions("tensorflow", "keras", "numpy", "scipy")
folder = Path(snakemake.output.model).with_name("backup")
backup = Backup(folder, training_key(method=method, made_with=packages, **origin))
run = TrainingRun(validation=view.of_role(VALIDATION), seed=seed, backup=backup)
options = NetworkOptions(**params.network), TrainingOptions(**params.training)
model, history = train(method, container, *options, run)
kept = history.loc[history["validation_deviance"].idxmin()]
epochs, deviance = history["epoch"].iloc[-1], kept["validation_deviance"]
print(f"kept epoch {kept['epoch']:.2f} of {epochs:.2f}, validation deviance {deviance:.5g}")
save_table(snakemake.output.history, history)
probe = container.probe_array if model.probe is None else model.probe
card = make_card(
    method,
    probe,
    n_pixels=container.n_pixels,
    channels=container.channels,
    transmittance=model.estimator.transmittance,
    estimator=model.estimator.as_dict(),
    probe_trained=model.probe is not None,
    kept=kept.to_dict(),
    digests=digests_of(snakemake.output.history),
    provenance=record_of(snakemake, __file__),
)
save_network(snakemake.output.model, model.network, card, probe)
backup.remove()
