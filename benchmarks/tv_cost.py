"""What TV-MAP costs on the default study's conditions: CPU time, evaluations of the likelihood, error.

Simulates the test split, chooses the TV weight and reconstructs as the study does, in one thread. Prints JSON, one row
per condition. To compare two versions of the package, run it in turns with either on PYTHONPATH.

    python benchmarks/tv_cost.py --doses 10000 --views sparse
"""

import argparse
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from conditions import print_json, settings_of
from detector import by_tv, make_scan
from reconstruction_cost import counted_evaluations

from ptycho.data.object_files import save_reconstruction
from ptycho.data.views import make_view
from ptycho.scoring.evaluate import score_method
from ptycho.scoring.region import shared_region
from ptycho.workflow import job
from ptycho.workflow.config import CONFIG, load_config


def measure(config: dict[str, Any], dose: int, view_name: str, seed: int) -> dict[str, Any]:
    """Reconstruct one condition."""
    with tempfile.TemporaryDirectory() as folder:
        scan = make_scan(Path(folder, "scan.npz"), config, Namespace(dose=dose, seed=seed), "perfect")
        overlap, holdout = config["views"][view_name], config["grouping"]["holdout_fraction"]
        view = make_view(scan, overlap, holdout, np.random.default_rng(seed))
        with counted_evaluations() as evaluations:
            result = by_tv(scan, view, config, seed)
        path = Path(folder, "object.npz")
        save_reconstruction(path, result, method="tv")
        scores, _ = score_method(path, scan, view, shared_region(scan, [view]))
    row = {"dose": dose, "view": view_name, "seed": seed, "exposures": len(view.exposures)}
    row |= {"cpu_s": round(result.cpu_s, 2), "evaluations": len(evaluations), "chosen": result.chosen["tv_weight"]}
    iterations = result.history.groupby("stage")["iterations"].sum().to_dict()
    return row | {"iterations": iterations, **{name: scores[name] for name in ("error", "heldout_deviance")}}


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--doses", type=int, nargs="+", default=[1000, 10_000, 100_000], help="default: %(default)s")
    add("--views", nargs="+", default=["dense", "sparse"], help="default: %(default)s")
    add("--seeds", type=int, nargs="+", default=[0], help="of noise, roles and splits (default: %(default)s)")
    add("--source-seed", type=int, help="seed of object and positions (default: the study's)")
    add("--iterations", type=int, help="of L-BFGS at every weight but the last (default: the study's)")
    options = parser.parse_args()
    job.limit_threads(1)
    config = load_config(CONFIG / "config.yaml")
    if options.source_seed is not None:
        config["source"]["seed"] = options.source_seed
    if options.iterations is not None:
        config["tv"]["iterations"] = options.iterations
    rows = [
        measure(config, dose, view, seed) for dose in options.doses for view in options.views for seed in options.seeds
    ]
    print_json({"settings": settings_of(options), "rows": rows})


if __name__ == "__main__":
    main()
