"""Speed of chunked inference from a file against the same network on data in memory, and start-up of a chunk job.

Both run in this process, one after the other, several times; the ratio is that of the median speeds. The start-up is
the CPU time of a process that reconstructs one batch. Prints JSON.

    python benchmarks/throughput.py
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from memory import measure, open_container
from scans import make_scan, make_view

from ptycho.workflow import job

MAX_STARTUP_FRACTION = 0.2
"""Fraction of a job's CPU time that its start-up may take."""


def wall_time(task: Callable[[], object]) -> float:
    """Run a task; return the wall time that it took [s]."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def run(options: argparse.Namespace) -> dict:
    """Measure."""
    job.limit_threads(options.threads)
    from ptycho.model.card import load_network
    from ptycho.model.inference import add_groups, compiled
    from ptycho.model.networks import NetworkOptions, build_network

    size = options.batch_size
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        scan = make_scan(folder / "scan.npz", options.groups, options.n)
        make_view(folder / "view.npz", scan, options.groups)
        shape = NetworkOptions(filters=options.filters, amplitude_max=1.2)
        build_network(options.n, 4, scan.probe[0], shape, transmittance=1.0).save(folder / "model.keras")
        startup_s = measure("infer", folder, size)["cpu_s"]

        network, container = load_network(folder / "model.keras"), open_container(folder)
        frames, predict = container.frames[:], compiled(network)

        def from_memory():
            for first in range(0, len(frames), size):
                predict(frames[first : first + size])

        def from_file():
            add_groups(network, container, range(len(container)), size)

        predict(frames[:size])
        times = [(wall_time(from_memory), wall_time(from_file)) for _ in range(options.repeats)]
    memory_speed, file_speed = (len(frames) / np.median(times, axis=0)).tolist()
    worthwhile = (1 / MAX_STARTUP_FRACTION - 1) * startup_s * file_speed / options.threads
    return {
        "n_pixels": options.n,
        "filters": options.filters,
        "threads": options.threads,
        "batch_size": size,
        "groups_per_s": {"memory": memory_speed, "file": file_speed},
        "ratio": file_speed / memory_speed,
        "startup_cpu_s": startup_s,
        "groups_for_startup_under_a_fifth": round(worthwhile),
    }


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=400, help="groups in a pass (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="passes of each kind (default: %(default)s)")
    parser.add_argument("--n", type=int, default=64, help="side of a pattern [px] (default: %(default)s)")
    parser.add_argument(
        "--filters", type=int, default=12, help="features of the network at full resolution (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=4, help="groups in a batch (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: %(default)s)")
    parser.add_argument("--scratch", help="folder for the temporary scan (default: the system's)")
    print(json.dumps(run(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
