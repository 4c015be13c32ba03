"""What a scan costs that grows: simulation, view, tiles, TV-MAP and `unrolled` in jobs of some tiles each, and merge.

For every size a square raster of patterns is simulated and reconstructed by a study of its own, in a temporary folder;
tiles are divided into jobs of about `--job` exposures. The network of `unrolled` is trained on a smaller scan. Every
job writes its CPU time and its peak resident memory as it ends, start-up included. With `--part`, TV-MAP and `unrolled`
run only in so many of their jobs, and are not merged: the CPU time of all is extrapolated by the exposures in their
tiles, which the rule's name then says.

Prints JSON: for every size and rule the number of jobs, the longest [s], their CPU time [s], and the peak memory of the
largest [MB]; that of any process, those of rules that measure nothing included; and for every rule, those of TV-MAP
together, the exponent of the CPU time in the number of exposures, between one size and the next.

    python benchmarks/scale.py --exposures 1000 10000
    python benchmarks/scale.py --exposures 100000 --part 4
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from conditions import print_json, settings_of
from phases import cost_table

from ptycho.data.chunks import chunk_bounds
from ptycho.data.tiles import load_tiles

ROOT = Path(__file__).parent.parent
STUDY, DOSE, VIEW = "scale", 10_000, "dense"
ZONE_PLATE = {"pupil_px": 13.0, "stop": 0.3, "defocus_px": 26.0, "astigmatism_rad": 0.6, "coma_rad": 0.4}
"""Probe of the default study, of 64 px; of other patterns, in proportion."""
SPACING_PX, JITTER_PX, TRAIN_ROWS = 8.8, 1.0, 8
VIEW_FOLDER = f"results/{STUDY}/dose_{DOSE}/{VIEW}/seed_0"
TARGET = f"{VIEW_FOLDER}/test"


def config_of(exposures: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return a study of a square raster with at least so many exposures in the test split."""
    scale, columns = options.n / 64, int(np.sqrt(exposures))
    rows = -(-exposures // columns)
    probe = {key: value * scale if key.endswith("_px") else value for key, value in ZONE_PLATE.items()}
    raster = {"columns": columns, "train_rows": TRAIN_ROWS, "test_rows": rows}
    jobs = -(-exposures // options.job)
    return {
        "study": STUDY,
        "doses": [DOSE],
        "views": {VIEW: 0.7},
        "methods": options.methods,
        "source": {
            "kind": "simulated",
            "seed": 20,
            "object": {"kind": "dead_leaves"},
            "probe": {"kind": "zone_plate", "n_pixels": options.n, **probe},
            "raster": {**raster, "spacing_px": SPACING_PX * scale, "jitter_px": JITTER_PX * scale},
        },
        "inference": {"chunks": jobs, "tile_px": options.tile_px},
        "tv": {"chunks": jobs, "tile_px": options.tile_px},
        "unrolled": {"tiles": 24, "steps": options.steps},
    }


def targets_of(config: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Return what is made: objects, or the chunks of the first jobs."""
    if options.part is None:
        return [f"{TARGET}/{method}/object.npz" for method in options.methods]
    chunks = config["tv"]["chunks"]
    if chunks == 1:
        sys.exit("--part: there is one job of each method; wanted more exposures, or a smaller --job")
    first = range(1, min(options.part, chunks) + 1)
    return [f"{TARGET}/{method}/chunks/{i}of{chunks}.npz" for method in options.methods for i in first]


def share_of(folder: Path, chunks: int, part: int) -> float:
    """Return the part of the exposures in all tiles, halos included, that the tiles of the first jobs have."""
    found = [path for path in (folder / "test_tiles.npz", folder / "test/tv/tiles.npz") if path.exists()]
    sizes = np.array([len(tile.exposures) for tile in load_tiles(found[0])])  # both methods have the same tiles
    return float(sizes[: chunk_bounds(len(sizes), min(part, chunks) - 1, chunks)[1]].sum() / sizes.sum())


def run_study(exposures: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run the study of one size; return its rows.

    Raises
    ------
    SystemExit
        If a job fails; the study's log is shown.
    """
    config = config_of(exposures, options)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        path = Path(name, "scale.yaml")
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", name, "--configfile", path]
        command += ["--cores", str(options.cores), "--quiet", "all", "--", *targets_of(config, options)]
        finished = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if finished.returncode:
            sys.exit(f"{exposures} exposures: {finished.stdout[-3000:]}")
        costs = cost_table(Path(name, "results", STUDY))
        share = 1.0 if options.part is None else share_of(Path(name, VIEW_FOLDER), config["tv"]["chunks"], options.part)
    raster, chunks = config["source"]["raster"], config["tv"]["chunks"]
    if options.part and options.part < chunks:
        parts = costs["rule"].isin(["tv_chunk", "infer"])
        costs.loc[parts, "cpu_s"] /= share
        costs.loc[parts, "rule"] += f", of {options.part} jobs extrapolated"
    return {
        "exposures": raster["columns"] * raster["test_rows"],
        "frames_mb": raster["columns"] * raster["test_rows"] * 4 * options.n**2 / 1e6,
        "chunks": chunks,
        "largest_process_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "rules": costs.drop(columns="phase").to_dict("records"),
    }


def _times(rules: list[dict[str, Any]]) -> dict[str, float]:
    """Return the CPU time of every rule [s]; TV-MAP is one job, or its start, its chunks and their merge."""
    times: dict[str, float] = {}
    for rule in rules:
        name = rule["rule"].partition(",")[0]
        name = "tv" if name in ("tv_start", "tv_chunk", "merge_tv") else name
        times[name] = times.get(name, 0.0) + rule["cpu_s"]
    return times


def exponents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the exponent of every rule's CPU time in the exposures, from one size to the next."""
    found = []
    for first, second in itertools.pairwise(rows):
        times = [_times(row["rules"]) for row in (first, second)]
        growth = np.log(second["exposures"] / first["exposures"])
        rules = [rule for rule in times[0] if rule in times[1]]
        powers = {rule: round(float(np.log(times[1][rule] / times[0][rule]) / growth), 3) for rule in rules}
        found.append({"from": first["exposures"], "to": second["exposures"], **powers})
    return found


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--exposures", type=int, nargs="+", default=[1000, 10_000], help="sizes of scans (default: %(default)s)")
    add("--methods", nargs="+", choices=("unrolled", "tv"), default=["unrolled", "tv"], help="default: both")
    add("--n", type=int, default=128, help="side of a pattern [px] (default: %(default)s)")
    add("--tile-px", type=float, default=512, help="largest extent of a tile [px] (default: %(default)s)")
    add("--job", type=int, default=2000, help="exposures of a job, about (default: %(default)s)")
    add("--steps", type=int, default=100, help="of the training of `unrolled` (default: %(default)s)")
    add("--part", type=int, help="jobs of each method that run (default: all)")
    add("--cores", type=int, default=2, help="jobs that run side by side (default: %(default)s)")
    add("--scratch", help="folder for temporary studies (default: the system's)")
    options = parser.parse_args()
    rows = []
    for exposures in sorted(options.exposures):
        rows.append(run_study(exposures, options))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    found = exponents(rows)
    for row in rows:
        row["rules"] = pd.DataFrame(row["rules"]).round(1).to_dict("records")
    print_json({"settings": settings_of(options), "rows": rows, "exponents": found})


if __name__ == "__main__":
    main()
