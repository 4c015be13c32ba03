"""Train the unrolled network on a view, without its truth."""

from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.grouping import FIT, STOP
from ptycho.likelihood import Counts
from ptycho.model.unrolled import Unrolled, train_unrolled
from ptycho.scan import open_scan
from ptycho.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
counts = Counts.of(scan, view.of_role(FIT, STOP))
options = Unrolled(**snakemake.params.unrolled)
network, history = train_unrolled(counts, scan.probe, options, seed=int(snakemake.wildcards.seed))
network.save(snakemake.output.model)
history.to_csv(snakemake.output.history, index=False)
