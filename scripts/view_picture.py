"""Picture of a view: kept exposures and their roles, illumination, overlap."""

from typing import TYPE_CHECKING

from ptycho import log
from ptycho.physics import illumination
from ptycho.plots import save, view_figure
from ptycho.scan import open_scan
from ptycho.views import open_view

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
xcoords, ycoords = scan.xcoords[view.exposures], scan.ycoords[view.exposures]
light = illumination(scan.probe, xcoords, ycoords, scan.object.shape)
save(view_figure(xcoords, ycoords, view.role, light, diameter_px=view.metadata["diameter_px"]), snakemake.output[0])
