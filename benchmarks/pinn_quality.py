"""Quality of the PINN on single patterns of line objects at 10⁹ photons: SSIM on an object that it was not trained on.

Follows the benchmark of the public PtychoPINN: gridsize 1, 1,200 training groups, 30 epochs, another object for the
test; before scoring, one complex factor is removed by least squares and nothing else. Tune settings on objects with
other seeds than those reported (--train-seed, --test-seed). Prints JSON.

    python benchmarks/pinn_quality.py --train-seed 0 --test-seed 1
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from scans import study_probe
from scipy.ndimage import gaussian_filter

from ptycho.data.canvas import Canvas
from ptycho.data.grouping import group_neighbors
from ptycho.data.object_files import paste
from ptycho.data.scan import Scan, ScanWriter, open_scan
from ptycho.data.views import FIT, View
from ptycho.physics.forward import illumination
from ptycho.physics.probes import scale_to
from ptycho.physics.samples import PHASE_RAD, simulate_object
from ptycho.physics.simulate import RasterOptions, raster_positions, simulate_scan
from ptycho.scoring.metrics import score
from ptycho.scoring.region import scored_region
from ptycho.workflow import job

DOSE = 1_000_000_000
N = 64
COLUMNS = 30
TEST_ROWS = 20
MAX_SPREAD_PX = 48
VALIDATION_STEP = 20
"""Every 20th exposure is for validation."""
METRICS = ("ssim_amplitude", "ssim_phase", "ms_ssim_amplitude", "ms_ssim_phase", "error")


def disc_probe(n: int):
    """Return a flat beam of 11 px radius with soft edges, in focus: the public project's own probe."""
    y, x = np.indices((n, n)) - n // 2
    return scale_to(gaussian_filter((np.hypot(y, x) < 10.9).astype(np.float64), 1), DOSE)


def confined_probe(n: int):
    """Return the default study's probe within 10 px: a patch then has fewer unknowns than a pattern has pixels."""
    y, x = np.indices((n, n)) - n // 2
    return scale_to(study_probe(n, DOSE) * (np.hypot(y, x) < n * 10 / 64), DOSE)


def one_contrast(obj):
    """Let the amplitude, which lies in [0.5, 1], determine the phase: one material, as in the public project."""
    amplitude = np.abs(obj)
    return (amplitude * np.exp(1j * PHASE_RAD * (3 - 4 * amplitude))).astype(np.complex64)


OBJECTS = {"two_contrasts": lambda obj: obj, "one_contrast": one_contrast}
PROBES = {"zone_plate": lambda n: study_probe(n, DOSE), "disc": disc_probe, "confined": confined_probe}


def simulate_lines(path: Path, seed: int, rows: int, contrast: str, probe: str) -> Scan:
    """Simulate a scan of a line object, `COLUMNS` exposures wide.

    Parameters
    ----------
    seed : int
        Seed of object, positions and noise.
    rows : int
        Number of rows of exposures.
    contrast, probe : str
        Keys of `OBJECTS` and `PROBES`.
    """
    raster = RasterOptions(columns=COLUMNS, train_rows=rows, test_rows=1, spacing_px=8.8, jitter_px=1.0)
    rng = np.random.default_rng(seed)
    x, y, shape = raster_positions(raster, N, N + 1, rng)
    x, y = x[: COLUMNS * rows], y[: COLUMNS * rows]
    obj, probe = OBJECTS[contrast](simulate_object("lines", shape, rng)), PROBES[probe](N)
    fields = {"xcoords": x, "ycoords": y, "probeGuess": probe, "objectGuess": obj, "metadata": {"dose": DOSE}}
    with ScanWriter(path, len(x), N, **fields) as scan:
        for frames in simulate_scan(obj, probe, (x, y), rng):
            scan.write(frames)
    return open_scan(path)


def group(scan: Scan, gridsize: int, n_groups: int):
    """Put every exposure in a group of its own (gridsize 1), or draw groups of neighbors; return the container."""
    from ptycho.loader import open_groups

    exposures = np.arange(len(scan))
    groups = exposures[:, None]
    if gridsize > 1:
        points, rng = np.stack([scan.ycoords, scan.xcoords], axis=1), np.random.default_rng(0)
        options = {"neighbors": 7, "n_groups": n_groups, "max_spread_px": MAX_SPREAD_PX}
        groups = group_neighbors(points, gridsize**2, **options, rng=rng)
    view = View(exposures=exposures, role=np.full(len(scan), FIT, np.int8), nn_indices=groups, metadata={})
    return open_groups(scan, view)


