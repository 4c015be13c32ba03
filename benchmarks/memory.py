"""Peak memory of jobs against the number of groups: training, inference, merge, and reconstruction in tiles.

Every number is the peak resident set of one process, VmHWM as Linux counts it: the peak that wait4 reports of a child
is never below its parent's. Prints JSON; with --output, writes OUTPUT.json and OUTPUT.png too.

    python benchmarks/memory.py --groups 1000 5216 100000 --output docs/results/memory
    python benchmarks/memory.py --groups --tiled 1000 5216 20000
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
from scans import make_scan, make_sparse, make_view

from ptycho.data.npz import open_member
from ptycho.data.scan import open_scan
from ptycho.workflow import job

TRAINED = ("pinn", "baseline")
TILED = ("tv", "unrolled", "refined")
"""Methods that reconstruct large scans tile by tile; a job of `unrolled` trains and reconstructs."""
TILE_PX = 512
TV_WEIGHT = 8.0
LARGE = 640_000
"""Exposures of a 10 GB scan of 64 px patterns."""


def open_container(folder: Path):
    """Open the scan and the view in a folder as groups."""
    from ptycho.data.views import open_view
    from ptycho.loader import open_groups

    return open_groups(open_scan(folder / "scan.npz"), open_view(folder / "view.npz"))


def infer(folder: Path, n_groups: int) -> None:
    """Apply a network to one chunk of at most `n_groups` groups."""
    from ptycho.model.card import load_network
    from ptycho.model.inference import add_groups

    container = open_container(folder)
    groups = range(min(n_groups, len(container)))
    canvas = add_groups(load_network(folder / "model.keras"), container, groups, 4, folder=folder)
    canvas.save(folder / "canvas.npz", run={"groups": len(groups)}, groups=[groups.start, groups.stop])


def merge(folder: Path) -> None:
    """Merge that chunk to an object."""
    from ptycho.data.chunks import merge_chunks
    from ptycho.data.object_files import save_reconstruction

    save_reconstruction(folder / "object.npz", merge_chunks([folder / "canvas.npz"], folder=folder))


def train_network(method: str, folder: Path, filters: int) -> None:
    """Train a network for one epoch, with every 20th exposure for validation."""
    from ptycho.model.networks import NetworkOptions
    from ptycho.model.training import TrainingOptions, TrainingRun, train

    options = TrainingOptions(
        epochs=1,
        batch_size=4,
        learning_rate=1e-3,
        lr_patience=3,
        early_stopping_patience=8,
        trainable_probe=False,
    )
    container = open_container(folder)
    run = TrainingRun(validation=np.arange(0, container.nn_indices.max() + 1, 20), max_spread_px=48, seed=0)
    network, _ = train(method, container, NetworkOptions(filters=filters, amplitude_max=1.2), options, run)
    network.save(folder / "model.keras")


def reconstruct_tiled(method: str, folder: Path) -> None:
    """Reconstruct a whole scan in tiles, with few iterations and steps: enough to allocate what a job allocates."""
    from ptycho.reconstruction.counts import Counts
    from ptycho.reconstruction.tv import TVOptions

    scan = open_scan(folder / "scan.npz")
    counts, fit_fraction = Counts.of(scan, np.arange(len(scan))), 0.8
    one_weight = {"lambda_max": TV_WEIGHT, "lambda_min": TV_WEIGHT, "iterations": 2, "final_iterations": 2}
    prior = TVOptions(**one_weight, fit_fraction=fit_fraction, tile_px=TILE_PX)
    unet = {"filters": 8, "steps": 10, "learning_rate": 1e-3, "tile_px": 96, "fit_fraction": fit_fraction}
    if method == "tv":
        run_tv(folder, counts, scan.probe, prior)
    elif method == "refined":
        run_refined(folder, counts, scan.probe, prior, unet)
    else:
        run_unrolled(folder, counts, scan.probe, prior, unet)


def run_tv(folder: Path, counts, probe, prior) -> None:
    """TV-MAP."""
    from ptycho.data.object_files import save_reconstruction
    from ptycho.reconstruction.tv import reconstruct

    save_reconstruction(folder / "tv.npz", reconstruct(counts, probe, prior, seed=0, folder=folder))


def run_refined(folder: Path, counts, probe, prior, unet: dict) -> None:
    """Refine TV-MAP by a network."""
    from ptycho.data.object_files import save_reconstruction
    from ptycho.model.refined import RefinedOptions, RefinedRun, refine

    run = RefinedRun(tv_weight=TV_WEIGHT, prior=prior, options=RefinedOptions(**unet, n_splits=2), seed=0)
    for name, result in refine(counts, probe, run, folder=folder).items():
        save_reconstruction(folder / f"{name}.npz", result)


def run_unrolled(folder: Path, counts, probe, prior, unet: dict) -> None:
    """Train the unrolled network, reconstruct tile by tile and merge."""
    from ptycho.data.canvas import merge, parts_of, save_parts
    from ptycho.data.tiles import cut_tiles
    from ptycho.model.unrolled import UnrolledOptions, reconstruct_tiles, train_unrolled

    schedule = {"stages": 2, "minibatch_epochs": 2, "iterations": 2, "phase_iterations": 2}
    schedule |= {"final_iterations": 2, "post_iterations": 2}
    model, _ = train_unrolled(counts, probe, UnrolledOptions(**unet, **schedule, tiles=6), prior, seed=0)
    tiles = cut_tiles(counts.xcoords, counts.ycoords, TILE_PX, probe.shape[-1])
    save_parts(folder / "tiles.npz", reconstruct_tiles(model, counts, probe, tiles), dict)
    merge(parts_of(folder / "tiles.npz"), folder, synchronized=True)


def run_task(task: str, folder: Path, number: int) -> None:
    """Run one job in this process and print its peak memory [kB]."""
    job.limit_threads(1)
    if task == "infer":
        infer(folder, number)
    elif task == "merge":
        merge(folder)
    elif task in TILED:
        reconstruct_tiled(task, folder)
    else:
        train_network(task, folder, number)
    print(Path("/proc/self/status").read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0])


def children_cpu_s() -> float:
    """CPU time of all child processes that have ended [s]."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(task: str, folder: Path, number: int = 0) -> dict:
    """Run a job in a process of its own.

    Parameters
    ----------
    task : str
        "infer", "merge", or a method of `TRAINED` or `TILED`.
    folder : Path
        With `scan.npz`, and what else the job reads.
    number : int
        Groups (inference) or filters (training).

    Returns
    -------
    dict
        peak_mb, cpu_s, wall_s.
    """
    command = [sys.executable, __file__, "--task", task, str(folder), str(number)]
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


