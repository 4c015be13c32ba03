"""Peak memory of inference and training jobs against the number of groups, by the operating system's count.

Every number is the largest resident set of a process of its own: VmHWM, for what wait4 says of a child is at least the
peak of its parent. Prints JSON; with --output, writes OUTPUT.json and OUTPUT.png too.

    python benchmarks/memory.py --groups 1000 5216 100000 --output docs/memory
    python benchmarks/memory.py --groups --tiled 1000 5216 20000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE

import numpy as np
from scans import make_scan, make_sparse, make_view

from ptycho.data.npz import open_member
from ptycho.data.scan import open_scan
from ptycho.workflow import job

TILED = ("tv", "unrolled", "refined")
"""Methods that take large scans tile by tile; a job of `unrolled` trains and reconstructs."""


def infer(folder: Path, n_groups: int) -> None:
    """A chunk job over all groups."""
    from ptycho.data.views import open_view
    from ptycho.loader import open_groups
    from ptycho.model.inference import add_groups, load_network

    container = open_groups(open_scan(folder / "scan.npz"), open_view(folder / "view.npz"))
    groups = range(min(n_groups, len(container)))
    canvas = add_groups(load_network(folder / "model.keras"), container, groups, 4, folder=folder)
    run = {"groups": len(groups)}
    canvas.save(folder / "canvas.npz", run=run, groups=[groups.start, groups.stop])


def merge_chunk(folder: Path) -> None:
    """A merge job of that one chunk."""
    from ptycho.data.chunks import merge_chunks
    from ptycho.data.object_files import save_object

    canvas = merge_chunks([folder / "canvas.npz"], folder=folder)
    save_object(folder / "object.npz", canvas.mean(), canvas.weight, canvas.origin_px)


def train(method: str, folder: Path, filters: int) -> None:
    """A training job of one pass."""
    from ptycho.data.views import open_view
    from ptycho.loader import open_groups
    from ptycho.model.networks import Network
    from ptycho.model.training import Training
    from ptycho.model.training import train as fit

    options = Training(epochs=1, batch_size=4, learning_rate=1e-3, halve_after=3, patience=8, trainable_probe=False)
    scan = open_scan(folder / "scan.npz")
    container, stop = open_groups(scan, open_view(folder / "view.npz")), range(0, len(scan), 20)
    shape = Network(filters=filters, amplitude_max=1.2)
    network, _ = fit(method, container, shape, options, stop=stop, spread=48, seed=0)
    network.save(folder / "model.keras")


def reconstruct(method: str, folder: Path, tile_px: float) -> None:
    """A job over the whole scan in tiles, with as few iterations and steps as show what it holds."""
    from ptycho.data.canvas import merge, parts_of, save_parts
    from ptycho.data.object_files import save_object
    from ptycho.data.tiles import cut_tiles
    from ptycho.reconstruction.likelihood import Counts
    from ptycho.reconstruction.tv import TotalVariation
    from ptycho.reconstruction.tv import reconstruct as regularise

    scan, fit_share = open_scan(folder / "scan.npz"), 0.8
    counts = Counts.of(scan, np.arange(len(scan)))
    weak = {"strongest": 8, "weakest": 8, "iterations": 2, "final_iterations": 2}
    prior = TotalVariation(**weak, fit_share=fit_share, tile_px=tile_px)
    fitting = {"filters": 8, "steps": 10, "learning_rate": 1e-3, "tile_px": 96, "fit_share": fit_share}
    if method == "tv":
        found = regularise(counts, scan.probe, prior, seed=0, folder=folder)
        save_object(folder / "tv.npz", found.object, found.weight, found.origin_px)
    elif method == "refined":
        from ptycho.model.refined import Refinement, refine_tiles

        options = Refinement(**fitting, deals=2)
        canvases, _ = refine_tiles(counts, scan.probe, 8.0, prior, options, seed=0, folder=folder)
        for name, canvas in canvases.items():
            save_object(folder / f"{name}.npz", canvas.mean(), canvas.weight, canvas.origin_px)
    else:
        from ptycho.model.unrolled import Unrolled, reconstruct_tiles, train_unrolled

        rounds = {"rounds": 2, "sweeps": 2, "iterations": 2, "phase_iterations": 2}
        rounds |= {"final_iterations": 2, "closing_iterations": 2}
        network, _ = train_unrolled(counts, scan.probe, Unrolled(**fitting, **rounds, tiles=6), prior, seed=0)
        tiles = cut_tiles(scan.xcoords, scan.ycoords, tile_px, scan.n_pixels)
        save_parts(folder / "tiles.npz", reconstruct_tiles(network, counts, scan.probe, tiles), dict)
        merge(parts_of(folder / "tiles.npz"), folder, synchronised=True)


def measure(job: str, folder: Path, number: int) -> dict:
    """Run a job in a process of its own."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, __file__, "--job", job, str(folder), str(number)], stdout=PIPE, stderr=PIPE
    ) as child:
        complained, said = child.stderr.read(), child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{job}: {complained.decode()[-2000:]}")
    wall = time.perf_counter() - start
    peak_kb = int(said.split()[-1])
    return {"peak_mb": peak_kb * 1024 / 1e6, "cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall}


def opening(folder: Path) -> dict:
    """Open a 10 GB scan, a sparse file, and read one frame of it."""
    path = make_sparse(folder / "large.npz", 640_000, 64)
    start = time.perf_counter()
    scan = open_scan(path)
    seconds = time.perf_counter() - start
    scan.diffraction[len(scan) // 2]
    return {"bytes": path.stat().st_size, "bytes_on_disk": path.stat().st_blocks * 512, "open_s": seconds}


def run(options) -> dict:
    """Measure everything that was asked for."""
    found = {"n_pixels": options.n, "filters": options.filters, "inference": [], "training": [], "tiled": []}
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        trained = False
        for n_groups in sorted(options.groups):
            scan = make_scan(folder / "scan.npz", min(n_groups, options.exposures), options.n)
            make_view(folder / "view.npz", scan, n_groups)
            for method in (
                ("pinn", "baseline") if n_groups in options.train_groups else ("pinn",) if not trained else ()
            ):
                numbers = measure(method, folder, options.filters)
                found["training"].append({"method": method, "groups": n_groups, **numbers})
                print(json.dumps(found["training"][-1]), file=sys.stderr, flush=True)
                trained = True
            numbers = measure("infer", folder, n_groups)
            numbers["merge_peak_mb"] = measure("merge", folder, n_groups)["peak_mb"]
            pixels = open_member(folder / "canvas.npz", "weight").memmap.size
            found["inference"].append({"groups": n_groups, "exposures": len(scan), "canvas_px": pixels, **numbers})
            print(json.dumps(found["inference"][-1]), file=sys.stderr, flush=True)
        for count in sorted(options.tiled):
            make_scan(folder / "scan.npz", count, options.n)
            for method in TILED:
                found["tiled"].append({"method": method, "exposures": count, **measure(method, folder, 512)})
                print(json.dumps(found["tiled"][-1]), file=sys.stderr, flush=True)
        if options.open:
            found["opening"] = opening(folder)
    few, many = (found["inference"] or [{"groups": 0}])[0], (found["inference"] or [{"groups": 0}])[-1]
    if many["groups"] > few["groups"]:
        growth = (many["peak_mb"] - few["peak_mb"]) * 1e6
        found["growth_bytes_per_group"] = growth / (many["groups"] - few["groups"])
    return found


def draw(found: dict, path: Path) -> None:
    """Peak memory against the number of groups."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    rows = found["inference"]
    groups = [row["groups"] for row in rows]
    axes.semilogx(groups, [row["peak_mb"] for row in rows], "o-", label="inference, one chunk over all groups")
    axes.semilogx(groups, [row["merge_peak_mb"] for row in rows], "s-", label="merge of that chunk")
    axes.semilogx(groups, [row["canvas_px"] * 24e-6 for row in rows], "--", color="grey", label="the canvas, in a file")
    for method, mark in (("pinn", "^"), ("baseline", "v")):
        rows = [row for row in found["training"] if row["method"] == method]
        line = [row["groups"] for row in rows], [row["peak_mb"] for row in rows]
        axes.semilogx(*line, f"{mark}-", label=f"training, {method}")
    axes.semilogx(groups, [row * 16.384e3 * 4 / 1e6 for row in groups], ":", color="grey", label="the grouped frames")
    axes.set(xlabel="groups of four patterns", ylabel="peak resident memory [MB]", ylim=(0, 1300))
    axes.set_title(f"N = {found['n_pixels']}, one thread")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="*", default=[1000, 5216], help="numbers of groups (1000 5216)")
    parser.add_argument("--train-groups", type=int, nargs="*", default=[], help="of these, for which to train too")
    parser.add_argument("--exposures", type=int, default=1 << 40, help="at most; more groups by oversampling")
    parser.add_argument("--tiled", type=int, nargs="*", default=[], help="exposures of scans that go tile by tile")
    parser.add_argument("--n", type=int, default=64, help="side of a pattern (64)")
    parser.add_argument("--filters", type=int, default=12, help="of the network (12)")
    parser.add_argument("--open", action="store_true", help="also open a 10 GB scan")
    parser.add_argument("--scratch", help="folder for the scans")
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.png")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job.limit_threads(1)
        task, folder, number = options.job[0], Path(options.job[1]), int(options.job[2])
        if task == "merge":
            merge_chunk(folder)
        elif task == "infer":
            infer(folder, number)
        elif task in TILED:
            reconstruct(task, folder, number)
        else:
            train(task, folder, number)
        print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
        return
    found = run(options)
    print(json.dumps(found, indent=2))
    if options.output:
        options.output.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
        draw(found, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
