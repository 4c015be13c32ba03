"""Patterns per second of a trained network: alone, with the estimate that it sees, and from file to file.

Three numbers, each for all exposures of a scan in its tiles, for a network of the default size with random weights:

network
    The U-Net on features that are ready, one tile after the other.
stitched
    Features by gradient descent, network, and the canvas, from counts in memory.
end to end
    What the rules infer_network and merge do: open scan, tiles and model, read, reconstruct, write the chunk, merge it,
    write the object. The scan is dropped from the page cache beforehand.

The interpreter's start-up with all imports is a process of its own and is reported separately. An exposure counts once,
though tiles share those in their halos: `redundancy` is how often it is reconstructed. The three alternate, so that
other load on the machine affects all of them; medians are reported, by wall time and by CPU time. --lsqml adds a full
run of LSQML on the same exposures: frames over the time of all epochs. Prints JSON.

    python benchmarks/throughput.py --exposures 1000 5000 --lsqml
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scans import make_scan, make_tiles, save_untrained

from ptycho.data.canvas import Canvas, save_parts
from ptycho.data.chunks import merge_chunks, run_of
from ptycho.data.object_files import save_reconstruction
from ptycho.data.scan import Scan, open_scan
from ptycho.data.tiles import Tile, TilingOptions, canvas_of, load_tiles, tile_numbers
from ptycho.loader import open_tiles
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.workflow import job
from ptycho.workflow.config import load_config

IMPORTS = "from ptycho.workflow import job; job.limit_threads({}); import ptycho.model.inference"
"""What a job of infer_network does before its first line that depends on the scan."""
SHARES = (("end to end", "network"), ("end to end", "stitched"))


def clocks() -> tuple[float, float]:
    """Read wall and CPU time [s]."""
    return time.perf_counter(), time.process_time()


def drop_from_cache(path: Path) -> None:
    """Let the next reader of a file read it from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def reconstruct_network(model, prepared: list[tuple[Any, Any]]) -> None:
    """Apply the U-Net to the features of all tiles."""
    from ptycho.model.unet import correct

    for flat, features in prepared:
        correct(model.network, flat, features)


def reconstruct_stitched(model, scan: Scan, tiles: list[Tile], parts: list[Counts]) -> None:
    """Reconstruct all tiles from counts in memory, on one canvas."""
    whole = Canvas.around(scan.xcoords, scan.ycoords, scan.n_pixels)
    for tile, counts in zip(tiles, parts, strict=True):
        part = model.reconstruct(counts, scan.probe)
        whole.include(canvas_of(tile, part.object, part.illumination, part.origin_px))
    whole.mean()


def reconstruct_files(folder: Path, batch_size: int) -> None:
    """Do what the rules infer_network and merge do, with one chunk."""
    from ptycho.model.inference import load_model, reconstruct_tiles

    scan, tiles, model_path = open_scan(folder / "scan.npz"), load_tiles(folder / "tiles.npz"), folder / "model.keras"
    container, model = open_tiles(scan, tiles), load_model(model_path)
    metadata = {"run": run_of(model_path, folder / "tiles.npz", len(container)), "tiles": [0, len(container)]}
    parts = reconstruct_tiles(model, container, tiles, range(len(container)), batch_size)
    save_parts(folder / "chunk.npz", parts, lambda: metadata)
    save_reconstruction(folder / "object.npz", merge_chunks([folder / "chunk.npz"], folder=folder))


def in_memory(scan: Scan, tiles: list[Tile], batch_size: int) -> list[Counts]:
    """Read the counts of all tiles; as many exposures are computed at once as in a job."""
    frames = np.square(scan.diffraction[:], dtype=np.float64)
    whole = Counts(frames.__getitem__, scan.xcoords, scan.ycoords, batch_size)
    return [whole.select(tile.exposures) for tile in tiles]


def prepare(model, counts: Counts, probe) -> tuple[Any, Any]:
    """Return the flat canvas and the features of a tile."""
    likelihood = Likelihood(counts, probe)
    flat = np.full(likelihood.shape, model.estimator.transmittance, np.complex64)
    return flat, model.estimator.features(likelihood)


