"""Lay out a measured study: reference object and probe, positions, and their split in space."""

import json
from typing import TYPE_CHECKING

import numpy as np

from ptycho import log
from ptycho.npz import open_member, save_arrays
from ptycho.probes import illuminated_height_px
from ptycho.provenance import record_of
from ptycho.scan import mean_counts, open_scan, split_rows
from ptycho.stitch import load_object, place

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
scan = open_scan(snakemake.input.scan)
obj, _, origin, _ = load_object(snakemake.input.reference)
probe = open_member(snakemake.input.reference, "probeGuess")[...]
guard = illuminated_height_px(probe)
train, test = split_rows(scan.ycoords, guard, snakemake.params.train_fraction)
print(f"{len(train)} train and {len(test)} test exposures of {len(scan)}, guard band {guard:.0f} px")
metadata = {"source": scan.metadata.get("source", str(scan.path)), "guard_px": guard}
metadata["provenance"] = record_of(snakemake, __file__)
chosen = np.concatenate([train, test])
save_arrays(
    snakemake.output[0],
    objectGuess=place(obj, origin, scan.object.shape),
    probeGuess=(probe / np.sqrt(mean_counts(scan.diffraction))).astype(np.complex64),  # per detected photon
    xcoords=scan.xcoords[chosen],
    ycoords=scan.ycoords[chosen],
    scan_index=chosen,
    is_test=(np.arange(len(chosen)) >= len(train)).astype(np.int8),
    metadata=np.array(json.dumps(metadata)),
)
