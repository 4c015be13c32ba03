"""Select the exposures of a view, draw their roles, of the train split also groups, and measure the overlap."""

from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from ptycho.data.scan import open_scan
from ptycho.data.views import GroupingOptions, make_view, save_view, with_groups
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
# every dose and seed has the same exposures, roles and groups
scan, split, params = open_scan(snakemake.input.scan), snakemake.wildcards.split, snakemake.params
rng = np.random.default_rng([params.seed, crc32(snakemake.wildcards.view.encode()), split == "test"])
view = make_view(scan, params.overlap, params.holdout_fraction, rng)
if params.grouping:
    view = with_groups(view, scan, GroupingOptions(**params.grouping), rng)
print(view.metadata)
view.metadata["provenance"] = record_of(snakemake, __file__)
save_view(snakemake.output.view, view)
counts = view.metadata["counts"]
if params.grouping and counts["groups"] < counts["groups_wanted"]:
    print(f"WARNING: {counts['groups']} groups instead of {counts['groups_wanted']}: no more were found")
