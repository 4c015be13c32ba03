"""What a trained probe mends: the PINN with a wrong probe, with one that it trains from there, and with the exact one.

Simulates both splits of the default study's scan (or those of another seed of the source), tells a wrong probe, trains
the PINN on the train split and applies it to the test split. Prints one row of CSV a run:

told
    Whether the probe that the PINN is told is exact, or which flaw of `benchmarks/refinement.py` it has.
probe
    `training.probe`.
probe_error
    1 - |⟨P, Q⟩| of the normalized probes, that of the inference and the right one, at the shift where it is least.
error, ssim_phase, heldout_deviance
    The study's scores of the test split.
train_cpu_s, cpu_s
    CPU time of the training and of the reconstruction.

Settings are chosen with other objects than the study's, such as --source-seed 53.

    python benchmarks/trained_probe.py --doses 10000 100000 --seeds 0 1 2 > trained_probe.csv
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conditions import usable_exposures
from detector import make_scan
from refinement import FLAWS, Case, told

from ptycho.data.scan import Scan
from ptycho.data.tiles import TilingOptions, cut_view
from ptycho.data.views import VALIDATION, GroupingOptions, View, make_view, with_groups
from ptycho.loader import open_groups, open_tiles
from ptycho.workflow import job
from ptycho.workflow.config import CONFIG, load_config

SCORES = ("error", "ssim_phase", "heldout_deviance", "cpu_s")


def run_case(dose: int, seed: int, options: argparse.Namespace, folder: str) -> list[dict[str, Any]]:
    """Train and reconstruct with every probe."""
    config = load_config(CONFIG / "config.yaml")
    config["source"] |= {"seed": options.source_seed, "object": {"kind": options.object}}
    simulation = argparse.Namespace(dose=dose, seed=seed)
    scans, views = {}, {}
    for split in ("train", "test"):
        scan = make_scan(Path(folder, f"{split}.npz"), config, simulation, "perfect", split)
        rng = np.random.default_rng(seed)
        view = make_view(scan, config["views"][options.view], config["grouping"]["holdout_fraction"], rng)
        views[split] = with_groups(view, scan, GroupingOptions(**config["grouping"]), rng) if split == "train" else view
        scans[split] = scan
    case, rows = Case(scans["test"], views["test"], folder), []
    labels = {"dose": dose, "view": options.view, "seed": seed}
    for flaw in options.told:
        known = {split: told(scan, FLAWS[flaw], seed) for split, scan in scans.items()}
        for probe in options.probes:
            rows.append(
                labels | {"told": flaw, "probe": probe} | train_and_score(known, views, probe, config, seed, case)
            )
            print(rows[-1], file=sys.stderr)
    return rows


def train_and_score(
    known: dict[str, Scan], views: dict[str, View], probe: str, config: dict[str, Any], seed: int, case: Case
) -> dict[str, float]:
    """Train with what is known of the train split, reconstruct the test split, score."""
    from ptycho.model.inference import reconstruct_in_chunks
    from ptycho.model.networks import NetworkOptions
    from ptycho.model.training import TrainingOptions, TrainingRun, train

    training = TrainingOptions(**config["training"] | {"probe": probe})
    run, clock = TrainingRun(validation=views["train"].of_role(VALIDATION), seed=seed), job.CpuClock()
    groups = open_groups(known["train"], views["train"])
    model, history = train("pinn", groups, NetworkOptions(**config["network"]), training, run)
    print(history.to_string(), file=sys.stderr)
    cost, scan = clock.seconds, known["test"]
    tiling = TilingOptions(**{key: config["inference"][key] for key in ("tile_px", "halo_px")})
    tiles = cut_view(scan, usable_exposures(views["test"]), tiling)
    result = reconstruct_in_chunks(model, open_tiles(scan, tiles), tiles, len(tiles), 16)
    scores = case.score(result, scan)
    return {name: scores[name] for name in ("probe_error", *SCORES)} | {"train_cpu_s": cost}


def main() -> None:
    """Parse the command line, run, print CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--told", nargs="+", default=["none", "defocus-30"], choices=FLAWS, help="default: %(default)s")
    add("--probes", nargs="+", default=["fixed", "trained"], help="training.probe (default: %(default)s)")
    add("--doses", type=int, nargs="+", default=[10_000, 100_000], help="photons per exposure (default: %(default)s)")
    add("--view", default="dense", help="overlap view of the default study (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0], help="seeds of noise and training (default: %(default)s)")
    add("--source-seed", type=int, default=20, help="seed of object and scan (default: the study's, %(default)s)")
    add("--object", default="dead_leaves", help="kind of object (default: %(default)s)")
    options = parser.parse_args()
    job.limit_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for dose in options.doses:
            for seed in options.seeds:
                rows += run_case(dose, seed, options, folder)
    pd.DataFrame(rows).round(5).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    main()
