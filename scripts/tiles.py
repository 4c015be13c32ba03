"""Cut a view into the tiles that trained networks are applied to."""

from typing import TYPE_CHECKING

from ptycho.data.scan import open_scan
from ptycho.data.tiles import TilingOptions, cut_view, halo_warning, save_tiles, tile_numbers
from ptycho.data.views import FIT, VALIDATION, open_view
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
scan = open_scan(snakemake.input.scan)
exposures = open_view(snakemake.input.view, scan).of_role(FIT, VALIDATION)
options = TilingOptions(tile_px=snakemake.params.tile_px, halo_px=snakemake.params.halo_px)
tiles = cut_view(scan, exposures, options)
print(tile_numbers(tiles))
if warning := halo_warning(tiles, scan.n_pixels):
    print(f"WARNING: {warning}")
save_tiles(snakemake.output.tiles, tiles, warning=warning, provenance=record_of(snakemake, __file__))
