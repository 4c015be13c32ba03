"""Figure of the sample: object, probe, positions."""

from typing import TYPE_CHECKING

from ptycho.data.npz import open_member
from ptycho.reporting.figures import plot_sample, save
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
keys = ("objectGuess", "probeGuess", "xcoords", "ycoords", "is_test")
obj, probe, xcoords, ycoords, is_test = (open_member(snakemake.input[0], key)[...] for key in keys)
positions = {
    split: (xcoords[is_test == code], ycoords[is_test == code]) for code, split in enumerate(("train", "test"))
}
half = probe.shape[-1] / 2
guard = positions["train"][1].max() + half, positions["test"][1].min() - half
save(plot_sample(obj, probe, positions, guard_px=guard), snakemake.output[0], record_of(snakemake, __file__))
