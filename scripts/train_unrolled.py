"""Train the unrolled network on a view, without a truth."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.data.knowledge import open_known
from ptycho.data.views import FIT, VALIDATION, open_view
from ptycho.data.written import DIGESTS, digests_of
from ptycho.model.card import make_card, save_network
from ptycho.model.checkpoints import Backup, training_key
from ptycho.model.unrolled import UnrolledOptions, train_unrolled
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.tv_weight import TVOptions
from ptycho.workflow.files import save_table
from ptycho.workflow.provenance import origin_of, record_of, versions

scan = open_known(snakemake.input.scan, snakemake.input.knowledge)
view = open_view(snakemake.input.view, scan)
seed, params = int(snakemake.wildcards.seed), snakemake.params
config = {"unrolled": params.unrolled, "tv": params.tv}
origin = origin_of(seed, config, params.code, snakemake.input)
packages = versions("tensorflow", "keras", "numpy", "scipy")
folder = Path(snakemake.output.model).with_name("backup")
backup = Backup(folder, training_key(method="unrolled", made_with=packages, **origin))
counts = Counts.of(scan, view.of_role(FIT, VALIDATION))
options, prior = UnrolledOptions(**params.unrolled), TVOptions(**params.tv)
model, history = train_unrolled(counts, scan.probe, options, prior, seed=seed, backup=backup)
schedule = model.schedule
save_table(snakemake.output.history, history)
facts = {"schedule": schedule.as_dict(), DIGESTS: digests_of(snakemake.output.history)}
facts["provenance"] = record_of(snakemake, __file__)
card = make_card(
    "unrolled", scan.probe, n_pixels=scan.n_pixels, channels=1, transmittance=schedule.transmittance, **facts
)
save_network(snakemake.output.model, model.network, card, scan.probe)
backup.remove()
