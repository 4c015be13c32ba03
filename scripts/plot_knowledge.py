"""Plot what was refined: the probe before and after, how far positions moved, and the flux."""

from typing import TYPE_CHECKING

from ptycho.data.knowledge import open_known
from ptycho.data.views import FIT, HOLDOUT, VALIDATION, open_view
from ptycho.reporting.figures import save
from ptycho.reporting.knowledge_figures import plot_knowledge
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
scan = open_known(snakemake.input.scan, snakemake.input.told)
known = open_known(snakemake.input.scan, snakemake.input.knowledge)
exposures = open_view(snakemake.input.view, scan).of_role(FIT, VALIDATION, HOLDOUT)
figure = plot_knowledge(scan, known, exposures, snakemake.params.unknown)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