def measure(tasks: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Run tasks in turns; return medians of wall and of CPU time [s]."""
    times: dict[str, list[Any]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = clocks()
            task()
            times[name].append(np.subtract(clocks(), start))
    return {name: np.median(pairs, axis=0).tolist() for name, pairs in times.items()}


def start_up(threads: int) -> dict[str, float]:
    """Start an interpreter that imports what a job imports; return what it takes [s]."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS.format(threads)], check=True, capture_output=True)
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": time.perf_counter() - start, "cpu_s": cpu_s}


def lsqml_speed(scan: Scan, config: dict[str, Any]) -> dict[str, float]:
    """Run LSQML for all its epochs; return its speed."""
    from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, load_library, reconstruct

    load_library()
    options = LSQMLOptions(**config["lsqml"])
    start = clocks()
    reconstruct(Exposures.of(scan, np.arange(len(scan))), None, scan.probe, options, LSQMLRun(seed=0))
    wall_s, cpu_s = np.subtract(clocks(), start).tolist()
    return {"epochs": options.epochs, "frames_per_s": len(scan) / wall_s, "frames_per_cpu_s": len(scan) / cpu_s}


def measure_scan(options: argparse.Namespace, config: dict[str, Any], folder: Path, count: int) -> dict[str, Any]:
    """Measure a scan of `count` exposures."""
    from ptycho.model.inference import load_model

    inference = config["inference"]
    scan = make_scan(folder / "scan.npz", count, options.n)
    tiling = TilingOptions(tile_px=options.tile_px or inference["tile_px"], halo_px=inference["halo_px"])
    tiles = make_tiles(folder / "tiles.npz", scan, tiling)
    save_untrained(folder / "model.keras", scan, **config["network"])
    model, parts = load_model(folder / "model.keras"), in_memory(scan, tiles, inference["batch_size"])
    prepared = [prepare(model, counts, scan.probe) for counts in parts]

    def end_to_end() -> None:
        reconstruct_files(folder, inference["batch_size"])

    reconstruct_network(model, prepared)
    tasks = {
        "network": lambda: reconstruct_network(model, prepared),
        "stitched": lambda: reconstruct_stitched(model, scan, tiles, parts),
        "drop": lambda: drop_from_cache(folder / "scan.npz"),
        "end to end": end_to_end,
    }
    seconds = measure(tasks, options.repeats)
    seconds.pop("drop")
    rates = {name: [count / value for value in pair] for name, pair in seconds.items()}
    result = {
        "exposures": count,
        **tile_numbers(tiles),
        "patterns_per_s": {name: wall for name, (wall, _) in rates.items()},
        "patterns_per_cpu_s": {name: cpu for name, (_, cpu) in rates.items()},
        "share": {f"{one} / {other}": rates[one][0] / rates[other][0] for one, other in SHARES},
        "share_cpu": {f"{one} / {other}": rates[one][1] / rates[other][1] for one, other in SHARES},
    }
    return result | ({"lsqml": lsqml_speed(scan, config)} if options.lsqml else {})


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    job.limit_threads(options.threads)
    config = load_config(options.config)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scans = [measure_scan(options, config, Path(name), count) for count in options.exposures]
    return {
        "n_pixels": options.n,
        "threads": options.threads,
        "network": config["network"],
        "inference": config["inference"],
        "start_up": start_up(options.threads),
        "scans": scans,
    }


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--exposures", type=int, nargs="+", default=[1000, 5000], help="exposures of a scan (default: %(default)s)")
    add("--config", type=Path, default=Path("config/config.yaml"), help="study whose settings count (default: default)")
    add("--tile-px", type=float, help="largest extent of a tile's positions [px] (default: inference.tile_px)")
    add("--repeats", type=int, default=3, help="passes of each kind (default: %(default)s)")
    add("--n", type=int, default=64, help="side of a pattern [px] (default: %(default)s)")
    add("--threads", type=int, default=1, help="threads (default: %(default)s)")
    add("--lsqml", action="store_true", help="also measure LSQML, with all its epochs")
    add("--scratch", help="folder for the temporary scan (default: the system's)")
    print(json.dumps(run(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
