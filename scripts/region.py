"""Find the scored rectangle, which is illuminated in every view of the split; dose and seed do not change it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.sample_files import open_sample
from ptycho.data.selection import select_view
from ptycho.physics.forward import illumination
from ptycho.physics.probes import diameter_px
from ptycho.scoring.region import scored_region
from ptycho.workflow import job
from ptycho.workflow.damage import sealed
from ptycho.workflow.files import save_text
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
split, overlaps = snakemake.wildcards.split, snakemake.params.views.values()
sample = open_sample(snakemake.input.sample)
chosen, shape, probe = sample.of_split(split), sample.object.shape, sample.probe
xcoords, ycoords, diameter = sample.xcoords[chosen], sample.ycoords[chosen], diameter_px(probe)
views = [select_view(np.stack([ycoords, xcoords], axis=1), diameter, overlap) for overlap in overlaps]
region = scored_region(illumination(probe, xcoords[kept], ycoords[kept], shape) for kept in views)
height, width = region.shape
print(f"scored: rows {region.y0}..{region.y1}, columns {region.x0}..{region.x1}, {height} × {width} px")
numbers = {"split": split, **asdict(region), "shape": region.shape, "provenance": record_of(snakemake, __file__)}
save_text(snakemake.output[0], json.dumps(sealed(numbers), indent=2) + "\n")
