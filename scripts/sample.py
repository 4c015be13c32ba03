"""Make the sample: object, probe, positions and their split; the same for all doses and seeds."""

import json
from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.npz import save_arrays
from ptycho.data.object_files import read_object, read_probe
from ptycho.physics.probes import gaussian_probe, illuminated_height_px, zone_plate_probe
from ptycho.physics.samples import simulate_object
from ptycho.physics.simulate import RasterOptions, raster_positions
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
source = snakemake.params.source
rng_object, rng_scan = np.random.default_rng(source["seed"]).spawn(2)
if "seed" in source["object"]:  # of several objects; probe and scan are one for all
    rng_object = np.random.default_rng(source["object"]["seed"])

beam = dict(source["probe"])
kind = beam.pop("kind")
if kind == "file":
    probe = read_probe(beam["path"])
elif kind == "gaussian":
    probe = gaussian_probe(beam["n_pixels"], fwhm_px=beam["fwhm_px"])
else:
    n_pixels, astigmatism, coma = (beam.pop(key) for key in ("n_pixels", "astigmatism_rad", "coma_rad"))
    probe = zone_plate_probe(n_pixels, astigmatism=astigmatism, coma=coma, **beam)

raster = RasterOptions(**source["raster"])
guard = illuminated_height_px(probe)
xcoords, ycoords, shape = raster_positions(raster, probe.shape[-1], guard, rng_scan)
if source["object"]["kind"] == "file":
    obj, _ = read_object(source["object"]["path"], source["object"].get("phase_path"))
    obj = obj[: shape[0], : shape[1]]
    if obj.shape != shape:
        raise SystemExit(
            f"{source['object']['path']}: {obj.shape} px, but this raster scans {shape} px: "
            "a smaller raster or a larger object is needed"
        )
else:
    obj = simulate_object(source["object"]["kind"], shape, rng_object)
    if other := source["object"].get("test_kind"):
        first = raster.columns * raster.train_rows  # of the test exposures; half the guard belongs to either split
        middle = (
            int(ycoords[first - raster.columns : first].mean() + ycoords[first : first + raster.columns].mean()) // 2
        )
        obj[middle:] = simulate_object(other, (shape[0] - middle, shape[1]), rng_object)
is_test = (np.arange(len(xcoords)) >= raster.columns * raster.train_rows).astype(np.int8)
print(
    f"object {obj.shape} px, {np.sum(is_test == 0)} train and {np.sum(is_test)} test exposures, "
    f"guard band {guard:.0f} px"
)
save_arrays(
    snakemake.output[0],
    objectGuess=obj,
    probeGuess=probe,
    xcoords=xcoords,
    ycoords=ycoords,
    is_test=is_test,
    metadata=np.array(json.dumps({"source": source, "guard_px": guard, "provenance": record_of(snakemake, __file__)})),
)
