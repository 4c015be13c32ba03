"""Write what is recorded of a split of a measured scan: probe and positions that are refined start from it."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.knowledge import Knowledge, photons_of, save_knowledge
from ptycho.data.object_files import load_reconstruction
from ptycho.data.sample_files import open_sample
from ptycho.data.scan import open_scan
from ptycho.physics.probes import add_modes, scale_to
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
unknown, scan = snakemake.params.unknown, open_scan(snakemake.input.scan)
sample = open_sample(snakemake.input.sample, measured=True)
exposures = sample.scan_index[sample.of_split(snakemake.wildcards.split)]
reference, _ = load_reconstruction(snakemake.input.reference)
shift, probe = np.zeros((2, len(scan))), scan.probe
if "positions" in unknown and (positions := reference.refined.positions):
    shift = np.stack([positions.y_shift[exposures], positions.x_shift[exposures]])
if "probe" in unknown:
    recorded = add_modes(open_scan(snakemake.input.recorded).probe, snakemake.params.modes)
    probe = scale_to(recorded, photons_of(probe))
scale = scan.detector.exposure_scale
knowledge = Knowledge(
    probe=probe,
    xcoords=scan.xcoords - shift[1],
    ycoords=scan.ycoords - shift[0],
    exposure_scale=np.ones(len(scan)) if scale is None else scale,
    background=scan.detector.background,
)
print(f"recorded: {', '.join(unknown) or 'nothing that is refined'}; all else as the study has it")
save_knowledge(snakemake.output[0], knowledge, recorded=unknown, provenance=record_of(snakemake, __file__))
