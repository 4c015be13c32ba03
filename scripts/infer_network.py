"""Apply a network to one chunk of a view's groups, and save the partial canvas."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.data.chunks import chunk_bounds, run_of
from ptycho.data.scan import open_scan
from ptycho.data.views import open_view
from ptycho.loader import open_groups
from ptycho.model.card import load_network
from ptycho.model.inference import add_groups
from ptycho.workflow.provenance import record_of

container = open_groups(open_scan(snakemake.input.scan), open_view(snakemake.input.view))
start, stop = chunk_bounds(len(container), int(snakemake.wildcards.i) - 1, int(snakemake.wildcards.n))
network, folder = load_network(snakemake.input.model), Path(snakemake.output[0]).parent
clock = job.CpuClock()
canvas = add_groups(network, container, range(start, stop), snakemake.params.batch_size, folder=folder)
run = run_of(snakemake.input.model, snakemake.input.view, len(container))
metadata = {"run": run, "groups": [start, stop], "cpu_s": clock.seconds}
canvas.save(snakemake.output[0], **metadata, provenance=record_of(snakemake, __file__))
