"""Make the sample of a measured study: reference object and probe, positions, and their split in space."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.object_files import load_reconstruction, paste, refined_probe
from ptycho.data.sample_files import Sample, plane_of, save_sample
from ptycho.data.scan import mean_counts, open_scan, split_rows
from ptycho.physics.probes import illuminated_height_px
from ptycho.scoring.knowledge import known_by
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
scan = open_scan(snakemake.input.scan)
reference, _ = load_reconstruction(snakemake.input.reference)
probe = refined_probe(snakemake.input.reference, reference, scan.n_pixels)
known = known_by(reference, scan)  # with refined positions, if the reference has any
guard = illuminated_height_px(probe)
train, test = split_rows(known.ycoords, guard, snakemake.params.train_fraction)
print(f"{len(train)} train and {len(test)} test exposures of {len(scan)}, guard band {guard:.0f} px")
exposures = np.concatenate([train, test])
(down, right), shape = plane_of(known, exposures)
origin = reference.origin_px[0] + down, reference.origin_px[1] + right
sample = Sample(
    object=paste(reference.object, origin, shape),
    probe=(probe / np.sqrt(mean_counts(scan.diffraction))).astype(np.complex64),  # per detected photon
    xcoords=known.xcoords[exposures] + right,
    ycoords=known.ycoords[exposures] + down,
    is_test=(np.arange(len(exposures)) >= len(train)).astype(np.int8),
    scan_index=exposures,
)
metadata = {"source": scan.metadata.get("source", str(scan.path)), "guard_px": guard}
save_sample(snakemake.output[0], sample, **metadata, provenance=record_of(snakemake, __file__))