def measure_networks(options: argparse.Namespace, folder: Path) -> dict[str, list[dict]]:
    """Measure training and inference for every number of groups; a first PINN is trained in any case."""
    training, inference = [], []
    for n_groups in sorted(options.groups):
        scan = make_scan(folder / "scan.npz", min(n_groups, options.exposures or n_groups), options.n)
        make_view(folder / "view.npz", scan, n_groups)
        for method in TRAINED if n_groups in options.train_groups else () if training else TRAINED[:1]:
            row = {"method": method, "groups": n_groups, **measure(method, folder, options.filters)}
            training.append(noted(row))
        row = {"groups": n_groups, "exposures": len(scan), **measure("infer", folder, n_groups)}
        row["canvas_px"] = open_member(folder / "canvas.npz", "weight").memmap.size
        inference.append(noted({**row, "merge_peak_mb": measure("merge", folder)["peak_mb"]}))
    return {"training": training, "inference": inference}


def measure_tiled(options: argparse.Namespace, folder: Path) -> Iterator[dict]:
    """Measure every method that works in tiles for every number of exposures."""
    for count in sorted(options.tiled):
        make_scan(folder / "scan.npz", count, options.n)
        for method in TILED:
            yield noted({"method": method, "exposures": count, **measure(method, folder)})


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
    results = {"n_pixels": options.n, "filters": options.filters}
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        results |= measure_networks(options, folder)
        results["tiled"] = list(measure_tiled(options, folder))
        if options.open:
            results["opening"] = measure_opening(folder)
    if len(rows := results["inference"]) > 1:
        growth = (rows[-1]["peak_mb"] - rows[0]["peak_mb"]) * 1e6
        results["growth_bytes_per_group"] = growth / (rows[-1]["groups"] - rows[0]["groups"])
    return results


def plot(results: dict, path: Path) -> None:
    """Draw peak memory against the number of groups."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    rows, n = results["inference"], results["n_pixels"]
    groups = [row["groups"] for row in rows]
    axes.semilogx(groups, [row["peak_mb"] for row in rows], "o-", label="inference, one chunk of all groups")
    axes.semilogx(groups, [row["merge_peak_mb"] for row in rows], "s-", label="merge of that chunk")
    axes.semilogx(groups, [row["canvas_px"] * 24e-6 for row in rows], "--", color="gray", label="canvas, in a file")
    for method, marker in zip(TRAINED, "^v", strict=True):
        trained = [row for row in results["training"] if row["method"] == method]
        line = [row["groups"] for row in trained], [row["peak_mb"] for row in trained]
        axes.semilogx(*line, f"{marker}-", label=f"training, {method}")
    axes.semilogx(groups, [16 * n * n * count / 1e6 for count in groups], ":", color="gray", label="grouped frames")
    axes.set(xlabel="groups of four patterns", ylabel="peak resident memory [MB]", ylim=(0, 1300))
    axes.set_title(f"N = {n}, one thread")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--groups", type=int, nargs="*", default=[1000, 5216], help="numbers of groups (default: %(default)s)"
    )
    parser.add_argument(
        "--train-groups", type=int, nargs="*", default=[], help="which of these to train with as well (default: none)"
    )
    parser.add_argument(
        "--exposures",
        type=int,
        help="largest number of exposures, with more groups by oversampling (default: no limit)",
    )
    parser.add_argument(
        "--tiled", type=int, nargs="*", default=[], help="numbers of exposures reconstructed in tiles (default: none)"
    )
    parser.add_argument("--n", type=int, default=64, help="side of a pattern [px] (default: %(default)s)")
    parser.add_argument(
        "--filters", type=int, default=12, help="features of the network at full resolution (default: %(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="also measure how long it takes to open a 10 GB scan")
    parser.add_argument("--scratch", help="folder for temporary scans (default: the system's)")
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.png")
    parser.add_argument("--task", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        task, folder, number = options.task
        run_task(task, Path(folder), int(number))
        return
    results = run(options)
    print(json.dumps(results, indent=2))
    if options.output:
        options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        plot(results, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
