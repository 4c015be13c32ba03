"""Make the sample: object, probe, positions and their split; the same for all doses and seeds."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.sample_files import Sample, save_sample
from ptycho.formats.images import crop_object, make_probe
from ptycho.physics.probes import illuminated_height_px
from ptycho.physics.samples import simulate_object
from ptycho.physics.simulate import RasterOptions, raster_positions
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def make_object(shape, middle, rng, *, kind, test_kind=None):
    """Simulate the object; rows from `middle` on, half of the guard band and the test split, may be of another kind."""
    obj = simulate_object(kind, shape, rng)
    if test_kind:
        obj[middle:] = simulate_object(test_kind, (shape[0] - middle, shape[1]), rng)
    return obj


job.log_to(snakemake.log[0])
source = snakemake.params.source
rng_object, rng_scan = np.random.default_rng(source["seed"]).spawn(2)
options = dict(source["object"])
if "seed" in options:  # a study of several objects, which share probe and scan
    rng_object = np.random.default_rng(options.pop("seed"))
probe = make_probe(**source["probe"])
raster, guard = RasterOptions(**source["raster"]), illuminated_height_px(probe)
xcoords, ycoords, shape = raster_positions(raster, probe.shape[-1], guard, rng_scan)
first = raster.columns * raster.train_rows  # of the test exposures
if options["kind"] == "file":
    obj = crop_object(shape, options["path"], options.get("phase_path"))
else:
    rows = slice(first - raster.columns, first), slice(first, first + raster.columns)
    middle = int(sum(ycoords[row].mean() for row in rows)) // 2
    obj = make_object(shape, middle, rng_object, **options)
is_test = (np.arange(len(xcoords)) >= first).astype(np.int8)
print(f"object {obj.shape} px, {first} train and {np.sum(is_test)} test exposures, guard band {guard:.0f} px")
sample = Sample(object=obj, probe=probe, xcoords=xcoords, ycoords=ycoords, is_test=is_test)
save_sample(snakemake.output[0], sample, source=source, guard_px=guard, provenance=record_of(snakemake, __file__))
