"""Find the rectangle that is scored: lit in every view of the split."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ptycho import log
from ptycho.compare import shared_region
from ptycho.files import save_text
from ptycho.provenance import record_of
from ptycho.scan import open_scan
from ptycho.views import open_view

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
scan = open_scan(snakemake.input.scan[0])
region = shared_region(scan, [open_view(path) for path in snakemake.input.views])
height, width = region.y1 - region.y0, region.x1 - region.x0
print(f"scored: rows {region.y0}..{region.y1}, columns {region.x0}..{region.x1}, {height} × {width} px")
numbers = {"split": snakemake.wildcards.split, **asdict(region), "provenance": record_of(snakemake, __file__)}
save_text(snakemake.output[0], json.dumps(numbers, indent=2) + "\n")
