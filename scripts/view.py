"""Select the exposures of a view, draw their roles and groups, and measure the overlap."""

from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from ptycho.data.scan import open_scan
from ptycho.data.views import GroupingOptions, make_view, save_view
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
# every dose and seed has the same exposures, roles and groups
split = snakemake.wildcards.split
rng = np.random.default_rng([snakemake.params.seed, crc32(snakemake.wildcards.view.encode()), split == "test"])
grouping = GroupingOptions(**snakemake.params.grouping)
view = make_view(open_scan(snakemake.input.scan), snakemake.params.overlap, grouping, rng)
print(view.metadata)
view.metadata["provenance"] = record_of(snakemake, __file__)
save_view(snakemake.output.view, view)
if (n_groups := view.metadata["counts"]["groups"]) < grouping.n_groups:
    print(f"WARNING: {n_groups} groups instead of {grouping.n_groups}: no more were found")
