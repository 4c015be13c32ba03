"""Intact files of this project, as small as they come; each function writes one kind into a folder."""

import json

import numpy as np
import yaml
from PIL import Image

from ptycho.data.canvas import Canvas, save_parts
from ptycho.data.npz import save_arrays
from ptycho.data.object_files import Reconstruction, Refined, save_reconstruction
from ptycho.data.sample_files import Sample, save_sample
from ptycho.data.tiles import Tile, save_tiles
from ptycho.data.views import FIT, HOLDOUT, VALIDATION, View, save_view
from ptycho.inspection.findings import Finding, Verdict
from tests import faulty_scans
from tests.workflow import TINY

N, EXPOSURES = 16, 15
RECORD = {"script": "ptycho.cli.convert", "code": "0" * 12, "config": {"a": 1}, "seeds": {}, "directory": "/"}
RECORD |= {"inputs": {"scan.npz": "sha256:0"}, "outputs": ["out.npz"], "versions": {"numpy": "2"}}
"""What made a file, as `ptycho.workflow.provenance.make_record` says it."""


def plane(shape=(6, 7)):
    """A complex image without symmetry."""
    rows, columns = np.indices(shape)
    return (0.8 * np.exp(0.1j * (rows + 2 * columns))).astype(np.complex64)


def write_scan(folder):
    """A scan with everything that is optional."""
    raw = faulty_scans.right(n=N, rows=5, columns=3)
    bad = np.zeros((N, N), bool)
    bad[3, 5] = True
    detector = {"bad_pixels": bad, "background": np.full((N, N), 0.1, np.float32), "exposure_scale": np.ones(EXPOSURES)}
    faulty_scans.write(folder / "scan.npz", raw.changed(detector=detector))
    return folder / "scan.npz"


def write_sample(folder):
    x = np.arange(8.0) + 4
    sample = {"object": plane((24, 24)), "probe": plane((8, 8)), "xcoords": x, "ycoords": x[::-1].copy()}
    sample |= {"is_test": np.arange(8, dtype=np.int8) % 2, "scan_index": np.arange(8)}
    save_sample(folder / "sample.npz", Sample(**sample), source="simulated")
    return folder / "sample.npz"


def write_view(folder):
    """A view of the scan of `write_scan`."""
    role = np.full(EXPOSURES, FIT, np.int8)
    role[5], role[10] = VALIDATION, HOLDOUT
    counts = {"exposures_of_scan": EXPOSURES, "exposures": EXPOSURES, "groups": 2, "groups_wanted": 2}
    metadata = {"counts": counts | {"fit": 13, "validation": 1, "holdout": 1, "exposures_without_photons": 0}}
    metadata |= {"target_overlap": 0.7, "overlap": {"between_exposures": {"linear": 0.7}}, "provenance": RECORD}
    groups = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    view = View(exposures=np.arange(EXPOSURES), role=role, nn_indices=groups, metadata=metadata)
    save_view(folder / "view.npz", view)
    return folder / "view.npz"


def write_tiles(folder):
    cores = ((0.0, 20.0), (0.0, 20.0)), ((20.0, 40.0), (0.0, 20.0))
    tiles = [Tile(np.arange(4 * number, 4 * number + 8), core, 5.0) for number, core in enumerate(cores)]
    save_tiles(folder / "tiles.npz", tiles, warning=None, provenance=RECORD)
    return folder / "tiles.npz"


def write_object(folder):
    refined = Refined(probe=plane((N, N))[None])
    result = {"object": plane((40, 40)), "illumination": np.ones((40, 40)), "origin_px": (2, 3), "refined": refined}
    result = Reconstruction(**result, cpu_s=1.5, chosen={"tv_weight": 2.0})
    save_reconstruction(folder / "object.npz", result, method="tv", provenance=RECORD)
    return folder / "object.npz"


def write_comparison(folder):
    metadata = {"origin_px": [3, 4], "reference_name": "truth", "pixel_size_m": 1e-8, "provenance": RECORD}
    images = {"truth": plane(), "pinn": plane(), "tv": -plane()}
    save_arrays(folder / "comparison.npz", **images, metadata=np.array(json.dumps(metadata)))
    return folder / "comparison.npz"


