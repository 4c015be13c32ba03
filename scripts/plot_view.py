"""Plot a view: exposures and their roles, illumination, overlap."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.grouping import linear_overlap, nearest_distances
from ptycho.data.scan import open_scan
from ptycho.data.tiles import borders_of, load_tiles
from ptycho.data.views import ROLES, open_view
from ptycho.physics.forward import illumination
from ptycho.reporting.figures import plot_view, save
from ptycho.workflow import job
from ptycho.workflow.damage import number_in
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
scan = open_scan(snakemake.input.scan)
view = open_view(snakemake.input.view, scan)
xcoords, ycoords = scan.xcoords[view.exposures], scan.ycoords[view.exposures]
margin, (height, width) = scan.n_pixels, scan.object.shape
top, left = max(int(ycoords.min()) - margin, 0), max(int(xcoords.min()) - margin, 0)
shape = min(int(ycoords.max()) + margin, height) - top, min(int(xcoords.max()) + margin, width) - left
flux = illumination(scan.probe, xcoords, ycoords, shape, (top, left))
diameter = number_in(view.metadata, f"{snakemake.input.view}: 'metadata'", "diameter_px", above=0)
overlaps = linear_overlap(nearest_distances(np.stack([ycoords, xcoords], axis=1)), diameter)
chosen = {role: view.of_role(code) for code, role in enumerate(ROLES)}
positions = {role: (scan.xcoords[exposures], scan.ycoords[exposures]) for role, exposures in chosen.items()}
borders = borders_of(load_tiles(snakemake.input.tiles, scan) if snakemake.input.tiles else [])
figure = plot_view(positions, flux, overlaps, origin_px=(top, left), borders_px=borders)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
