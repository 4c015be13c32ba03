"""Reduce the dose of one split of a measured scan, with one seed: keep each photon with the same probability."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.lazy import SelectedRows
from ptycho.data.sample_files import open_sample
from ptycho.data.scan import UNITS, ScanWriter, mean_counts, open_scan
from ptycho.physics.noise import reduce_dose
from ptycho.physics.probes import scale_to
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
dose, seed, split = int(snakemake.wildcards.dose), int(snakemake.wildcards.seed), snakemake.wildcards.split
sample, measured = open_sample(snakemake.input.sample, measured=True), open_scan(snakemake.input.scan)
chosen = sample.of_split(split)
exposures, probe = sample.scan_index[chosen], sample.probe
fraction = dose / mean_counts(measured.diffraction)
if fraction > 1:
    raise SystemExit(f"doses: {dose} photons per exposure; wanted at most {dose / fraction:.0f}, what the scan holds")
source = str(measured.metadata.get("source", measured.path))
metadata = {"dose": dose, "seed": seed, "split": split, "source": source, "kept_fraction": fraction, "units": UNITS}
metadata |= measured.measurement
metadata["provenance"] = record_of(snakemake, __file__)
incident = float(np.sum(np.abs(probe) ** 2, dtype=np.float64)) * dose  # the sample's probe is per detected photon
fields = {
    "xcoords": sample.xcoords[chosen],
    "ycoords": sample.ycoords[chosen],
    "probeGuess": scale_to(probe, incident),
    "objectGuess": sample.object[...],
    "scan_index": exposures,
    **measured.detector.select(exposures).scaled(fraction).arrays(),
}
rng = np.random.default_rng([seed, dose, split == "test"])
with ScanWriter(snakemake.output[0], len(exposures), measured.n_pixels, metadata=metadata, **fields) as scan:
    for frames in reduce_dose(SelectedRows(measured.diffraction, exposures), fraction, rng, source=measured.path):
        scan.write(frames)
detected = mean_counts(open_scan(snakemake.output[0]).diffraction)
print(f"{len(exposures)} exposures, {fraction:.4g} of the photons kept: {detected:.1f} per exposure")
