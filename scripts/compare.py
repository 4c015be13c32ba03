"""Align and score the reconstructions of all methods under one condition."""

import json
from typing import TYPE_CHECKING

import numpy as np

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)

from ptycho.data.knowledge import open_known
from ptycho.data.npz import save_arrays
from ptycho.data.scan import open_scan
from ptycho.data.views import open_view
from ptycho.data.written import DIGESTS, digests_of
from ptycho.scoring.evaluate import compare, frc_table
from ptycho.scoring.metric_tables import warnings_of, with_condition
from ptycho.scoring.region import Region
from ptycho.workflow.files import save_table
from ptycho.workflow.paths import condition_of
from ptycho.workflow.provenance import record_of

objects = dict(zip(snakemake.params.methods, snakemake.input.objects, strict=True))
scan = open_scan(snakemake.input.scan)
view = open_view(snakemake.input.view, scan)
region = Region.load(snakemake.input.region, scan.object.shape)
files = {path: open_known(snakemake.input.scan, path) for path in snakemake.input.knowledge}
known = {method: files[path] for method, path in snakemake.params.knowledge.items()}
metrics, arrays = compare(objects, scan, view, region, known)
metrics = with_condition(metrics, **condition_of(snakemake.output.metrics), split=snakemake.wildcards.split)
save_table(snakemake.output.metrics, metrics)
save_table(snakemake.output.frc, frc_table(arrays))
metadata = {"origin_px": region.origin_px, "reference_name": snakemake.params.reference_name}
if "pixel_size_m" in scan.metadata:
    metadata["pixel_size_m"] = scan.metadata["pixel_size_m"]
metadata[DIGESTS] = digests_of(snakemake.output.metrics, snakemake.output.frc)
metadata["provenance"] = record_of(snakemake, __file__)
save_arrays(snakemake.output.arrays, **arrays, metadata=np.array(json.dumps(metadata)))
print(metrics.to_string(index=False))
for warning in warnings_of(metrics):
    print(f"WARNING: {warning}")
