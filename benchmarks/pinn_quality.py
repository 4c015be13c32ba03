"""Quality of PINN and Baseline on line objects at 10⁹ photons: SSIM on an object that they were not trained on.

Follows the benchmark of the public PtychoPINN: 1,200 training groups, another object for the test; before scoring, one
complex factor is removed by least squares and nothing else. A group has gridsize² exposures on one canvas; gridsize 1
are single patterns without overlap. The test scan is reconstructed in tiles. Tune settings on objects with other seeds
than those reported (--train-seed, --test-seed). Prints JSON.

    python benchmarks/pinn_quality.py --train-seed 0 --test-seed 1
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from scans import study_probe
from scipy.ndimage import gaussian_filter

from ptycho.data.object_files import Reconstruction, paste
from ptycho.data.scan import Scan, ScanWriter, open_scan
from ptycho.data.selection import median_overlap
from ptycho.data.tiles import TilingOptions, cut_view
from ptycho.data.views import FIT, VALIDATION, GroupingOptions, View, make_view, with_groups
from ptycho.loader import open_groups, open_tiles
from ptycho.physics.forward import illumination
from ptycho.physics.probes import diameter_px, scale_to
from ptycho.physics.samples import PHASE_RAD, simulate_object
from ptycho.physics.simulate import RasterOptions, raster_positions, simulate_scan
from ptycho.scoring.metrics import score
from ptycho.scoring.region import scored_region
from ptycho.workflow import job
from ptycho.workflow.config import load_config

CONFIG = load_config(Path(__file__).parent.parent / "config" / "config.yaml")
"""Of the default study: what is not said on the command line."""
DOSE = 1_000_000_000
N = 64
COLUMNS = 30
TRAIN_ROWS = 40
TEST_ROWS = 20
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


def draw_view(scan: Scan, rng: np.random.Generator) -> View:
    """Draw the roles of all exposures."""
    points, diameter = np.stack([scan.ycoords, scan.xcoords], axis=1), diameter_px(scan.probe)
    return make_view(scan, median_overlap(points, diameter), CONFIG["grouping"]["holdout_fraction"], rng)


def score_object(result: Reconstruction, scan: Scan) -> dict:
    """Score an object on the illuminated rectangle after one complex factor is removed by least squares."""
    truth = scan.object[:]
    region = scored_region([illumination(scan.probe, scan.xcoords, scan.ycoords, truth.shape)])
    estimate, truth = paste(result.object, result.origin_px, truth.shape)[region.box], truth[region.box]
    values = score(estimate * (np.vdot(estimate, truth) / np.vdot(estimate, estimate)), truth)
    return {"region_px": list(region.shape)} | {name: round(values[name], 4) for name in METRICS}


def train_network(options: argparse.Namespace, scan: Scan):
    """Train on the groups of a scan; return the model and what the training took."""
    from ptycho.model.networks import NetworkOptions
    from ptycho.model.training import TrainingOptions, TrainingRun, train

    grouping = CONFIG["grouping"] | {"gridsize": options.gridsize, "n_groups": options.groups}
    rng = np.random.default_rng(0)
    view = with_groups(draw_view(scan, rng), scan, GroupingOptions(**grouping), rng)
    shape = NetworkOptions(filters=options.filters, physics_iterations=options.physics_iterations)
    training = TrainingOptions(
        steps=options.steps, learning_rate=options.learning_rate, fit_fraction=0.8, loss="poisson"
    )
    run = TrainingRun(validation=view.of_role(VALIDATION), seed=options.seed)
    start, clock = time.perf_counter(), job.CpuClock()
    model, history = train(options.method, open_groups(scan, view), shape, training, run)
    return model, {
        "train_wall_s": round(time.perf_counter() - start, 1),
        "train_cpu_s": round(clock.seconds, 1),
        "parameters": model.network.count_params(),
        "loss": history["loss"].round(4).tolist(),
        "validation_deviance": history["validation_deviance"].round(4).tolist(),
    }


def run(options: argparse.Namespace) -> dict:
    """Simulate, train, reconstruct, score."""
    job.limit_threads(options.threads)
    from ptycho.model.inference import reconstruct_in_chunks

    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder, kind = Path(name), (options.object, options.probe)
        tiling = TilingOptions(**{key: CONFIG["inference"][key] for key in ("tile_px", "halo_px")})
        seen = simulate_lines(folder / "train.npz", options.train_seed, TRAIN_ROWS, *kind)
        unseen = simulate_lines(folder / "test.npz", options.test_seed, TEST_ROWS, *kind)
        model, results = train_network(options, seen)
        for label, scan in {"seen": seen, "unseen": unseen}.items():
            tiles = cut_view(scan, draw_view(scan, np.random.default_rng(0)).of_role(FIT, VALIDATION), tiling)
            result = reconstruct_in_chunks(model, open_tiles(scan, tiles), tiles, len(tiles), 16)
            results[label] = score_object(result, scan) | {"reconstruct_cpu_s": round(result.cpu_s, 2)}
            if options.save:
                options.save.mkdir(parents=True, exist_ok=True)
                arrays = {"object": result.object, "origin_px": result.origin_px, "truth": scan.object[:]}
                np.savez(options.save / f"{label}.npz", **arrays)
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
        "--gridsize", type=int, default=4, help="square root of the patterns in a group (default: %(default)s)"
    )
    parser.add_argument("--groups", type=int, default=1200, help="training groups (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=350, help="steps of Adam, a group each (default: %(default)s)")
    parser.add_argument(
        "--filters", type=int, default=16, help="features of the network at full resolution (default: %(default)s)"
    )
    parser.add_argument("--physics-iterations", type=int, default=30, help="of gradient descent (default: %(default)s)")
    parser.add_argument(
        "--learning-rate", type=float, default=2e-3, help="Adam's step at the start (default: %(default)s)"
    )
    parser.add_argument("--train-seed", type=int, default=0, help="seed of the training object (default: %(default)s)")
    parser.add_argument("--test-seed", type=int, default=1, help="seed of the test object (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: %(default)s)")
    parser.add_argument("--scratch", help="folder for temporary scans (default: the system's)")
    parser.add_argument("--save", type=Path, help="folder for the objects (default: they are not saved)")
    print(json.dumps(run(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
