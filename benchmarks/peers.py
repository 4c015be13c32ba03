"""TV-MAP and `unrolled` against pty-chi's LSQML, rPIE and bilinear Hessian: same scan, same threads, one process.

Takes the results of a study in which `unrolled` has been trained. Every method reconstructs the usable exposures of the
test view. After every epoch of pty-chi, and at every object at which ours evaluate a likelihood, the clock is stopped,
and the Poisson deviance of the holdout exposures is computed, which no method uses. A run of pty-chi ends after
`--patience` epochs without a lower deviance, ours end by themselves. Reading frames, the training of `unrolled` and a
first run, which starts libraries, are not counted; building pty-chi's task and our likelihood is.

Prints JSON, for every condition and method: patterns per second of one pass over the exposures, all that lies between
two passes included; the lowest deviance, the time to it [s], and the relative error of the object there; the same for
the first object with at most 1.05 times that deviance; the time to LSQML's lowest deviance, and how many times faster
than LSQML that is. Times are CPU time, on a GPU wall time. `mean` has the means over seeds.

    python benchmarks/peers.py results/default --doses 10000 --figure peers.png --csv peers.csv
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conditions import (
    Condition,
    compact_batching,
    load_study_config,
    print_json,
    records,
    selected_conditions,
    settings_of,
    study_parser,
    usable_exposures,
)
from traces import Point, Trace, cpu_clock, gpu_clock, watched_likelihood

from ptycho.data.object_files import save_reconstruction
from ptycho.data.views import HOLDOUT
from ptycho.reconstruction import ptychi_engines, tv
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import choose_device
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, load_library, reconstruct
from ptycho.reconstruction.ptychi_adapter import object_box
from ptycho.workflow import job
from ptycho.workflow.files import save_table

TOLERANCE = 1.05
"""A method is near its best when the deviance is at most this many times its lowest."""
OURS = ("unrolled", "tv")
"""Methods of this project."""
STYLES = {
    "unrolled": ("unrolled", "#0072B2", "-"),
    "tv": ("TV-MAP", "#D55E00", "-"),
    ptychi_engines.LSQML: ("LSQML", "#009E73", "-"),
    ptychi_engines.RPIE: ("rPIE, α = 0.1", "#CC79A7", "-"),
    ptychi_engines.EPIE: ("rPIE, α = 1", "#CC79A7", "--"),
    ptychi_engines.HESSIAN_CG: ("bilinear Hessian, CG", "#555555", "-"),
    ptychi_engines.HESSIAN_GD: ("bilinear Hessian, GD", "#555555", "--"),
}
"""Method -> name, color and dash in the figure."""
MEASURED = ("patterns_per_s", "best_deviance", "best_s", "best_error", "near_s", "near_error", "to_lsqml_s")
MEASURED += ("faster_than_lsqml", "total_s")
"""Numbers of a row whose means over seeds are printed."""


class Runner:
    """Methods on one condition.

    Parameters
    ----------
    condition : Condition
        Where `unrolled` has been trained.
    config : dict
        Config of the study.
    options : Namespace
        The command line.
    """

    def __init__(self, condition: Condition, config: dict[str, Any], options: argparse.Namespace):
        self.scan, self.view = condition.open()
        self.condition, self.config, self.options = condition, config, options
        self.used, self.seed = usable_exposures(self.view), condition.labels["seed"]
        self.exposures, self.holdout = (
            Exposures.of(self.scan, chosen) for chosen in (self.used, self.view.of_role(HOLDOUT))
        )

    def trace(self, **limits: float) -> Trace:
        """Return a new trace."""
        clock = gpu_clock if self.options.device == "gpu" else cpu_clock
        return Trace(self.scan, self.used, self.holdout, clock, **limits)

    def ours(self, method: str, **limits: float) -> Trace:
        """Run one of our methods."""
        from ptycho.model.inference import load_model

        trace, counts, device = self.trace(**limits), Counts.of(self.scan, self.used), self.options.device
        if method == "unrolled":
            model = load_model(self.condition.model_path("unrolled"), device)
            task = partial(model.reconstruct, counts, self.scan.probe)
        else:
            prior = tv.TVOptions(**self.config["tv"] | {"device": device})
            task = partial(tv.reconstruct, counts, self.scan.probe, prior, seed=self.seed)
        with watched_likelihood(trace):
            return trace.run(task)

    def ptychi(self, engine: str, **limits: float) -> Trace:
        """Run an engine of pty-chi."""
        changes = {"epochs": self.options.epochs, "device": self.options.device}
        options = LSQMLOptions(**self.config["lsqml"] | changes)
        trace = self.trace(**{"patience": self.options.patience} | limits)
        data = self.exposures
        origin, _ = object_box(data.xcoords, data.ycoords, self.scan.n_pixels)
        run = LSQMLRun(
            seed=self.seed,
            compact=engine == ptychi_engines.LSQML and compact_batching(self.view, options),
            engine=engine,
            watch=lambda obj: trace.see(obj, origin),
        )
        return trace.run(partial(reconstruct, data, None, self.scan.probe, options, run))

    def error(self, point: Point, trace: Trace) -> float:
        """Score an object as the study does; return its relative complex error."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "object.npz")
            save_reconstruction(path, trace.reconstruction(point))
            scores = self.condition.score({"object": path})
        return float(scores.loc[scores["metric"] == "error", "value"].iloc[0])

    def rows(self, methods: list[str]) -> Iterator[dict[str, Any]]:
        """Measure methods; each is run twice, at first for a few objects."""
        traces: dict[str, Trace] = {}
        for method in methods:
            start = self.ours if method in OURS else self.ptychi
            start(method, most=np.inf if method == "unrolled" else 2)
            traces[method] = start(method)
        known = traces.get(ptychi_engines.LSQML)
        for method, trace in traces.items():
            near = trace.first_below(TOLERANCE * trace.best.deviance)
            lsqml = trace.first_below(known.best.deviance) if known else None
            yield {
                **self.condition.labels,
                "method": method,
                "exposures": len(self.used),
                "patterns_per_s": len(self.used) / float(np.median(np.diff(trace.seconds))),
                "best_deviance": trace.best.deviance,
                "best_s": trace.best.seconds,
                "best_error": self.error(trace.best, trace),
                "near_deviance": near.deviance,
                "near_s": near.seconds,
                "near_error": self.error(near, trace),
                "to_lsqml_s": lsqml.seconds if lsqml else None,
                "faster_than_lsqml": known.best.seconds / lsqml.seconds if lsqml else None,
                "total_s": trace.total_s,
                "curve": {"seconds": np.round(trace.seconds, 4), "deviance": np.round(trace.deviances, 6)},
            }


