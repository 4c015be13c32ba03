"""Quality of the PINN from single patterns of lines objects at a billion photons: SSIM on an object it has not seen.

The public PtychoPINN's benchmark: gridsize 1, 1,200 training groups, 30 epochs, another object for the test, one
complex factor removed by least squares and nothing else. Settings are to be tuned on the objects of other seeds than
the ones that are reported (--train-seed, --test-seed). Prints JSON.

    python benchmarks/pinn_quality.py --train-seed 0 --test-seed 1
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scans import beam
from scipy.ndimage import gaussian_filter

from ptycho.data.grouping import FIT, group_neighbours
from ptycho.data.scan import ScanWriter, open_scan
from ptycho.data.views import View, scored_region
from ptycho.physics.probes import scale_to
from ptycho.physics.samples import PHASE_RAD, simulate_object
from ptycho.physics.simulate import Raster, expose, raster_positions
from ptycho.scoring.metrics import score
from ptycho.workflow import job

DOSE = 1_000_000_000
N = 64
COLUMNS = 30
STOP_EVERY = 20
"""One exposure in so many is not trained on: it judges."""


def soft_disc(n: int):
    """Return a flat beam of 11 px radius with soft edges, in focus: the public project's own probe."""
    y, x = np.indices((n, n)) - n // 2
    return scale_to(gaussian_filter((np.hypot(y, x) < 10.9).astype(np.float64), 1), DOSE)


def confined(n: int):
    """Return the default study's probe within 10 px: its patch has fewer unknowns than a pattern numbers."""
    y, x = np.indices((n, n)) - n // 2
    return scale_to(beam(n, DOSE) * (np.hypot(y, x) < n * 10 / 64), DOSE)


def one_contrast(obj):
    """Let the amplitude, which lies in [0.5, 1], decide the phase: a single material, as in the public project."""
    amplitude = np.abs(obj)
    return (amplitude * np.exp(1j * PHASE_RAD * (3 - 4 * amplitude))).astype(np.complex64)


OBJECTS = {"two_contrasts": lambda obj: obj, "one_contrast": one_contrast}
PROBES = {"zone_plate": lambda n: beam(n, DOSE), "disc": soft_disc, "confined": confined}


def make_lines(path, seed: int, rows: int, contrast: str, probe: str):
    """Simulate a scan of a lines object of its own, 30 exposures wide."""
    raster = Raster(columns=COLUMNS, train_rows=rows, test_rows=1, spacing_px=8.8, jitter_px=1.0)
    rng = np.random.default_rng(seed)
    x, y, shape = raster_positions(raster, N, N + 1, rng)
    x, y = x[: COLUMNS * rows], y[: COLUMNS * rows]
    obj, probe = OBJECTS[contrast](simulate_object("lines", shape, rng)), PROBES[probe](N)
    fields = {"xcoords": x, "ycoords": y, "probeGuess": probe, "objectGuess": obj, "metadata": {"dose": DOSE}}
    with ScanWriter(path, len(x), N, **fields) as scan:
        for frames in expose(obj, probe, (x, y), rng):
            scan.write(frames)
    return open_scan(path)


def groups_of(scan, gridsize: int, n_groups: int):
    """All exposures by themselves, or groups of neighbours, as a container."""
    from ptycho.loader import open_groups

    exposures = np.arange(len(scan))
    groups = exposures[:, None]
    if gridsize > 1:
        points = np.stack([scan.ycoords, scan.xcoords], axis=1)
        options = {"neighbours": 7, "n_groups": n_groups, "max_spread_px": 48, "rng": np.random.default_rng(0)}
        groups = group_neighbours(points, gridsize**2, **options)
    view = View(exposures=exposures, role=np.full(len(scan), FIT, np.int8), nn_indices=groups, metadata={})
    return open_groups(scan, view)


