"""Speed of the PINN's training step and of inference relative to the machine's own float32 matrix product.

A ratio is (operations of the convolutions / time) / (operations of a matrix product / time): 1 would be a network whose
convolutions run as fast as a product of two large matrices and whose other operations take no time. Operations are
counted from the network's layers: 2 k² Cin Cout H W for each pattern, three times as many for a training step. An
`UpConvolution` counts as the convolution that it replaces; `ratio_cpu_folded` counts the products that it computes.

Matrix product, training step at gridsize 1, training step at gridsize 2 and inference alternate, so that other load on
the machine affects all of them; medians are reported. Ratios are of wall times and, as `ratio_cpu`, of CPU times: on a
shared machine the threads of a matrix product wait for each other, and its wall time suffers more than a step's.

Batches hold the same number of patterns at both gridsizes, since every pattern of a group goes through the network by
itself: `gridsize 2 / 1` is the time of a step with batch / 4 groups of four patterns over that of one with `batch`
single patterns. The first step, from the call of `fit` to its end, is measured in a separate process. Prints JSON.

    python benchmarks/training_speed.py --filters 32 --batch 16 --threads 2
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from scans import study_probe

from ptycho.backend import tensorflow
from ptycho.workflow import job

SIDE = 2048
"""Rows and columns of the matrices."""


def example(options: argparse.Namespace, gridsize: int):
    """Build a network, the compiled PINN around it, and a batch of `options.batch` patterns."""
    from ptycho.model.losses import PoissonDeviance
    from ptycho.model.networks import NetworkOptions, build_network, build_pinn
    from ptycho.model.optimizer import compile_model

    channels, n, probe = gridsize**2, options.n, study_probe(options.n, 1e6)
    shape = NetworkOptions(filters=options.filters, amplitude_max=1.2)
    network = build_network(n, channels, probe, shape, transmittance=0.8)
    model = build_pinn(network, probe, 48, trainable_probe=False)
    compile_model(model, PoissonDeviance(), 1e-4)
    rng, groups = np.random.default_rng(0), options.batch // channels
    frames = np.sqrt(rng.poisson(200.0, (groups, n, n, channels))).astype(np.float32)
    positions = rng.uniform(-12, 12, (groups, 1, 2, channels)).astype(np.float32)
    return network, model, {"diffraction": frames, "positions": positions}


def clocks() -> tuple[float, float]:
    """Read wall and CPU time [s]."""
    return time.perf_counter(), time.process_time()


def first_step(options: argparse.Namespace) -> dict:
    """Time the first batch of `fit`, with all that Keras and TensorFlow prepare for it, and the second."""
    tf = tensorflow()
    import keras

    class StepClock(keras.callbacks.Callback):
        ends = ()

        def on_train_batch_end(self, batch, logs=None):
            self.ends = (*self.ends, clocks())

    start = clocks()
    _, model, inputs = example(options, 1)
    built, step_clock = clocks(), StepClock()
    batches = tf.data.Dataset.from_tensors((inputs, inputs["diffraction"])).repeat(2)
    model.fit(batches, callbacks=[step_clock], verbose=0)
    (first_s, first_cpu_s), (second_s, second_cpu_s) = np.diff([built, *step_clock.ends], axis=0).tolist()
    return {
        "build_s": built[0] - start[0],
        "first_step_s": first_s,
        "first_step_cpu_s": first_cpu_s,
        "second_step_s": second_s,
        "second_step_cpu_s": second_cpu_s,
    }


def measure(tasks: dict[str, Callable[[], object]], rounds: int) -> tuple[dict, dict]:
    """Run tasks in turns, after a first turn that does not count; return medians of wall and of CPU time [s]."""
    for task in tasks.values():
        task()
    times = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = clocks()
            task()
            times[name].append(np.subtract(clocks(), start))
    medians = {name: np.median(pairs, axis=0).tolist() for name, pairs in times.items()}
    return tuple({name: pair[clock] for name, pair in medians.items()} for clock in (0, 1))


def ratios(seconds: dict, operations: float) -> dict:
    """Speed of a step and of inference over that of the matrix product, for `operations` in a forward pass."""
    product_speed = 2 * SIDE**3 / seconds["product"]
    return {
        "step": 3 * operations / seconds["step"] / product_speed,
        "inference": operations / seconds["inference"] / product_speed,
    }


def run(options: argparse.Namespace) -> dict:
    """Measure."""
    command = [sys.executable, __file__, *sys.argv[1:], "--first"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        sys.exit(child.stderr)
    tf = tensorflow()
    from ptycho.model.convolutions import count_flops
    from ptycho.model.inference import compiled

    matrix, product = tf.random.normal((SIDE, SIDE), seed=0), tf.function(tf.linalg.matmul)
    network, single, batch = example(options, 1)
    _, grouped, group_batch = example(options, 2)
    predict, frames = compiled(network), tf.constant(batch["diffraction"])
    tasks = {
        "product": lambda: product(matrix, matrix).numpy(),
        "step": lambda: single.train_on_batch(batch, batch["diffraction"]),
        "step_gridsize_2": lambda: grouped.train_on_batch(group_batch, group_batch["diffraction"]),
        "inference": lambda: predict(frames).numpy(),
    }
    wall, cpu = measure(tasks, options.rounds)
    operations, folded = (count_flops(network, folded=folded) * options.batch for folded in (False, True))
    return {
        "settings": {key: value for key, value in vars(options).items() if key != "first"},
        "parameters": network.count_params(),
        "gflop_per_pattern_forward": operations / options.batch / 1e9,
        "product_gflop_per_s": 2 * SIDE**3 / wall["product"] / 1e9,
        "wall_ms": {name: 1e3 * seconds for name, seconds in wall.items()},
        "cpu_ms": {name: 1e3 * seconds for name, seconds in cpu.items()},
        "patterns_per_s": {name: options.batch / wall[name] for name in ("step", "inference")},
        "ratio": ratios(wall, operations),
        "ratio_cpu": ratios(cpu, operations),
        "ratio_cpu_folded": ratios(cpu, folded),
        "gridsize 2 / 1": wall["step_gridsize_2"] / wall["step"],
        "gridsize 2 / 1, cpu": cpu["step_gridsize_2"] / cpu["step"],
        **json.loads(child.stdout),
    }


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=64, help="side of a pattern [px] (default: %(default)s)")
    parser.add_argument(
        "--filters", type=int, default=32, help="features of the network at full resolution (default: %(default)s)"
    )
    parser.add_argument(
        "--batch", type=int, default=16, help="patterns in a batch, a multiple of four (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=15, help="measured turns of every task (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: %(default)s)")
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    job.limit_threads(options.threads)
    print(json.dumps(first_step(options) if options.first else run(options), indent=2))


if __name__ == "__main__":
    main()
