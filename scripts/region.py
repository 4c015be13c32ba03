"""Find the rectangle that is scored: lit in every view of the split."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho import log
from ptycho.physics import illumination
from ptycho.scan import open_scan
from ptycho.views import open_view, scored_region

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
scan = open_scan(snakemake.input.scan[0])
kept = [open_view(path).exposures for path in snakemake.input.views]
lights = [illumination(scan.probe, scan.xcoords[part], scan.ycoords[part], scan.object.shape) for part in kept]
y0, y1, x0, x1 = scored_region(lights)
print(f"scored: rows {y0}..{y1}, columns {x0}..{x1}, {y1 - y0} × {x1 - x0} px")
numbers = {"split": snakemake.wildcards.split, "y0": y0, "y1": y1, "x0": x0, "x1": x1}
Path(snakemake.output[0]).write_text(json.dumps(numbers, indent=2) + "\n")