def score_canvas(canvas: Canvas, scan: Scan) -> dict:
    """Score a canvas on the illuminated rectangle after one complex factor is removed by least squares."""
    truth = scan.object[:]
    region = scored_region([illumination(scan.probe, scan.xcoords, scan.ycoords, truth.shape)])
    estimate, truth = paste(canvas.mean(), canvas.origin_px, truth.shape)[region.box], truth[region.box]
    values = score(estimate * (np.vdot(estimate, truth) / np.vdot(estimate, estimate)), truth)
    return {"region_px": list(region.shape)} | {name: round(values[name], 4) for name in METRICS}


def train_network(options: argparse.Namespace, scan: Scan):
    """Train on all groups without a validation exposure; return the network and what the training took."""
    from ptycho.model.networks import NetworkOptions
    from ptycho.model.training import TrainingOptions, TrainingRun, train

    never = 1000 * options.epochs  # neither halve the rate nor stop early; the best weights are kept
    training = TrainingOptions(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        lr_patience=never,
        early_stopping_patience=never,
        trainable_probe=False,
    )
    shape = NetworkOptions(filters=options.filters, amplitude_max=1.2)
    container, validation = group(scan, options.gridsize, options.groups), np.arange(0, len(scan), VALIDATION_STEP)
    run = TrainingRun(validation=validation, max_spread_px=MAX_SPREAD_PX, seed=options.seed)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    network, history = train(options.method, container, shape, training, run)
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return network, {
        "train_wall_s": round(wall_s, 1),
        "train_cpu_s": round(cpu_s, 1),
        "parameters": network.count_params(),
        "loss": history["loss"].round(4).tolist(),
        "validation_deviance": history["validation_deviance"].round(4).tolist(),
    }


def run(options: argparse.Namespace) -> dict:
    """Simulate, train, reconstruct, score."""
    job.limit_threads(options.threads)
    from ptycho.model.inference import reconstruct_in_chunks

    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder, kind = Path(name), (options.object, options.probe)
        seen = simulate_lines(folder / "train.npz", options.train_seed, options.groups // COLUMNS, *kind)
        unseen = simulate_lines(folder / "test.npz", options.test_seed, TEST_ROWS, *kind)
        network, results = train_network(options, seen)
        for label, scan in {"seen": seen, "unseen": unseen}.items():
            container = group(scan, options.gridsize, options.groups)
            start = time.perf_counter()
            canvas = reconstruct_in_chunks(network, container, len(container), 16)
            wall_s = time.perf_counter() - start
            results[label] = score_canvas(canvas, scan) | {"reconstruct_wall_s": round(wall_s, 2)}
            if options.save:
                options.save.mkdir(parents=True, exist_ok=True)
                arrays = {"object": canvas.mean(), "origin_px": canvas.origin_px, "truth": scan.object[:]}
                np.savez(options.save / f"{label}.npz", **arrays)
        if options.save:
            network.save(options.save / "model.keras")
    settings = {key: value for key, value in vars(options).items() if key not in ("scratch", "save")}
    return {"settings": settings, **results}


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="pinn", choices=["pinn", "baseline"], help="default: %(default)s")
    parser.add_argument(
        "--object",
        default="two_contrasts",
        choices=OBJECTS,
        help="whether phase and amplitude are independent (default: %(default)s)",
    )
    parser.add_argument("--probe", default="zone_plate", choices=PROBES, help="illumination (default: %(default)s)")
    parser.add_argument(
        "--gridsize", type=int, default=1, help="square root of the patterns in a group (default: %(default)s)"
    )
    parser.add_argument("--groups", type=int, default=1200, help="training groups (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over them (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="groups in a batch (default: %(default)s)")
    parser.add_argument(
        "--filters", type=int, default=16, help="features of the network at full resolution (default: %(default)s)"
    )
    parser.add_argument(
        "--learning-rate", type=float, default=2e-3, help="Adam's step at the start (default: %(default)s)"
    )
    parser.add_argument("--train-seed", type=int, default=0, help="seed of the training object (default: %(default)s)")
    parser.add_argument("--test-seed", type=int, default=1, help="seed of the test object (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: %(default)s)")
    parser.add_argument("--scratch", help="folder for temporary scans (default: the system's)")
    parser.add_argument("--save", type=Path, help="folder for model and objects (default: they are not saved)")
    print(json.dumps(run(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
