"""Objects with a phase that varies slowly across the scan: what steps in that phase alone are worth.

Leaves as they are, with a phase step of 1.6 rad in the middle and with a ramp of 3 rad from left to right, at a dense
and a sparse raster: the steps of the shipped `unrolled` without its network, and TV-MAP at the same strength, with and
without steps in the slow phase. The error is what is left after one complex factor: with a known probe nothing else is
unobservable. Prints JSON.

    python benchmarks/slow_phase.py --doses 1000 10000 100000
"""

import argparse
import json
from pathlib import Path

import numpy as np
import yaml
from scans import beam
from tqdm import tqdm

from ptycho.physics.samples import simulate_object
from ptycho.physics.simulate import Raster, expose, raster_positions
from ptycho.reconstruction.likelihood import Counts, Likelihood
from ptycho.reconstruction.optimize import descend, descend_phase
from ptycho.workflow import job, tv

N = 64
SPACINGS = {"dense": 8.8, "sparse": 24.0}
STRENGTHS = {1_000: 4.0, 10_000: 11.0, 100_000: 18.0}
"""Of the prior, about what thinning chooses there."""


def objects_of(shape) -> dict:
    """Return leaves, with a step and with a ramp of their phase."""
    leaves, column = simulate_object("leaves", shape, np.random.default_rng(1)), np.arange(shape[1]) / shape[1]
    phases = {"leaves": 0 * column, "step": np.where(column < 0.5, -0.8, 0.8), "ramp": 3 * (column - 0.5)}
    return {name: (leaves * np.exp(1j * phase)).astype(np.complex64) for name, phase in phases.items()}


def few_steps(likelihood: Likelihood, level: float, strength: float, shape: dict):
    """Make the steps of `unrolled`, those behind the network as well, without it."""
    from ptycho.model.unrolled import Steps

    numbers = {name: shape[name] for name in Steps.NUMBERS}
    steps = Steps(**numbers, strength=strength, transmission=level, n_pixels=N, photons=1.0)
    return steps.behind(likelihood, steps.before(likelihood)[-1])


def many_steps(likelihood: Likelihood, level: float, strength: float, phase_iterations: int, config: dict):
    """Go down to a strength as TV-MAP does."""
    obj = np.full(likelihood.shape, level, np.complex64)
    for factor in (128, 64, 32, 16, 8, 4, 2, 1):
        soft, iterations = tv.softened(likelihood, factor), config["iterations" if factor > 1 else "final_iterations"]
        if factor < tv.WARM and phase_iterations:
            obj = descend_phase(soft, obj, phase_iterations)
        obj = descend(soft, obj, factor * strength, iterations)[0]
    return obj


def run(options) -> dict:
    """Reconstruct everything that was asked for."""
    job.limit_threads(1)
    config, rows = yaml.safe_load(options.config.read_text()), []
    shapes = {"with": {"sweeps": 0}, "without": {"sweeps": 0, "phase_iterations": 0}, "with, behind sweeps": {}}
    for dose, (view, spacing) in tqdm([(dose, view) for dose in options.doses for view in SPACINGS.items()]):
        probe = beam(N, dose)[None]
        raster = Raster(
            columns=int(190 / spacing), train_rows=int(110 / spacing), test_rows=1, spacing_px=spacing, jitter_px=1
        )
        x, y, shape = raster_positions(raster, N, N + 1, np.random.default_rng(0))
        x, y = (axis[: raster.columns * raster.train_rows] for axis in (x, y))
        for name, obj in objects_of(shape).items():
            frames = np.square(np.concatenate(list(expose(obj, probe, (x, y), np.random.default_rng(2)))), dtype=float)
            counts = Counts(lambda chosen, frames=frames: frames[chosen], x, y)
            likelihood, level = Likelihood(counts, probe), tv.transmission_of(counts, probe)
            (top, left), (height, width) = likelihood.origin_px, likelihood.shape
            truth, light = obj[top : top + height, left : left + width], likelihood.light()
            lit = light > 0.3 * np.median(light[light > 1e-2 * light.max()])
            for steps, numbers in shapes.items():
                made = {"unrolled": few_steps(likelihood, level, STRENGTHS[dose], config["unrolled"] | numbers)}
                if options.tv and "sweeps" in numbers:
                    number = tv.PHASE_ITERATIONS if steps == "with" else 0
                    made["tv"] = many_steps(likelihood, level, STRENGTHS[dose], number, config["tv"])
                for method, found in made.items():
                    factor = np.vdot(found[lit], truth[lit]) / np.vdot(found[lit], found[lit])
                    wrong = np.linalg.norm((factor * found - truth)[lit]) / np.linalg.norm(truth[lit])
                    told = {"dose": dose, "view": view, "object": name, "method": method, "slow phase": steps}
                    rows.append({**told, "error": round(float(wrong), 4)})
    return {"settings": {key: str(value) for key, value in vars(options).items()}, "found": rows}


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--doses", type=int, nargs="+", choices=STRENGTHS, default=[10_000], help="photons (10000)")
    parser.add_argument("--tv", action="store_true", help="TV-MAP as well")
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"), help="(config/config.yaml)")
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
