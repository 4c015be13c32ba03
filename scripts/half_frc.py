"""Fourier ring correlation between the reconstructions of two independent halves of a condition's photons."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)

from ptycho.compare import Region
from ptycho.files import save_table
from ptycho.frc_curves import between_halves
from ptycho.halves import WARNING, half_crossings, half_frc, load_halves
from ptycho.places import label
from ptycho.plots import save
from ptycho.provenance import record_of
from ptycho.scan import open_scan
from ptycho.views import open_view

place = open_scan(snakemake.input.scan), open_view(snakemake.input.view), Region.load(snakemake.input.region)
pairs = zip(snakemake.input.first, snakemake.input.second, strict=True)
halves = dict(zip(snakemake.params.methods, pairs, strict=True))
curves = pd.concat(
    [half_frc(*load_halves(paths, *place)).assign(method=method) for method, paths in halves.items()],
    ignore_index=True,
)
columns = ["method", *curves.columns.drop("method")]
save_table(snakemake.output.curves, curves[columns])
crossings = half_crossings(curves)
save_table(snakemake.output.crossings, crossings)
print(crossings.to_string(index=False))
print(f"WARNING: {WARNING}")
title = label(dict(snakemake.wildcards.items()))
save(between_halves(curves, title, WARNING), snakemake.output.picture, record_of(snakemake, __file__))
