"""LSQML without early stopping, as it is commonly run: a fixed number of epochs on all usable exposures.

The study's LSQML keeps the epoch with the lowest validation deviance, which at low dose is the first. This program
takes the results of a study in which `unrolled` and `lsqml` have run, reconstructs the same views with a fixed number
of epochs, and scores them as the study does. Prints JSON: for every view and dose, mean and standard deviation over
seeds of the metrics, and of the paired differences between methods.

    python benchmarks/lsqml_epochs.py results/methods --doses 1000 10000
"""

import argparse
import tempfile
from pathlib import Path

from conditions import (
    compact_batching,
    load_study_config,
    print_json,
    selected_conditions,
    study_parser,
    summarize,
    usable_exposures,
)

from ptycho.data.object_files import save_reconstruction
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, load_library, reconstruct
from ptycho.workflow import job


def run(options: argparse.Namespace) -> dict:
    """Reconstruct and score the selected conditions."""
    job.limit_threads(1)
    load_library()
    lsqml = LSQMLOptions(**load_study_config(options)["lsqml"] | {"epochs": options.epochs})
    needed, metrics = [f"test/{method}/object.npz" for method in ("unrolled", "lsqml")], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "object.npz")
        for condition in selected_conditions(options, options.results, *needed):
            scan, view = condition.open()
            run = LSQMLRun(seed=condition.labels["seed"], compact=compact_batching(view, lsqml))
            exposures = Exposures.of(scan, usable_exposures(view))
            save_reconstruction(path, reconstruct(exposures, None, scan.probe, lsqml, run))
            study = {method: condition.object_path(method) for method in ("unrolled", "lsqml")}
            metrics.append(condition.score({f"lsqml, {options.epochs} epochs": path} | study))
    return summarize(metrics, options)


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = study_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=100, help="epochs of LSQML (default: %(default)s)")
    print_json(run(parser.parse_args()))


if __name__ == "__main__":
    main()
