"""The unrolled network on a kind of sample that it was not trained on: networks of one object, scans of another.

Takes the results of a study with several objects, in which `unrolled`, `lsqml` and `tv` have run; conditions that lack
one of them are left out. Probe and positions are the same for all of its objects, so that nothing but the sample is
new. Prints JSON: for every view and dose, mean and standard deviation over seeds of the metrics, and of their paired
differences.

    python benchmarks/unseen.py results/seeds --trained-on leaves --applied-to lines
"""

import argparse
import json
import tempfile
from pathlib import Path

import pandas as pd

from ptycho.data.grouping import FIT, STOP
from ptycho.data.object_files import save_object
from ptycho.data.scan import open_scan
from ptycho.data.views import open_view
from ptycho.reconstruction.likelihood import Counts
from ptycho.reporting.tables import paired_differences
from ptycho.scoring.evaluate import Region, score_method
from ptycho.workflow import job
from ptycho.workflow.paths import condition_of

METRICS = ("ssim_amplitude", "ssim_phase", "error", "heldout_deviance", "cpu_s")


def apply_to(model: Path, scan, view, path: Path) -> None:
    """Reconstruct a view with a network and save the object."""
    from ptycho.model.inference import load_network
    from ptycho.model.unrolled import apply_unrolled

    counts, clock = Counts.of(scan, view.of_role(FIT, STOP)), job.CpuClock()
    reconstruction = apply_unrolled(load_network(model), counts, scan.probe)
    save_object(path, *reconstruction, method="unrolled", cpu_s=clock.seconds)


def told(metrics: pd.DataFrame, options, first: str = "") -> dict:
    """Sum up metrics over seeds, and the paired differences of the methods whose names begin so from the others."""
    means = metrics.groupby(["view", "dose", "method", "metric"], sort=False)["value"].agg(["mean", "std", "count"])
    differences = paired_differences(metrics)
    kept = differences[differences["method"].str.startswith(first)]
    return {
        "settings": {key: str(value) for key, value in vars(options).items()},
        "metrics": means.round(5).reset_index().to_dict("records"),
        "differences": kept.drop(columns="split").round(5).to_dict("records"),
    }


def run(options) -> dict:
    """Score the networks of one object on the test scans of another, with what the study has of it."""
    job.limit_threads(1)
    trained, root = (options.results / f"object_{name}" for name in (options.trained_on, options.applied_to))
    rows, region = [], Region.load(root / "region/test.json")
    with tempfile.TemporaryDirectory() as folder:
        for model in sorted(trained.glob("dose_*/*/seed_*/unrolled/model.keras")):
            where, path = condition_of(model), Path(folder, "object.npz")
            place = root / f"dose_{where['dose']}/{where['view']}/seed_{where['seed']}"
            objects = {method: place / f"test/{method}/object.npz" for method in ("unrolled", "lsqml", "tv")}
            if not all(file.exists() for file in objects.values()):
                continue
            scan = open_scan(root / f"data/dose_{where['dose']}/seed_{where['seed']}/test.npz")
            view = open_view(place / "test.npz")
            apply_to(model, scan, view, path)
            for method, file in {f"unrolled of {options.trained_on}": path, **objects}.items():
                values, facts = score_method(file, scan, view, region)[0], {**where, "split": "test", "method": method}
                rows += [{**facts, "metric": name, "value": values[name]} for name in METRICS]
    return told(pd.DataFrame(rows).drop(columns="object"), options, first="unrolled of")


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a study with objects: results/seeds")
    parser.add_argument("--trained-on", default="leaves", help="object whose networks are taken (leaves)")
    parser.add_argument("--applied-to", default="lines", help="object whose test scans are reconstructed (lines)")
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
