"""Speed of chunked inference from a file against the same network on data in memory, and the start-up of a chunk job.

Both run in this process, one after the other, several times; the ratio of the medians counts. The start-up is the CPU
time of a process that reconstructs one batch. Prints JSON.

    python benchmarks/throughput.py
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from memory import measure
from scans import make_scan, make_view

from ptycho.workflow import job


def run(options) -> dict:
    """Measure."""
    job.limit_threads(options.threads)
    from ptycho.data.scan import open_scan
    from ptycho.data.views import open_view
    from ptycho.loader import open_groups
    from ptycho.model.inference import add_groups, compiled, load_network
    from ptycho.model.networks import Network, build_network

    size = options.batch_size
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        scan = make_scan(folder / "scan.npz", options.groups, options.n)
        make_view(folder / "view.npz", scan, options.groups)
        network = Network(filters=options.filters, amplitude_max=1.2)
        build_network(options.n, 4, scan.probe[0], network, transmission=1.0).save(folder / "model.keras")
        startup = measure("infer", folder, size)

        network = load_network(folder / "model.keras")
        container = open_groups(open_scan(folder / "scan.npz"), open_view(folder / "view.npz"))
        frames = container._X_np[:]
        predict = compiled(network)
        predict(frames[:size])
        seconds = {"memory": [], "file": []}
        for _ in range(options.repeats):
            start = time.perf_counter()
            for first in range(0, len(frames), size):
                predict(frames[first : first + size])
            seconds["memory"].append(time.perf_counter() - start)
            start = time.perf_counter()
            add_groups(network, container, range(len(container)), size)
            seconds["file"].append(time.perf_counter() - start)
    speed = {place: len(frames) / float(np.median(times)) for place, times in seconds.items()}
    # start-up is a fifth of the job where the groups take four times as long
    enough = 4 * startup["cpu_s"] * speed["file"] / options.threads
    return {
        "n_pixels": options.n,
        "filters": options.filters,
        "threads": options.threads,
        "batch_size": size,
        "groups_per_s": speed,
        "ratio": speed["file"] / speed["memory"],
        "startup_cpu_s": startup["cpu_s"],
        "groups_for_startup_under_a_fifth": round(enough),
    }


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=400, help="groups in a pass (400)")
    parser.add_argument("--repeats", type=int, default=5, help="passes of either kind (5)")
    parser.add_argument("--n", type=int, default=64, help="side of a pattern (64)")
    parser.add_argument("--filters", type=int, default=12, help="of the network (12)")
    parser.add_argument("--batch-size", type=int, default=4, help="groups (4)")
    parser.add_argument("--threads", type=int, default=1, help="threads (1)")
    parser.add_argument("--scratch", help="folder for the scan")
    print(json.dumps(run(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
