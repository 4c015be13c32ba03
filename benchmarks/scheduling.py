"""Two trainings of one thread side by side against one training of two threads, in one run.

Three processes hold the same PINN and the same batch. In turns, the two of one thread train together, then the one of
two threads alone, so that what else runs on the machine meets both; medians count. `ratio` is the steps per second of
the two together over those of the one; `load` is CPU time over wall time, of each process by itself. Prints JSON.

    python benchmarks/scheduling.py --filters 12 --batch 16
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from training_speed import example

from ptycho.workflow import job


def work(options) -> None:
    """Train some steps for every line that comes in; answer each with wall and CPU time [s]."""
    job.limit_threads(options.threads)
    _, model, batch = example(options, 2)
    model.train_on_batch(batch, batch["diffraction"])
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(options.steps):
            model.train_on_batch(batch, batch["diffraction"])
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)


def start(options, threads: int) -> subprocess.Popen:
    """Start a process that trains, and wait until it has a network."""
    command = [sys.executable, __file__, *sys.argv[1:], "--threads", str(threads)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    if worker.stdout.readline() != "ready\n":
        sys.exit("a training did not start")
    return worker


def turn(workers) -> tuple[float, list[float]]:
    """Let workers train together: the wall time until the last has ended [s], and the load of each."""
    begin = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
    times = [json.loads(worker.stdout.readline()) for worker in workers]
    return time.perf_counter() - begin, [cpu / wall for wall, cpu in times]


def run(options) -> dict:
    """Measure."""
    sides = {"two of one thread": [start(options, 1), start(options, 1)], "one of two threads": [start(options, 2)]}
    seconds, loads = {name: [] for name in sides}, {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, workers in sides.items():
            wall, load = turn(workers)
            seconds[name].append(wall)
            loads[name] += load
    for worker in [worker for workers in sides.values() for worker in workers]:
        worker.stdin.close()
        worker.wait()
    rate = {name: len(sides[name]) * options.steps / float(np.median(times)) for name, times in seconds.items()}
    return {
        "settings": {key: value for key, value in vars(options).items() if key != "threads"},
        "steps_per_s": rate,
        "load": {name: float(np.median(values)) for name, values in loads.items()},
        "ratio": rate["two of one thread"] / rate["one of two threads"],
    }


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=64, help="side of a pattern (64)")
    parser.add_argument("--filters", type=int, default=12, help="of the network at full resolution (12)")
    parser.add_argument("--batch", type=int, default=16, help="patterns in a batch, in groups of four (16)")
    parser.add_argument("--steps", type=int, default=20, help="of a turn (20)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of both (5)")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        work(options)
    else:
        print(json.dumps(run(options), indent=2))


if __name__ == "__main__":
    main()
