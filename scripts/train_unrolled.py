"""Train the unrolled network on a view, without its truth."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.files import save_table
from ptycho.grouping import FIT, STOP
from ptycho.likelihood import Counts
from ptycho.model.card import make_card, save_network
from ptycho.model.checkpoints import Backup, training_key
from ptycho.model.unrolled import Unrolled, train_unrolled
from ptycho.provenance import origin_of, record_of, versions
from ptycho.scan import open_scan
from ptycho.tv import TotalVariation
from ptycho.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
seed, params = int(snakemake.wildcards.seed), snakemake.params
config = {"unrolled": params.unrolled, "tv": params.tv}
origin = origin_of(seed, config, params.code, scan=snakemake.input.scan, view=snakemake.input.view)
made_with = versions("tensorflow", "keras", "numpy", "scipy")
folder = Path(snakemake.output.model).with_name("backup")
backup = Backup(folder, training_key(method="unrolled", made_with=made_with, **origin))
counts = Counts.of(scan, view.of_role(FIT, STOP))
options, prior = Unrolled(**params.unrolled), TotalVariation(**params.tv)
network, history = train_unrolled(counts, scan.probe, options, prior, seed=seed, backup=backup)
transmission = network.get_layer("steps").transmission
facts = {"transmission": transmission, "provenance": record_of(snakemake, __file__)}
card = make_card("unrolled", scan.probe, n_pixels=scan.n_pixels, channels=1, **facts)
save_network(snakemake.output.model, network, card)
save_table(snakemake.output.history, history)
backup.remove()
