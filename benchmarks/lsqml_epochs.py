"""LSQML without a stopping rule, as it is commonly run: so many epochs on all exposures that a method may use.

The study's LSQML stops where exposures set apart are predicted best, which at few photons is after one epoch. This
program takes the results of a study in which `unrolled` and `lsqml` have run, reconstructs the same views for a
fixed number of epochs, and scores them as the study does. Prints JSON: for every view and dose, mean and standard
deviation over seeds of the metrics, and of the paired differences between `unrolled` and either.

    python benchmarks/lsqml_epochs.py results/methods --doses 1000 10000
"""

import argparse
import json
import tempfile
from pathlib import Path

import pandas as pd
import yaml
from tqdm import tqdm
from unseen import METRICS, told

from ptycho.data.grouping import FIT, STOP
from ptycho.data.object_files import save_object
from ptycho.data.scan import open_scan
from ptycho.data.views import open_view
from ptycho.reconstruction.lsqml import Exposures, Iterative, load_library, reconstruct
from ptycho.scoring.evaluate import Region, score_method
from ptycho.workflow import job
from ptycho.workflow.paths import condition_of


def run(options) -> dict:
    """Reconstruct and score the conditions asked for."""
    job.limit_threads(1)
    load_library()
    config = yaml.safe_load(options.config.read_text())
    iterative = Iterative(**{**config["iterative"], "epochs": options.epochs})
    rows, region = [], Region.load(options.results / "region/test.json")
    with tempfile.TemporaryDirectory() as folder:
        for path in tqdm(sorted(options.results.glob("dose_*/*/seed_*/test/unrolled/object.npz")), unit="condition"):
            where, place, ours = condition_of(path), path.parents[2], Path(folder, "object.npz")
            if options.doses and where["dose"] not in options.doses:
                continue
            scan = open_scan(options.results / f"data/dose_{where['dose']}/seed_{where['seed']}/test.npz")
            view, clock = open_view(place / "test.npz"), job.CpuClock()
            exposures = Exposures.of(scan, view.of_role(FIT, STOP))
            compact = view.metadata["overlap"]["between_exposures"]["linear"] < iterative.compact_below
            found = reconstruct(exposures, None, scan.probe, iterative, seed=where["seed"], compact=compact)
            save_object(ours, found.object, found.weight, found.origin_px, method="lsqml", cpu_s=clock.seconds)
            objects = {
                f"lsqml, {options.epochs} epochs": ours,
                "unrolled": path,
                "lsqml": path.parents[1] / "lsqml/object.npz",
            }
            for method, file in objects.items():
                values, facts = score_method(file, scan, view, region)[0], {**where, "split": "test", "method": method}
                rows += [{**facts, "metric": name, "value": values[name]} for name in METRICS]
    return told(pd.DataFrame(rows), options)


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a study's results")
    parser.add_argument(
        "--config", type=Path, default=Path("config/methods.yaml"), help="its config (config/methods.yaml)"
    )
    parser.add_argument("--doses", type=int, nargs="*", help="photons (all of the study)")
    parser.add_argument("--epochs", type=int, default=100, help="of LSQML (100)")
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
