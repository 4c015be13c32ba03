"""Count photons: one split of the scan at one dose with one seed."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.npz import open_member
from ptycho.data.scan import UNITS, ScanWriter, mean_counts, open_scan
from ptycho.physics.probes import scale_to
from ptycho.physics.simulate import simulate_scan
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
dose, seed, split = int(snakemake.wildcards.dose), int(snakemake.wildcards.seed), snakemake.wildcards.split
keys = ("objectGuess", "probeGuess", "xcoords", "ycoords", "is_test")
obj, probe, xcoords, ycoords, is_test = (open_member(snakemake.input.sample, key)[...] for key in keys)
chosen = np.flatnonzero(is_test == (split == "test"))
xcoords, ycoords, probe = xcoords[chosen], ycoords[chosen], scale_to(probe, dose)
metadata = {
    "dose": dose,
    "seed": seed,
    "split": split,
    "source": "simulated",
    "units": UNITS,
    "provenance": record_of(snakemake, __file__),
}
fields = {"xcoords": xcoords, "ycoords": ycoords, "probeGuess": probe, "objectGuess": obj, "scan_index": chosen}
rng = np.random.default_rng([seed, dose, split == "test"])
with ScanWriter(snakemake.output[0], len(chosen), probe.shape[-1], metadata=metadata, **fields) as scan:
    for frames in simulate_scan(obj, probe, (xcoords, ycoords), rng):
        scan.write(frames)
detected = mean_counts(open_scan(snakemake.output[0]).diffraction)
print(
    f"{len(chosen)} exposures, {detected:.1f} photons detected of {dose} incident, transmission {detected / dose:.4f}"
)
