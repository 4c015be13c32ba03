"""Peak memory of jobs against the size of the scan: inference, merge, training, and methods that work in tiles.

Every number is the peak resident set of one process, VmHWM as Linux counts it: the peak that wait4 reports of a child
is never below its parent's. The network has the default size, but random weights and few iterations of the estimate:
memory does not depend on them, time does. Prints JSON; with --output, writes OUTPUT.json and OUTPUT.png too.

    python benchmarks/memory.py --exposures 1000 4000 16000 --train-groups 1000 --output docs/results/memory
    python benchmarks/memory.py --exposures --tiled 1000 5216 20000
    python benchmarks/memory.py --exposures --held 1000 4000 16000
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from memory_jobs import CONFIG, HELD, TILED, TRAINED, run_task
from scans import make_scan, make_sparse, make_tiles, make_view, save_untrained

from ptycho.data.scan import Scan, open_scan
from ptycho.data.tiles import TilingOptions, tile_numbers
from ptycho.workflow.memory import needed_bytes

LARGE = 640_000
"""Exposures of a 10 GB scan of 64 px patterns."""
BYTES_PER_PX = 24
"""Of a canvas: sum and weight."""


def children_cpu_s() -> float:
    """CPU time of all child processes that have ended [s]."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(task: str, folder: Path) -> dict:
    """Run a job in a process of its own.

    Parameters
    ----------
    task : str
        "infer", "merge", or one of `TRAINED`, `TILED` and `HELD`.
    folder : Path
        With `scan.npz` and what else the job reads.

    Returns
    -------
    dict
        peak_mb, cpu_s, wall_s.
    """
    command = [sys.executable, __file__, "--task", task, str(folder)]
    start, cpu_s = time.perf_counter(), children_cpu_s()
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        sys.exit(f"{task}: {child.stderr[-2000:]}")
    wall_s, cpu_s = time.perf_counter() - start, children_cpu_s() - cpu_s
    return {"peak_mb": int(child.stdout.split()[-1]) * 1024 / 1e6, "cpu_s": cpu_s, "wall_s": wall_s}


def noted(row: dict) -> dict:
    """Show a row of the results on stderr as soon as it is there."""
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def canvas_px(scan: Scan) -> int:
    """Pixels of the box around all windows of a scan."""
    return int(np.prod([np.ptp(axis) + scan.n_pixels for axis in (scan.xcoords, scan.ycoords)]))


def measure_inference(options: argparse.Namespace, folder: Path) -> Iterator[dict]:
    """Measure inference and merge for every size of scan and of tiles."""
    for count in sorted(options.exposures):
        scan = make_scan(folder / "scan.npz", count, options.n)
        save_untrained(folder / "model.keras", scan, options.filters, options.physics_iterations)
        for tile_px in options.tile_px:
            tiling = TilingOptions(tile_px=tile_px, halo_px=options.halo_px)
            numbers = tile_numbers(make_tiles(folder / "tiles.npz", scan, tiling))
            row = {"exposures": count, "tile_px": tile_px, **numbers, **measure("infer", folder)}
            yield noted({**row, "canvas_px": canvas_px(scan), "merge_peak_mb": measure("merge", folder)["peak_mb"]})


