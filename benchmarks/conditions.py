"""Shared by the programs that take a finished study's results: its conditions, their scores, summaries over seeds."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from ptycho.data.scan import Scan, open_scan
from ptycho.data.views import FIT, VALIDATION, View, open_view
from ptycho.reconstruction.lsqml import LSQMLOptions
from ptycho.reporting.headlines import HEADLINES
from ptycho.reporting.tables import paired_differences
from ptycho.scoring.evaluate import compare
from ptycho.scoring.metric_tables import with_condition
from ptycho.scoring.region import Region
from ptycho.workflow.config import load_config, read_file
from ptycho.workflow.paths import condition_of

METRICS = tuple(HEADLINES)
"""The metrics that are summarized."""
LABELS = ("view", "dose", "seed")
"""What names a condition."""


@dataclass(frozen=True)
class Condition:
    """One view, dose and seed of a study."""

    root: Path
    """Folder of the study's results, or of one of its objects: holds `data`, `region` and the conditions."""
    labels: dict
    """View, dose and seed."""

    @property
    def folder(self) -> Path:
        """Where the views and models of this condition are."""
        return self.root / "dose_{dose}/{view}/seed_{seed}".format(**self.labels)

    def open(self, split: str = "test") -> tuple[Scan, View]:
        """Open the scan and the view of a split."""
        scan = self.root / "data/dose_{dose}/seed_{seed}".format(**self.labels) / f"{split}.npz"
        return open_scan(scan), open_view(self.folder / f"{split}.npz")

    def model_path(self, method: str) -> Path:
        """Model file of a trained method."""
        return self.folder / method / "model.keras"

    def object_path(self, method: str) -> Path:
        """Object file of a method on the test split."""
        return self.folder / "test" / method / "object.npz"

    def score(self, objects: dict[str, Path]) -> pd.DataFrame:
        """Score object files on the test split as the study does; one row per method and metric of `METRICS`."""
        metrics, _ = compare(objects, *self.open(), Region.load(self.root / "region/test.json"))
        return with_condition(metrics[metrics["metric"].isin(METRICS)], split="test", **self.labels)


def usable_exposures(view: View):
    """Return the exposures of a view that methods may use, (m,) int64: all but the holdout exposures."""
    return view.of_role(FIT, VALIDATION)


def compact_batching(view: View, options: LSQMLOptions) -> bool:
    """Whether LSQML batches neighboring exposures in a view, as it does at low overlap."""
    return view.metadata["overlap"]["between_exposures"]["linear"] < options.compact_batching_below_overlap


def study_parser(description: str, *, config: bool = True) -> argparse.ArgumentParser:
    """Make a command-line parser for the results of a study, with options that select conditions."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the study's results, such as results/methods")
    if config:
        parser.add_argument(
            "--config",
            type=Path,
            help="config file of the study (default: the one in config with the name of the results' folder)",
        )
    parser.add_argument("--doses", type=int, nargs="+", help="incident photons per exposure (default: all)")
    parser.add_argument("--views", nargs="+", help="names of overlap views (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds of noise and training (default: all)")
    return parser


def load_study_config(options: argparse.Namespace) -> dict[str, Any]:
    """Load the config of the study: its file laid over the defaults.

    Raises
    ------
    SystemExit
        If none is named, and none in `config` has the name of the results' folder as its study's.
    """
    name = options.results.resolve().name
    own = (path for path in sorted(Path("config").glob("*.yaml")) if read_file(path).get("study") == name)
    if path := options.config or next(own, None):
        return load_config(path)
    raise SystemExit(f"config: no file there has `study: {name}`; wanted one, or --config")


def selected_conditions(options: argparse.Namespace, root: Path, *needed: str) -> Iterator[Condition]:
    """Iterate over the selected conditions that have all needed files, with a progress bar.

    Parameters
    ----------
    options : Namespace
        Command line, parsed by `study_parser`.
    root : Path
        Folder of the results, or of one object in it.
    *needed : str
        Paths in a condition's folder, such as "unrolled/model.keras".

    Raises
    ------
    SystemExit
        If there is no such condition.
    """
    wanted, conditions = {name: getattr(options, f"{name}s") for name in LABELS}, []
    for path in sorted(root.glob(f"dose_*/*/seed_*/{needed[0]}")):
        labels = {name: value for name, value in condition_of(path).items() if name in LABELS}
        condition = Condition(root, labels)
        selected = all(wanted[name] is None or labels[name] in wanted[name] for name in LABELS)
        if selected and all((condition.folder / file).exists() for file in needed):
            conditions.append(condition)
    if not conditions:
        raise SystemExit(f"{root}: none of the selected conditions dose_*/*/seed_* has {' and '.join(needed)}")
    return iter(tqdm(conditions, unit="condition"))


def settings_of(options: argparse.Namespace) -> dict:
    """Convert the options of a command line to JSON-serializable values."""
    return {
        name: value if isinstance(value, int | float | list | None) else str(value)
        for name, value in vars(options).items()
    }


def records(table: pd.DataFrame) -> list[dict]:
    """Convert a table to a list of its rows; NaN becomes None, which JSON writes as null."""
    table = table.round(5).reset_index(drop=True).astype(object)
    return table.where(table.notna(), None).to_dict("records")


def summarize(metrics: list[pd.DataFrame], options: argparse.Namespace, prefix: str = "") -> dict:
    """Mean and standard deviation over seeds, of metrics and of their paired differences between methods.

    Parameters
    ----------
    metrics : list of DataFrame
        As `Condition.score` returns them.
    options : Namespace
        The command line.
    prefix : str
        Keep the differences of methods whose names begin like this.
    """
    table = pd.concat(metrics, ignore_index=True)
    means = table.groupby(["view", "dose", "method", "metric"], sort=False)["value"].agg(["mean", "std", "count"])
    differences = paired_differences(table).drop(columns="split")
    return {
        "settings": settings_of(options),
        "metrics": records(means.reset_index()),
        "differences": records(differences[differences["method"].str.startswith(prefix)]),
    }


def print_json(results: dict) -> None:
    """Print results."""
    print(json.dumps(results, indent=1))
