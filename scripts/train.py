"""Train a network on a view."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.files import save_table
from ptycho.grouping import STOP
from ptycho.loader import open_groups
from ptycho.model.card import make_card, save_network
from ptycho.model.checkpoints import Backup, training_key
from ptycho.model.networks import Network
from ptycho.model.training import Training, train
from ptycho.provenance import origin_of, record_of, versions
from ptycho.scan import open_scan
from ptycho.views import open_view

method, seed, params = snakemake.wildcards.method, int(snakemake.wildcards.seed), snakemake.params
view = open_view(snakemake.input.view)
container = open_groups(open_scan(snakemake.input.scan), view)
print(container)
config = {"network": params.network, "training": params.training, "spread": params.spread}
origin = origin_of(seed, config, params.code, scan=snakemake.input.scan, view=snakemake.input.view)
made_with = versions("tensorflow", "keras", "numpy")
backup = Backup(
    Path(snakemake.output.model).with_name("backup"), training_key(method=method, made_with=made_with, **origin)
)
network, history = train(
    method,
    container,
    Network(**params.network),
    Training(**params.training),
    stop=view.of_role(STOP),
    spread=params.spread,
    seed=seed,
    backup=backup,
)
kept = history.loc[history["stop_deviance"].idxmin()]
print(f"kept epoch {kept['epoch']:.2f} of {history['epoch'].iloc[-1]:.2f}, stop deviance {kept['stop_deviance']:.5g}")
card = make_card(
    method,
    container._probe_np,
    n_pixels=network.input_shape[1],
    channels=network.input_shape[-1],
    transmission=network.get_layer("backpropagation").transmission,
    kept=kept.to_dict(),
    provenance=record_of(snakemake, __file__),
)
save_network(snakemake.output.model, network, card)
save_table(snakemake.output.history, history)
backup.remove()