def write_chunk(folder, number=1, count=2):
    """A chunk of one tile of several."""
    canvas = Canvas(plane().astype(np.complex128), np.ones((6, 7)), (5 * number, 3))
    run = {"model": "zip:0", "tiling": "zip:1", "tiles": count}
    metadata = {"run": run, "tiles": [number - 1, number], "cpu_s": 0.5, "chosen": {"x": 1.0}, "provenance": {}}
    metadata |= {"steps": [{"stage": "all", "tile": f"tile {number}/{count}", "objective": 2.5}]}
    save_parts(folder / f"{number}of{count}.npz", [canvas], lambda: metadata)
    return folder / f"{number}of{count}.npz"


def write_groups(folder):
    """A grouped file: two groups of four frames."""
    frames = np.random.default_rng(0).poisson(9, (2, 8, 8, 4)).astype(np.float32)
    offsets = {"global_offsets": np.full((2, 1, 2, 1), 12.0), "local_offsets": np.zeros((2, 1, 2, 4))}
    offsets["local_offsets"][..., 1:] = np.arange(3.0)
    truth = {"Y_I": np.ones((2, 8, 8, 4), np.float32), "Y_phi": np.zeros((2, 8, 8, 4), np.float32)}
    np.savez(folder / "patches.npz", X=frames, probeGuess=plane((8, 8)), **offsets, **truth)
    np.savez(folder / "groups.npz", X=frames, probeGuess=plane((8, 8)), **offsets, YY_full=plane((24, 24)))
    return folder / "groups.npz", folder / "patches.npz"


def write_model(folder):
    """A network of PINN of the smallest kind, with card and probe."""
    import keras

    from ptycho.model.card import make_card, save_network
    from ptycho.model.networks import Estimator, build_network

    keras.utils.set_random_seed(0)
    estimator = Estimator(physics_iterations=1, transmittance=0.75, n_pixels=N)
    facts = {"n_pixels": N, "channels": 4, "transmittance": 0.75, "estimator": estimator.as_dict()}
    card = make_card("pinn", plane((N, N)), **facts, provenance=RECORD)
    save_network(folder / "model.keras", build_network(estimator, 1), card, plane((N, N))[None])
    return folder / "model.keras"


def write_state(folder):
    """The backup of a training whose key is "key"."""
    from ptycho.model.checkpoints import Backup

    Backup(folder, "key").save({"epoch": 3, "rows": [{"loss": 0.5}]}, weights=[plane(), np.float32(1)], best=[])
    return folder / "state.npz"


def write_json(name, content):
    """Return a function that writes a JSON file into a folder."""

    def write(folder):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
        return folder / name

    return write


def verdict():
    """The verdict of a check, with one finding of every level."""
    levels = [("counts", "note"), ("positions", "warning"), ("probe", "error")]
    findings = [Finding(topic, level, "a finding", remedy="a remedy") for topic, level in levels]
    return Verdict.of("scan.npz", findings).as_dict()


def write_config(folder):
    """The study file of the tiny study."""
    (folder / "study.yaml").write_text(yaml.safe_dump(yaml.safe_load(TINY.read_text("utf-8"))), encoding="utf-8")
    return folder / "study.yaml"