def measure_training(options: argparse.Namespace, folder: Path) -> Iterator[dict]:
    """Measure training for every number of groups, on a scan of half as many exposures."""
    for n_groups in sorted(options.train_groups):
        scan = make_scan(folder / "scan.npz", n_groups // 2, options.n)
        make_view(folder / "view.npz", scan, n_groups)
        for method in TRAINED:
            yield noted({"method": method, "groups": n_groups, "exposures": len(scan), **measure(method, folder)})


def measure_tiled(options: argparse.Namespace, folder: Path) -> Iterator[dict]:
    """Measure every method that works in tiles for every number of exposures."""
    for count in sorted(options.tiled):
        scan = make_scan(folder / "scan.npz", count, options.n)
        make_tiles(folder / "tiles.npz", scan, TilingOptions(tile_px=CONFIG["inference"]["tile_px"], halo_px=None))
        for method in TILED:
            yield noted({"method": method, "exposures": count, **measure(method, folder)})


def measure_held(options: argparse.Namespace, folder: Path) -> Iterator[dict]:
    """Measure every job that holds all frames, beside what it says that it needs, for every number of exposures."""
    for count in sorted(options.held):
        make_view(folder / "view.npz", make_scan(folder / "scan.npz", count, options.n))
        reference = CONFIG["reference"]
        waves = {"lsqml": CONFIG["lsqml"]["batch_size"], "reference": reference["batch_size"] * reference["modes"]}
        for method in HELD:
            said_mb = needed_bytes(count, options.n, waves[method]) / 1e6
            yield noted({"method": method, "exposures": count, "said_mb": said_mb, **measure(method, folder)})


def measure_opening(folder: Path) -> dict:
    """Open a 10 GB scan, a sparse file, and read one frame of it."""
    path = make_sparse(folder / "large.npz", LARGE, 64)
    start = time.perf_counter()
    scan = open_scan(path)
    open_s = time.perf_counter() - start
    scan.diffraction[len(scan) // 2]
    return {"bytes": path.stat().st_size, "bytes_on_disk": path.stat().st_blocks * 512, "open_s": open_s}


def run(options: argparse.Namespace) -> dict:
    """Measure everything that was asked for."""
    settings = {"n_pixels": options.n, "filters": options.filters, "physics_iterations": options.physics_iterations}
    results = {**settings, "halo_px": options.halo_px}
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        results["inference"] = list(measure_inference(options, folder))
        results["training"] = list(measure_training(options, folder))
        results["tiled"] = list(measure_tiled(options, folder))
        results["held"] = list(measure_held(options, folder))
        if options.open:
            results["opening"] = measure_opening(folder)
    return results


def plot(results: dict, path: Path) -> None:
    """Draw peak memory of inference and merge against the number of exposures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    rows, n = results["inference"], results["n_pixels"]
    for tile_px, marker in zip(sorted({row["tile_px"] for row in rows}), "os^v", strict=False):
        chosen = [row for row in rows if row["tile_px"] == tile_px]
        counts = [row["exposures"] for row in chosen]
        axes.semilogx(
            counts, [row["peak_mb"] for row in chosen], f"{marker}-", label=f"inference, tiles of {tile_px:g} px"
        )
    axes.semilogx(counts, [row["merge_peak_mb"] for row in chosen], "D-", color="gray", label="merge")
    axes.semilogx(counts, [row["canvas_px"] * BYTES_PER_PX / 1e6 for row in chosen], "--", color="gray", label="canvas")
    frames = [4 * n * n * count / 1e6 for count in counts]
    axes.semilogx(counts, frames, ":", color="gray", label="frames of the scan")
    top = 1.4 * max(row["peak_mb"] for row in rows)
    axes.set(xlabel="exposures", ylabel="peak resident memory [MB]", ylim=(0, top))
    axes.set_title(f"N = {n}, one thread, one chunk, halo {results['halo_px']:g} px")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--exposures", type=int, nargs="*", default=[1000, 4000, 16000], help="sizes of scans (default: %(default)s)")
    add("--tile-px", type=float, nargs="+", default=[96, 512], help="sizes of tiles [px] (default: %(default)s)")
    add("--halo-px", type=float, default=32, help="width of the halo [px] (default: %(default)s)")
    add("--train-groups", type=int, nargs="*", default=[], help="numbers of groups to train with (default: none)")
    add("--tiled", type=int, nargs="*", default=[], help="exposures reconstructed in tiles (default: none)")
    add("--held", type=int, nargs="*", default=[], help="exposures of jobs that hold all frames (default: none)")
    add("--n", type=int, default=64, help="side of a pattern [px] (default: %(default)s)")
    add("--filters", type=int, default=CONFIG["network"]["filters"], help="features (default: %(default)s)")
    add("--physics-iterations", type=int, default=2, help="of gradient descent (default: %(default)s)")
    add("--open", action="store_true", help="also measure how long it takes to open a 10 GB scan")
    add("--scratch", help="folder for temporary scans (default: the system's)")
    add("--output", type=Path, help="write OUTPUT.json and OUTPUT.png")
    add("--task", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        run_task(options.task[0], Path(options.task[1]))
        return
    results = run(options)
    print(json.dumps(results, indent=2))
    if options.output:
        options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        plot(results, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
