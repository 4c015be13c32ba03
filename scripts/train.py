"""Train a network on a view."""

from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.loader import open_groups
from ptycho.model.networks import Network
from ptycho.model.training import Training, train
from ptycho.scan import open_scan
from ptycho.views import open_view

container = open_groups(open_scan(snakemake.input.scan), open_view(snakemake.input.view))
print(container)
network, history = train(
    snakemake.wildcards.method,
    container,
    Network(**snakemake.params.network),
    Training(**snakemake.params.training),
    spread=snakemake.params.spread,
    seed=int(snakemake.wildcards.seed),
)
network.save(snakemake.output.model)
history.to_csv(snakemake.output.history, index=False)