def judge(canvas, scan) -> dict:
    """Score a reconstruction on the lit rectangle after one complex factor (least squares) is taken off."""
    from ptycho.data.object_files import place
    from ptycho.physics.forward import illumination

    truth = scan.object[:]
    y0, y1, x0, x1 = scored_region([illumination(scan.probe, scan.xcoords, scan.ycoords, truth.shape)])
    box = np.s_[y0:y1, x0:x1]
    estimate, truth = place(canvas.mean(), canvas.origin_px, truth.shape)[box], truth[box]
    estimate = estimate * (np.vdot(estimate, truth) / np.vdot(estimate, estimate))
    found = score(estimate, truth)
    kept = ("ssim_amplitude", "ssim_phase", "ms_ssim_amplitude", "ms_ssim_phase", "error")
    return {"region_px": [y1 - y0, x1 - x0]} | {name: round(found[name], 4) for name in kept}


def run(options) -> dict:
    """Train, reconstruct, score."""
    job.limit_threads(options.threads)
    from ptycho.model.inference import reconstruct_in_chunks
    from ptycho.model.networks import Network
    from ptycho.model.training import Training, train

    training = Training(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        trainable_probe=False,
        halve_after=options.epochs * 1000,  # never: the weights that the judges find best are kept, and no more
        patience=options.epochs * 1000,
    )
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        kind = options.object, options.probe
        seen = make_lines(Path(name) / "train.npz", options.train_seed, options.groups // COLUMNS, *kind)
        unseen = make_lines(Path(name) / "test.npz", options.test_seed, 20, *kind)
        network = Network(filters=options.filters, amplitude_max=1.2, bfloat16=options.bfloat16)
        container = groups_of(seen, options.gridsize, options.groups)
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        judges = {"stop": range(0, len(seen), STOP_EVERY), "spread": 48}
        network, history = train(options.method, container, network, training, **judges, seed=options.seed)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        results = {"train_wall_s": round(wall, 1), "train_cpu_s": round(cpu, 1), "parameters": network.count_params()}
        results["loss"] = [round(loss, 4) for loss in history["loss"]]
        for label, scan in (("seen", seen), ("unseen", unseen)):
            groups = groups_of(scan, options.gridsize, options.groups)
            start = time.perf_counter()
            canvas = reconstruct_in_chunks(network, groups, len(groups), 16)
            results[label] = judge(canvas, scan) | {"reconstruct_s": round(time.perf_counter() - start, 2)}
            if options.save:
                options.save.mkdir(parents=True, exist_ok=True)
                np.savez(
                    options.save / f"{label}.npz", object=canvas.mean(), origin=canvas.origin_px, truth=scan.object[:]
                )
        if options.save:
            network.save(options.save / "model.keras")
    settings = {key: value for key, value in vars(options).items() if key not in ("scratch", "save")}
    return {"settings": settings, **results}


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="pinn", choices=["pinn", "baseline"], help="pinn, or baseline (pinn)")
    parser.add_argument(
        "--object", default="two_contrasts", choices=OBJECTS, help="is the phase its own (two_contrasts)"
    )
    parser.add_argument("--probe", default="zone_plate", choices=PROBES, help="the beam (zone_plate)")
    parser.add_argument("--gridsize", type=int, default=1, help="patterns in a group: its square (1)")
    parser.add_argument("--groups", type=int, default=1200, help="training groups (1200)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over them (30)")
    parser.add_argument("--batch-size", type=int, default=8, help="groups (8)")
    parser.add_argument("--filters", type=int, default=16, help="of the network at full resolution (16)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of Adam (2e-3)")
    parser.add_argument("--train-seed", type=int, default=0, help="of the object that is trained on (0)")
    parser.add_argument("--test-seed", type=int, default=1, help="of the object that is scored (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (0)")
    parser.add_argument("--threads", type=int, default=2, help="threads (2)")
    parser.add_argument("--bfloat16", action="store_true", help="convolutions in bfloat16")
    parser.add_argument("--scratch", help="folder for the scans")
    parser.add_argument("--save", type=Path, help="folder for model and objects")
    json.dump(run(parser.parse_args()), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
