"""Time of a training step of PINN or Baseline, and what it goes into, at the default size.

A step makes the example of one group (split of the photons, estimate) and then computes loss and gradient of the
network and updates its weights. Both are measured in turns, so that other load on the machine affects both; medians of
wall and CPU times are reported. The first step, in which TensorFlow compiles the graph, is measured by itself. Prints
JSON.

    python benchmarks/training_speed.py
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scans import make_scan, make_view

from ptycho.workflow import job
from ptycho.workflow.config import load_config

EXPOSURES = 400
N_GROUPS = 200


def clocks() -> tuple[float, float]:
    """Read wall and CPU time [s]."""
    return time.perf_counter(), time.process_time()


class Steps:
    """The steps of a training on a synthetic scan, one by one.

    Parameters
    ----------
    method : str
        "pinn" or "baseline".
    folder : Path
        For the scan.
    options : Namespace
        n, filters and physics_iterations.
    """

    def __init__(self, method: str, folder: Path, options: argparse.Namespace):
        from ptycho.loader import open_groups
        from ptycho.model.group_examples import GroupExamples
        from ptycho.model.losses import canvas_deviance, canvas_distance
        from ptycho.model.networks import Estimator, build_network
        from ptycho.model.unet_training import Trainer, TrainingSet, UNetOptions

        scan = make_scan(folder / "scan.npz", EXPOSURES, options.n)
        view = make_view(folder / "view.npz", scan, N_GROUPS)
        container, self.rng = open_groups(scan, view), np.random.default_rng(0)
        estimator = Estimator(physics_iterations=options.physics_iterations, transmittance=0.9, n_pixels=scan.n_pixels)
        examples = GroupExamples(container=container, estimator=estimator, fit_fraction=0.8)
        make = examples.photons if method == "pinn" else examples.truth
        self.draw: Callable = lambda rng: make(int(rng.integers(len(container))), rng)
        self.example = self.draw(self.rng)
        training_set = TrainingSet(
            draw=self.draw,
            count=len(container),
            validation=lambda: [examples.photons(0, self.rng)],
            loss=canvas_deviance if method == "pinn" else canvas_distance,
        )
        unet = UNetOptions(filters=options.filters, steps=100, learning_rate=1e-3)
        self.trainer = Trainer(build_network(estimator, options.filters), training_set, unet, [0])

    def prepare(self) -> None:
        """Make the next example."""
        self.example = self.draw(self.rng)

    def update(self) -> None:
        """Compute loss and gradient of the last example, and update the weights."""
        import tensorflow as tf

        from ptycho.model.unet_training import _tensors

        loss, *_ = self.trainer._step(*_tensors(self.example), tf.constant(0), tf.constant(False))
        loss.numpy()  # waits for it


def measure(tasks: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Run tasks in turns; return medians of wall and of CPU time [s]."""
    times: dict[str, list] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = clocks()
            task()
            times[name].append(np.subtract(clocks(), start))
    return {name: np.median(pairs, axis=0).tolist() for name, pairs in times.items()}


def measure_method(method: str, options: argparse.Namespace) -> dict:
    """Measure the steps of one method."""
    with tempfile.TemporaryDirectory() as name:
        steps = Steps(method, Path(name), options)
        start = clocks()
        steps.update()
        first_s, first_cpu_s = np.subtract(clocks(), start).tolist()
        seconds = measure({"example": steps.prepare, "update": steps.update}, options.rounds)
    wall_s, cpu_s = np.sum(list(seconds.values()), axis=0).tolist()
    return {
        "parameters": steps.trainer.network.count_params(),
        "wall_ms": {name: 1e3 * wall for name, (wall, _) in seconds.items()},
        "cpu_ms": {name: 1e3 * cpu for name, (_, cpu) in seconds.items()},
        "steps_per_s": 1 / wall_s,
        "steps_per_cpu_s": 1 / cpu_s,
        "first_update_s": first_s,
        "first_update_cpu_s": first_cpu_s,
    }


def size_parser(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options of `Steps`; the defaults are the default study's."""
    network = load_config(Path(__file__).parent.parent / "config" / "config.yaml")["network"]
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--n", type=int, default=64, help="side of a pattern [px] (default: %(default)s)")
    add("--filters", type=int, default=network["filters"], help="features (default: %(default)s)")
    add("--physics-iterations", type=int, default=network["physics_iterations"], help="(default: %(default)s)")
    return parser


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = size_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="measured steps (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: %(default)s)")
    options = parser.parse_args()
    job.limit_threads(options.threads)
    results = {method: measure_method(method, options) for method in ("pinn", "baseline")}
    print(json.dumps({"settings": vars(options), **results}, indent=2))


if __name__ == "__main__":
    main()
