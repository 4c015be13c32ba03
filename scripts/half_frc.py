"""Fourier ring correlation between the reconstructions of the two half scans of a condition."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.limit_threads(snakemake.threads)

from ptycho.data.scan import open_scan
from ptycho.data.views import open_view
from ptycho.reporting.figures import save
from ptycho.reporting.frc_figures import plot_half_frc
from ptycho.scoring.half_frc import WARNING, half_crossings, half_frc, load_halves
from ptycho.scoring.region import Region
from ptycho.workflow.files import save_table
from ptycho.workflow.paths import label
from ptycho.workflow.provenance import record_of

scan = open_scan(snakemake.input.scan)
view = open_view(snakemake.input.view, scan)
region = Region.load(snakemake.input.region, scan.object.shape)
pairs = zip(snakemake.input.first, snakemake.input.second, strict=True)
halves = dict(zip(snakemake.params.methods, pairs, strict=True))
tables = [half_frc(*load_halves(paths, scan, view, region)).assign(method=method) for method, paths in halves.items()]
curves = pd.concat(tables, ignore_index=True)
columns = ["method", *curves.columns.drop("method")]
save_table(snakemake.output.curves, curves[columns])
crossings = half_crossings(curves)
save_table(snakemake.output.crossings, crossings)
print(crossings.to_string(index=False))
print(f"WARNING: {WARNING}")
title = label(dict(snakemake.wildcards.items()))
save(plot_half_frc(curves, title, WARNING), snakemake.output.figure, record_of(snakemake, __file__))
