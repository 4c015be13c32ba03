"""Two one-thread trainings side by side against one training with two threads.

Three processes train the same PINN on the same groups. The two with one thread train together, then the one with two
threads alone, in turns, so that other load on the machine affects both; medians are reported. `ratio` is the steps per
second of the two together over those of the one; `load` is CPU time over wall time of each process. Prints JSON.

    python benchmarks/scheduling.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from training_speed import Steps, clocks, size_parser

from ptycho.workflow import job

ARRANGEMENTS = {"two of one thread": (1, 1), "one of two threads": (2,)}
"""Threads of the trainings that run together."""


def work(options: argparse.Namespace) -> None:
    """Train `options.steps` steps for every line on stdin; answer each with wall and CPU time [s]."""
    job.limit_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        steps = Steps("pinn", Path(name), options)
        steps.update()
        print("ready", flush=True)
        for _ in sys.stdin:
            start = clocks()
            for _ in range(options.steps):
                steps.prepare()
                steps.update()
            print(json.dumps(np.subtract(clocks(), start).tolist()), flush=True)


def start_worker(threads: int) -> subprocess.Popen:
    """Start a process that trains, and wait until its network is built."""
    command = [sys.executable, __file__, *sys.argv[1:], "--threads", str(threads)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    if worker.stdout.readline() != "ready\n":
        sys.exit("a training process did not start")
    return worker


def train_together(workers: list[subprocess.Popen]) -> tuple[float, list[float]]:
    """Let workers train at the same time; return the wall time until the last has ended [s], and the load of each."""
    start = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
    times = [json.loads(worker.stdout.readline()) for worker in workers]
    return time.perf_counter() - start, [cpu_s / wall_s for wall_s, cpu_s in times]


def run(options: argparse.Namespace) -> dict:
    """Measure."""
    workers = {name: [start_worker(threads) for threads in counts] for name, counts in ARRANGEMENTS.items()}
    seconds, loads = {name: [] for name in workers}, {name: [] for name in workers}
    for _ in range(options.rounds):
        for name, group in workers.items():
            wall_s, group_loads = train_together(group)
            seconds[name].append(wall_s)
            loads[name] += group_loads
    for worker in [worker for group in workers.values() for worker in group]:
        worker.stdin.close()
        worker.wait()
    rates = {name: len(workers[name]) * options.steps / float(np.median(times)) for name, times in seconds.items()}
    return {
        "settings": {key: value for key, value in vars(options).items() if key != "threads"},
        "steps_per_s": rates,
        "load": {name: float(np.median(values)) for name, values in loads.items()},
        "ratio": rates["two of one thread"] / rates["one of two threads"],
    }


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = size_parser(__doc__)
    parser.add_argument("--steps", type=int, default=20, help="training steps in a turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each arrangement (default: %(default)s)")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        work(options)
    else:
        print(json.dumps(run(options), indent=2))


if __name__ == "__main__":
    main()
