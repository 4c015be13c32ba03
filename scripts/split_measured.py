"""Lay out a measured study: reference object and probe, positions, and their split in space."""

import json
from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.npz import save_arrays
from ptycho.data.object_files import load_reconstruction, paste
from ptycho.data.scan import mean_counts, open_scan, split_rows
from ptycho.physics.probes import illuminated_height_px
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
scan = open_scan(snakemake.input.scan)
reference, _ = load_reconstruction(snakemake.input.reference)
probe = reference.refined.probe
guard = illuminated_height_px(probe)
train, test = split_rows(scan.ycoords, guard, snakemake.params.train_fraction)
print(f"{len(train)} train and {len(test)} test exposures of {len(scan)}, guard band {guard:.0f} px")
metadata = {"source": scan.metadata.get("source", str(scan.path)), "guard_px": guard}
metadata["provenance"] = record_of(snakemake, __file__)
chosen = np.concatenate([train, test])
save_arrays(
    snakemake.output[0],
    objectGuess=paste(reference.object, reference.origin_px, scan.object.shape),
    probeGuess=(probe / np.sqrt(mean_counts(scan.diffraction))).astype(np.complex64),  # per detected photon
    xcoords=scan.xcoords[chosen],
    ycoords=scan.ycoords[chosen],
    scan_index=chosen,
    is_test=(np.arange(len(chosen)) >= len(train)).astype(np.int8),
    metadata=np.array(json.dumps(metadata)),
)
