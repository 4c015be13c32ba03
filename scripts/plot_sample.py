"""Plot the sample: object, probe and positions."""

from typing import TYPE_CHECKING

from ptycho.data.sample_files import SPLITS, open_sample
from ptycho.reporting.figures import plot_sample, save
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
sample = open_sample(snakemake.input[0])
chosen = {split: sample.of_split(split) for split in SPLITS}
positions = {split: (sample.xcoords[rows], sample.ycoords[rows]) for split, rows in chosen.items()}
guard = positions["train"][1].max(), positions["test"][1].min()
names = {"reference_name": snakemake.params.reference_name}
figure = plot_sample(sample.object[...], sample.probe, positions, guard_px=guard, **names)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
