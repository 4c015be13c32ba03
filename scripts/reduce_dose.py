"""Thin a measured scan to a dose: one split, one seed."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.npz import open_member
from ptycho.data.scan import UNITS, ScanWriter, mean_counts, open_scan
from ptycho.physics.noise import reduce_dose
from ptycho.physics.probes import scale_to
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
dose, seed, split = int(snakemake.wildcards.dose), int(snakemake.wildcards.seed), snakemake.wildcards.split
keys = ("objectGuess", "probeGuess", "xcoords", "ycoords", "is_test", "scan_index")
obj, probe, xcoords, ycoords, is_test, scan_index = (open_member(snakemake.input.sample, key)[...] for key in keys)
here = is_test == (split == "test")
measured = open_scan(snakemake.input.scan)
fraction = dose / mean_counts(measured.diffraction)
if fraction > 1:
    raise SystemExit(
        f"doses: {dose} photons, but the scan holds {dose / fraction:.0f} per exposure; that is the largest dose"
    )
frames_of = scan_index[here]
metadata = {
    "dose": dose,
    "seed": seed,
    "split": split,
    "source": str(measured.metadata.get("source", measured.path)),
    "thinned_to": fraction,
    "units": UNITS,
    "provenance": record_of(snakemake, __file__),
}
# the reference's probe is scaled to one photon a detected photon
fields = {
    "xcoords": xcoords[here],
    "ycoords": ycoords[here],
    "probeGuess": scale_to(probe, float(np.sum(np.abs(probe) ** 2, dtype=np.float64)) * dose),
    "objectGuess": obj,
    "scan_index": frames_of,
}


class Chosen:
    """The split's frames of the measured scan, read when sliced."""

    def __len__(self):
        return len(frames_of)

    def __getitem__(self, block):
        return measured.diffraction[frames_of[block]]


rng = np.random.default_rng([seed, dose, split == "test"])
with ScanWriter(snakemake.output[0], len(frames_of), measured.n_pixels, metadata=metadata, **fields) as scan:
    for frames in reduce_dose(Chosen(), fraction, rng):
        scan.write(frames)
print(
    f"{len(frames_of)} exposures thinned to {fraction:.4g}: "
    f"{mean_counts(open_scan(snakemake.output[0]).diffraction):.1f} photons detected"
)
