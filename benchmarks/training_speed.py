"""Speed of the PINN's training step and of inference against the machine's own float32 matrix product, in one run.

A ratio is (operations of the convolutions / time) / (operations of a matrix product / time): 1 would be a network whose
convolutions run as fast as a product of two large matrices and whose everything else is free. Operations are counted
from the network's layers, 2 k² Cin Cout H W for each pattern, three times that for a training step. An `UpConvolution`
counts as the convolution it stands for; `ratio_cpu_done` counts the products that are really made.

Product, step of gridsize 1, step of gridsize 2 and inference take turns, so that what else runs on the machine meets
all of them; medians count. Ratios are of wall times, and once more of CPU times (`ratio_cpu`): on a machine that is
shared, the threads of a product wait for each other, and its wall time suffers more than that of a step.

Batches hold the same number of patterns at either gridsize, as every pattern of a group goes through the network by
itself: `gridsize 2 / 1` is the time of a step of batch / 4 groups of four patterns over that of `batch` single ones.
The first step, from the call of `fit` to its end, is measured in a process of its own. Prints JSON.

    python benchmarks/training_speed.py --filters 32 --batch 16 --threads 2
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from scans import beam

from ptycho.workflow import job

SIDE = 2048
"""Of the square matrices."""


def example(options, gridsize: int):
    """Build a compiled PINN, its network and a batch of as many patterns as asked for."""
    from ptycho.model.losses import PoissonDeviance
    from ptycho.model.networks import Network, build_network, build_pinn
    from ptycho.model.optimizer import compile_model

    channels, n, probe = gridsize**2, options.n, beam(options.n, 1e6)
    network = Network(filters=options.filters, amplitude_max=1.2, bfloat16=options.bfloat16)
    network = build_network(n, channels, probe, network, transmission=0.8)
    model = build_pinn(network, probe, 48, trainable_probe=False)
    compile_model(model, PoissonDeviance(), 1e-4)
    rng, groups = np.random.default_rng(0), options.batch // channels
    frames = np.sqrt(rng.poisson(200.0, (groups, n, n, channels))).astype(np.float32)
    positions = rng.uniform(-12, 12, (groups, 1, 2, channels)).astype(np.float32)
    return network, model, {"diffraction": frames, "positions": positions}


def first_step(options) -> dict:
    """Time the first batch of `fit`, what Keras and TensorFlow prepare included, and the second."""
    import keras
    import tensorflow as tf

    class Clock(keras.callbacks.Callback):
        ends = ()

        def on_train_batch_end(self, batch, logs=None):
            self.ends = (*self.ends, (time.perf_counter(), time.process_time()))

    start = time.perf_counter(), time.process_time()
    _, model, inputs = example(options, 1)
    built = time.perf_counter(), time.process_time()
    clock = Clock()
    batches = tf.data.Dataset.from_tensors((inputs, inputs["diffraction"])).repeat(2)
    model.fit(batches, callbacks=[clock], verbose=0)
    (wall, cpu), (second, second_cpu) = np.diff([built, *clock.ends], axis=0).tolist()
    return {
        "build_s": built[0] - start[0],
        "first_step_s": wall,
        "first_step_cpu_s": cpu,
        "second_step_s": second,
        "second_step_cpu_s": second_cpu,
    }


def measure(tasks: dict, rounds: int) -> tuple[dict, dict]:
    """Let tasks take turns; medians of wall and of CPU time [s]."""
    for task in tasks.values():
        task()
    seconds = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            task()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    medians = {name: np.median(times, axis=0).tolist() for name, times in seconds.items()}
    return {name: both[0] for name, both in medians.items()}, {name: both[1] for name, both in medians.items()}


def ratios(seconds: dict, operations: float) -> dict:
    """Share of the matrix product's speed that a step and inference reach, for a forward pass of so many operations."""
    peak = 2 * SIDE**3 / seconds["product"]
    return {"step": 3 * operations / seconds["step"] / peak, "inference": operations / seconds["inference"] / peak}


def run(options) -> dict:
    """Measure."""
    child = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--first"], capture_output=True, text=True)
    if child.returncode:
        sys.exit(child.stderr)
    import tensorflow as tf

    from ptycho.backend import multiplies_bfloat16
    from ptycho.model.convolutions import count_flops
    from ptycho.model.inference import compiled

    matrix = tf.random.normal((SIDE, SIDE), seed=0)
    product = tf.function(tf.linalg.matmul)
    network, single, batch = example(options, 1)
    _, grouped, groups = example(options, 2)
    predict, frames = compiled(network), tf.constant(batch["diffraction"])
    seconds, cpu = measure(
        {
            "product": lambda: product(matrix, matrix).numpy(),
            "step": lambda: single.train_on_batch(batch, batch["diffraction"]),
            "step_gridsize_2": lambda: grouped.train_on_batch(groups, groups["diffraction"]),
            "inference": lambda: predict(frames).numpy(),
        },
        options.rounds,
    )
    counted, done = (count_flops(network, folded=folded) * options.batch for folded in (False, True))
    return {
        "settings": {key: value for key, value in vars(options).items() if key != "first"},
        "has_bfloat16": multiplies_bfloat16(tf.config),
        "parameters": network.count_params(),
        "gflop_per_pattern_forward": counted / options.batch / 1e9,
        "peak_gflop_per_s": 2 * SIDE**3 / seconds["product"] / 1e9,
        "ms": {name: 1e3 * value for name, value in seconds.items()},
        "cpu_ms": {name: 1e3 * value for name, value in cpu.items()},
        "patterns_per_s": {name: options.batch / seconds[name] for name in ("step", "inference")},
        "ratio": ratios(seconds, counted),
        "ratio_cpu": ratios(cpu, counted),
        "ratio_cpu_done": ratios(cpu, done),
        "gridsize 2 / 1": seconds["step_gridsize_2"] / seconds["step"],
        "gridsize 2 / 1, cpu": cpu["step_gridsize_2"] / cpu["step"],
        **json.loads(child.stdout),
    }


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=64, help="side of a pattern (64)")
    parser.add_argument("--filters", type=int, default=32, help="of the network at full resolution (32)")
    parser.add_argument("--batch", type=int, default=16, help="patterns in a batch, a multiple of four (16)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of every task (15)")
    parser.add_argument("--threads", type=int, default=2, help="threads (2)")
    parser.add_argument("--bfloat16", action="store_true", help="convolutions in bfloat16: compare with a run without")
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    job.limit_threads(options.threads)
    print(json.dumps(first_step(options) if options.first else run(options), indent=2))


if __name__ == "__main__":
    main()
