"""Objects with a phase that varies slowly across the scan: what optimization steps in that phase alone gain.

Dead leaves as they are, with a phase step of 1.6 rad in the middle, and with a phase ramp of 3 rad from left to right,
with a dense and a sparse raster. They are reconstructed by the schedule of `unrolled` without its network, and by
TV-MAP's continuation at the same TV weight, with and without steps in the slow phase. The error is what remains after
one complex factor, since with a known probe nothing else is unobservable. Prints JSON.

    python benchmarks/slow_phase.py --doses 1000 10000 100000
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scans import study_probe
from tqdm import tqdm

from ptycho.physics.samples import simulate_object
from ptycho.physics.simulate import RasterOptions, raster_positions, simulate_scan
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize, minimize_slow_phase
from ptycho.reconstruction.schedule import Schedule
from ptycho.reconstruction.tv import PHASE_ITERATIONS
from ptycho.reconstruction.tv_weight import WARM_START_FACTOR, background_for
from ptycho.workflow import job
from ptycho.workflow.config import load_config

N = 64
EXTENT_PX = 190, 110
"""Width and height of the scan."""
SPACINGS_PX = {"dense": 8.8, "sparse": 24.0}
TV_WEIGHTS = {1_000: 4.0, 10_000: 11.0, 100_000: 18.0}
"""By dose: about the weights that splitting the photons chooses."""
SCHEDULE = ("stages", "minibatch_epochs", "iterations", "phase_iterations", "final_iterations", "post_iterations")
VARIANTS = {
    "with": {"minibatch_epochs": 0},
    "without": {"minibatch_epochs": 0, "phase_iterations": 0},
    "with, after mini-batch epochs": {},
}
"""Steps in the slow phase, and the settings of `unrolled` that are changed for it."""


def phase_objects(shape: tuple[int, int]) -> dict:
    """Return dead leaves as they are, with a step and with a ramp of their phase."""
    leaves = simulate_object("dead_leaves", shape, np.random.default_rng(1))
    column = np.arange(shape[1]) / shape[1]
    phases = {"dead_leaves": 0 * column, "step": np.where(column < 0.5, -0.8, 0.8), "ramp": 3 * (column - 0.5)}
    return {name: (leaves * np.exp(1j * phase)).astype(np.complex64) for name, phase in phases.items()}


def run_schedule(likelihood: Likelihood, transmittance: float, tv_weight: float, numbers: dict):
    """Run the schedule of `unrolled` on both sides of the network, without the network."""
    facts = {"tv_weight": tv_weight, "transmittance": transmittance, "n_pixels": N, "photons": 1.0}
    schedule = Schedule(**{name: numbers[name] for name in SCHEDULE}, **facts)
    return schedule.after(likelihood, schedule.before(likelihood)[-1])


def run_tv(likelihood: Likelihood, transmittance: float, tv_weight: float, phase_iterations: int, config: dict):
    """Follow TV-MAP's continuation down to a TV weight, with any number of iterations in the slow phase."""
    obj = np.full(likelihood.shape, transmittance, np.complex64)
    for factor in (128, 64, 32, 16, 8, 4, 2, 1):
        smoothed = background_for(likelihood, factor)
        if factor < WARM_START_FACTOR and phase_iterations:
            obj = minimize_slow_phase(smoothed, obj, phase_iterations)
        iterations = config["iterations" if factor > 1 else "final_iterations"]
        obj = minimize(smoothed, obj, factor * tv_weight, iterations)[0]
    return obj


def simulated_counts(dose: int, spacing_px: float) -> Iterator[tuple[str, Counts, np.ndarray, np.ndarray]]:
    """Simulate a scan of every object; yield its name, the counts, the probe and the truth."""
    probe = study_probe(N, dose)[None]
    columns, rows = (int(extent / spacing_px) for extent in EXTENT_PX)
    raster = RasterOptions(columns=columns, train_rows=rows, test_rows=1, spacing_px=spacing_px, jitter_px=1)
    x, y, shape = raster_positions(raster, N, N + 1, np.random.default_rng(0))
    x, y = (axis[: columns * rows] for axis in (x, y))
    for name, obj in phase_objects(shape).items():
        amplitude = np.concatenate(list(simulate_scan(obj, probe, (x, y), np.random.default_rng(2))))
        frames = np.square(amplitude, dtype=np.float64)
        yield name, Counts(lambda exposures, frames=frames: frames[exposures], x, y), probe, obj


def relative_error(obj, truth, likelihood: Likelihood) -> float:
    """Error on the well-illuminated pixels of the canvas after one complex factor."""
    (top, left), (height, width) = likelihood.origin_px, likelihood.shape
    illumination = likelihood.illumination()
    lit = illumination > 0.3 * np.median(illumination[illumination > 1e-2 * illumination.max()])
    obj, truth = obj[lit], truth[top : top + height, left : left + width][lit]
    factor = np.vdot(obj, truth) / np.vdot(obj, obj)
    return float(np.linalg.norm(factor * obj - truth) / np.linalg.norm(truth))


def run(options: argparse.Namespace) -> dict:
    """Reconstruct every object at every dose and spacing."""
    job.limit_threads(1)
    config, rows = load_config(options.config), []
    for dose, (view, spacing_px) in tqdm([(dose, view) for dose in options.doses for view in SPACINGS_PX.items()]):
        for name, counts, probe, truth in simulated_counts(dose, spacing_px):
            likelihood = Likelihood(counts, probe)
            start = counts.mean_transmittance(probe), TV_WEIGHTS[dose]
            for variant, changes in VARIANTS.items():
                objects = {"unrolled": run_schedule(likelihood, *start, config["unrolled"] | changes)}
                if options.tv and changes:
                    iterations = PHASE_ITERATIONS if variant == "with" else 0
                    objects["tv"] = run_tv(likelihood, *start, iterations, config["tv"])
                for method, obj in objects.items():
                    labels = {"dose": dose, "view": view, "object": name, "method": method, "slow_phase": variant}
                    rows.append({**labels, "error": round(relative_error(obj, truth, likelihood), 4)})
    return {"settings": {**vars(options), "config": str(options.config)}, "errors": rows}


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--doses",
        type=int,
        nargs="+",
        choices=TV_WEIGHTS,
        default=[10_000],
        help="photons per exposure (default: 10000)",
    )
    parser.add_argument("--tv", action="store_true", help="also run TV-MAP's continuation")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("config/config.yaml"),
        help="config file with the schedules (default: %(default)s)",
    )
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
