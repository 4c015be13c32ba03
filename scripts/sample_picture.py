"""Picture of the sample: object, probe, positions."""

from typing import TYPE_CHECKING

from ptycho import log
from ptycho.plots import sample_figure, save
from ptycho.scan import open_member

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
keys = ("objectGuess", "probeGuess", "xcoords", "ycoords", "is_test")
obj, probe, xcoords, ycoords, is_test = (open_member(snakemake.input[0], key)[...] for key in keys)
save(sample_figure(obj, probe, xcoords, ycoords, is_test), snakemake.output[0])