def mean_over_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return means of `MEASURED` for every view, dose and method; a time that some seed has not got is NaN."""
    table = pd.DataFrame(rows).astype({name: float for name in MEASURED})
    groups = table.groupby(["view", "dose", "method"], sort=False)[list(MEASURED)]
    return groups.agg(lambda values: values.mean(skipna=False)).reset_index()


def plot(rows: list[dict[str, Any]], path: Path, unit: str) -> None:
    """Draw deviance against time, a panel per view and dose; a dot is the first object near a method's best."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((row["view"], row["dose"]) for row in rows))
    figure = Figure(figsize=(4.2 * len(panels) + 1.8, 3.8), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        chosen = [row for row in rows if (row["view"], row["dose"]) == panel]
        first = chosen[0]["seed"]
        for row in chosen:
            label, color, dash = STYLES[row["method"]]
            lowest = np.minimum.accumulate(row["curve"]["deviance"])
            own = label if row["seed"] == first else None
            axes.plot(row["curve"]["seconds"], lowest, dash, color=color, label=own)
            axes.plot(row["near_s"], row["near_deviance"], "o", color=color, markersize=5)
        low, high = (choose(row["best_deviance"] for row in chosen) for choose in (min, max))
        axes.set(xscale="log", yscale="log", xlabel=unit, ylim=(0.95 * low, 1.4 * high))
        axes.set_title(f"{panel[0]}, {panel[1]:,} photons")
        axes.set_ylabel("lowest deviance of holdout exposures so far")
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=120)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Go through the selected conditions; write figure and table, where they are asked for."""
    job.limit_threads(options.threads)
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # TensorFlow would take one
    where = choose_device(options.device).name, ptychi_engines.torch_device(options.device)
    load_library()
    config, rows = load_study_config(options), []
    for condition in selected_conditions(options, options.results, "unrolled/model.keras"):
        rows += Runner(condition, config, options).rows(options.methods)
    means = mean_over_seeds(rows)
    if options.csv:
        save_table(options.csv, pd.DataFrame(rows).drop(columns="curve"))
    if options.figure:
        plot(rows, options.figure, "CPU time [s]" if options.device == "cpu" else "time [s]")
    for row in rows:
        row["curve"] = {name: values.tolist() for name, values in row["curve"].items()}
    return {"settings": settings_of(options), "computed_on": where, "mean": records(means), "conditions": rows}


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made, known = study_parser(__doc__), list(STYLES)
    add: Callable[..., Any] = made.add_argument
    add("--methods", nargs="+", choices=known, default=known, help="what is run (default: all)")
    add("--device", choices=("cpu", "gpu"), default="cpu", help="where all of them compute (default: %(default)s)")
    add("--threads", type=int, default=1, help="threads of every library (default: %(default)s)")
    add("--epochs", type=int, default=200, help="of pty-chi, at most (default: %(default)s)")
    add("--patience", type=int, default=20, help="epochs without a lower deviance until it ends (default: %(default)s)")
    add("--figure", type=Path, help="draw deviance against time")
    add("--csv", type=Path, help="write a line per condition and method")
    return made


def main() -> None:
    """Parse the command line, run, print JSON."""
    made = parser()
    options = made.parse_args()
    try:
        print_json(run(options))
    except ValueError as error:
        made.error(str(error))


if __name__ == "__main__":
    main()
