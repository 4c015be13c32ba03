"""Simulate the counts of one split of the scan at one dose, with one seed."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.sample_files import open_sample
from ptycho.data.scan import UNITS, ScanWriter, mean_counts, open_scan
from ptycho.physics.detector import DetectorOptions, simulate_detector
from ptycho.physics.probes import scale_to
from ptycho.physics.simulate import simulate_scan
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
dose, seed, split = int(snakemake.wildcards.dose), int(snakemake.wildcards.seed), snakemake.wildcards.split
sample = open_sample(snakemake.input.sample)
chosen = sample.of_split(split)
obj, probe = sample.object[...], scale_to(sample.probe, dose)
positions = sample.xcoords[chosen], sample.ycoords[chosen]
size = len(chosen), probe.shape[-1]
# of all exposures, the same at every dose and seed; object and scan have the first two streams of this seed
rng_detector = np.random.default_rng(snakemake.params.seed).spawn(3)[2]
options = DetectorOptions(**snakemake.params.detector)
detector = simulate_detector(options, size[1], len(sample.xcoords), rng_detector).select(chosen)
metadata = {"dose": dose, "seed": seed, "split": split, "source": "simulated", "units": UNITS}
metadata["provenance"] = record_of(snakemake, __file__)
fields = {"xcoords": positions[0], "ycoords": positions[1], "probeGuess": probe, "objectGuess": obj}
fields |= detector.detector.arrays()
rng = np.random.default_rng([seed, dose, split == "test"])
with ScanWriter(snakemake.output[0], *size, metadata=metadata, **fields, scan_index=chosen) as scan:
    for frames in simulate_scan(obj, probe, positions, rng, detector=detector):
        scan.write(frames)
detected = mean_counts(open_scan(snakemake.output[0]).diffraction)
print(f"{len(chosen)} exposures, {detected:.1f} of {dose} photons detected: a fraction of {detected / dose:.4f}")
if (n_bad := size[1] ** 2 - detector.detector.n_valid(size[1])) > 0:
    print(f"{n_bad} of {size[1] ** 2} pixels are bad; photons are those of the others")
