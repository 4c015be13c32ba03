"""Peak memory of jobs against the size of the scan: inference, merge, training, and methods that work in tiles.

Every number is the peak resident set of one process, VmHWM as Linux counts it: the peak that wait4 reports of a child
is never below its parent's. The network has the default size, but random weights and few iterations of the estimate:
memory does not depend on them, time does. Prints JSON; with --output, writes OUTPUT.json and OUTPUT.png too.

    python benchmarks/memory.py --exposures 1000 4000 16000 --train-groups 1000 --output docs/results/memory
    python benchmarks/memory.py --exposures --tiled 1000 5216 20000
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
from scans import make_scan, make_sparse, make_tiles, make_view, save_untrained

from ptycho.data.scan import Scan, open_scan
from ptycho.data.tiles import TilingOptions, load_tiles, tile_numbers
from ptycho.data.views import VALIDATION, open_view
from ptycho.workflow import job
from ptycho.workflow.config import load_config

CONFIG = load_config(Path(__file__).parent.parent / "config" / "config.yaml")
TRAINED = ("pinn", "baseline")
TILED = ("tv", "unrolled", "refined")
"""Methods that reconstruct large scans tile by tile; a job of `unrolled` trains and reconstructs."""
TV_WEIGHT = 8.0
LARGE = 640_000
"""Exposures of a 10 GB scan of 64 px patterns."""
BYTES_PER_PX = 24
"""Of a canvas: sum and weight."""


def infer(folder: Path) -> None:
    """Apply a trained model to all tiles of a scan, as the rule infer_network does, in one chunk."""
    from ptycho.data.canvas import save_parts
    from ptycho.data.chunks import run_of
    from ptycho.loader import open_tiles
    from ptycho.model.inference import load_model, reconstruct_tiles

    scan, tiles, path = open_scan(folder / "scan.npz"), load_tiles(folder / "tiles.npz"), folder / "model.keras"
    container, model = open_tiles(scan, tiles), load_model(path)
    batch_size = CONFIG["inference"]["batch_size"]
    parts = reconstruct_tiles(model, container, tiles, range(len(container)), batch_size)
    metadata = {"run": run_of(path, folder / "tiles.npz", len(container)), "tiles": [0, len(container)]}
    save_parts(folder / "chunk.npz", parts, lambda: metadata | {"chosen": model.chosen})


def merge(folder: Path) -> None:
    """Merge that chunk to an object."""
    from ptycho.data.chunks import merge_chunks
    from ptycho.data.object_files import save_reconstruction

    save_reconstruction(folder / "object.npz", merge_chunks([folder / "chunk.npz"], folder=folder))


def train_network(method: str, folder: Path) -> None:
    """Train a network of the default size for as many steps as there are rounds."""
    from ptycho.loader import open_groups
    from ptycho.model.networks import NetworkOptions
    from ptycho.model.training import TrainingOptions, TrainingRun, train
    from ptycho.model.unet_training import ROUNDS

    view = open_view(folder / "view.npz")
    container = open_groups(open_scan(folder / "scan.npz"), view)
    options = NetworkOptions(**CONFIG["network"]), TrainingOptions(**CONFIG["training"] | {"steps": ROUNDS})
    train(method, container, *options, TrainingRun(validation=view.of_role(VALIDATION), seed=0))


def reconstruct_tiled(method: str, folder: Path) -> None:
    """Reconstruct a whole scan in tiles, with few iterations and steps: enough to allocate what a job allocates."""
    from ptycho.reconstruction.counts import Counts
    from ptycho.reconstruction.tv import TVOptions

    scan = open_scan(folder / "scan.npz")
    counts, fit_fraction = Counts.of(scan, np.arange(len(scan))), 0.8
    one_weight = {"lambda_max": TV_WEIGHT, "lambda_min": TV_WEIGHT, "iterations": 2, "final_iterations": 2}
    prior = TVOptions(**one_weight, fit_fraction=fit_fraction, tile_px=CONFIG["tv"]["tile_px"])
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
    """Train the unrolled network, reconstruct the tiles of the scan, and merge them."""
    from ptycho.model.card import make_card, save_network
    from ptycho.model.unrolled import UnrolledOptions, train_unrolled

    schedule = {"stages": 2, "minibatch_epochs": 2, "iterations": 2, "phase_iterations": 2}
    schedule |= {"final_iterations": 2, "post_iterations": 2}
    model, _ = train_unrolled(counts, probe, UnrolledOptions(**unet, **schedule, tiles=6), prior, seed=0)
    facts = {"n_pixels": probe.shape[-1], "channels": 1, "transmittance": model.schedule.transmittance}
    card = make_card("unrolled", probe, **facts, schedule=model.schedule.as_dict())
    save_network(folder / "model.keras", model.network, card, probe)
    infer(folder)
    merge(folder)


def run_task(task: str, folder: Path) -> None:
    """Run one job in this process and print its peak memory [kB]."""
    job.limit_threads(1)
    if task in TRAINED:
        train_network(task, folder)
    elif task in TILED:
        reconstruct_tiled(task, folder)
    else:
        {"infer": infer, "merge": merge}[task](folder)
    print(Path("/proc/self/status").read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0])


def children_cpu_s() -> float:
    """CPU time of all child processes that have ended [s]."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(task: str, folder: Path) -> dict:
    """Run a job in a process of its own.

    Parameters
    ----------
    task : str
        "infer", "merge", or a method of `TRAINED` or `TILED`.
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