def write_png(folder):
    """A figure with a record."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("provenance", json.dumps(RECORD))
    Image.fromarray(np.arange(42, dtype=np.uint8).reshape(6, 7)).save(folder / "figure.png", pnginfo=text)
    return folder / "figure.png"


def write_images(folder):
    """An amplitude and a phase, PNG of 16 bit and TIFF."""
    import tifffile

    Image.fromarray(np.arange(42, dtype=np.uint16).reshape(6, 7) * 900).save(folder / "amplitude.png")
    tifffile.imwrite(folder / "phase.tif", np.arange(42, dtype=np.float32).reshape(6, 7) / 42)
    return folder / "amplitude.png", folder / "phase.tif"


def write_results(folder):
    """The tables of a study of two doses and two methods."""
    rows, views = (
        ["dose,view,split,method,seed,metric,value"],
        ["dose,view,seed,split,overlap,fluence_photons_per_px,mean_detected_photons"],
    )
    for dose in (1000, 100_000):
        views.append(f"{dose},dense,0,test,0.7,{dose / 80},{dose / 2}")
        for method in ("pinn", "tv"):
            rows += [f"{dose},dense,test,{method},0,{metric},0.{dose % 7 + 2}" for metric in ("frc50_phase", "error")]
    limit = [row.replace("tv", "photon limit") for row in rows if ",tv," in row]
    for name, lines in {"metrics": rows, "fluence": views, "bound": [rows[0], *limit]}.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "metrics.csv", folder / "fluence.csv", folder / "bound.csv"


def write_cost(folder):
    """What a job took."""
    columns = ["s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time"]
    numbers = ["12.5", "0:00:12", "512.1", "2048.2", "500.1", "505.2", "0.00", "1.20", "98.10", "12.01"]
    (folder / "job.tsv").write_text("\t".join(columns) + "\n" + "\t".join(numbers) + "\n", encoding="utf-8")
    return folder / "job.tsv"


def write_tables(folder):
    """Histories of a training and of an iterative reconstruction, correlations, prices and the fluence beside them."""
    prices = [
        "split,view,method,resolution,status,dose_photons,fluence_photons_per_px,upper_limit,sd_factor,n_reached,n"
    ]
    prices += [
        "test,dense,tv,0.25,at lowest dose,1000.0,12.5,True,,2,2",
        "test,dense,tv,0.5,reached,2e4,250.0,False,1.1,2,2",
    ]
    prices += ["test,dense,photon limit,0.75,not reached,,,False,,0,4"]
    rings = [f"tv,{part},{ring / 4},{1 - ring / 5},{ring}" for part in ("amplitude", "phase") for ring in (1, 2, 3, 4)]
    tables = {
        "training": ["epoch,loss,validation_deviance,learning_rate", "0.5,0.3,0.4,0.001", "1.0,0.2,0.35,0.0005"],
        "history": [
            "stage,tv_weight,validation_deviance,tile",
            "choice,64.0,0.4,",
            "choice,32.0,0.3,",
            "all,32.0,,tile 1/1",
        ],
        "frc": ["method,part,frequency,frc,ssnr", *rings],
        "price": prices,
        "fluence": ["dose,view,split,fluence_photons_per_px", "1000,dense,test,12.5", "100000,dense,test,1250"],
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [folder / f"{name}.csv" for name in tables]


def write_numbers(folder):
    """What the summary of a study reads of a view, its tiles and a reference."""
    view = {"target_overlap": 0.7, "overlap": {"between_exposures": {"linear": 0.69}}, "spacing_px": {"q50": 4.5}}
    view |= {"counts": {"exposures": 5, "holdout": 1, "groups": 3, "groups_wanted": 4}, "fluence_photons_per_px": 12.0}
    view |= {"mean_detected_photons": 600.0, "valid_pixel_fraction": 0.9}
    misfit = {"misfit": 1.2, "standard_error": 0.01, "explained_by_shot_noise": 1.1, "exceeds_shot_noise": True}
    place = folder / "results/x/dose_5/dense/seed_0"
    place.mkdir(parents=True, exist_ok=True)
    contents = {
        place / "test.json": view,
        place / "test_tiles.json": {"tiles": 4, "largest_tile": 30, "redundancy": 1.75, "warning": None},
        folder / "misfit.json": misfit | {"over_mean_pattern": 0.4},
    }
    for path, content in contents.items():
        path.write_text(json.dumps(content), encoding="utf-8")
    return list(contents)


def write_plain_object(folder):
    """An object as people save it: beside it a probe, positions and an origin."""
    arrays = {"object": plane((60, 60)), "probe": plane((N, N)), "origin_px": np.array([0, 0])}
    places = np.linspace(20, 36, EXPOSURES)
    np.savez(folder / "plain.npz", **arrays, xcoords=places, ycoords=places[::-1])
    return folder / "plain.npz"
