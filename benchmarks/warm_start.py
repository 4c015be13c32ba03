"""What LSQML and TV-MAP save by starting from a network's object: epochs, iterations and CPU time.

Takes the results of a study in which the network and `tv` have run. Convergence is measured by the deviance of the
holdout exposures, which none of the methods has used, the network included; no setting is chosen by it.

LSQML starts from a flat object and from the network's; `…_to_equal_deviance` is the cost up to the first epoch whose
deviance is at most that of the flat start's best epoch. TV-MAP follows its continuation down to the chosen TV weight
from a flat object, and starts at that weight from the network's; here `iterations` and `cpu_s` are the cost up to the
same objective, `…_to_equal_deviance` that up to the same deviance. Prints JSON: mean and standard deviation over seeds;
`count` is the number of seeds in which the start got that far.

    python benchmarks/warm_start.py results/methods
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

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

from ptycho.data.object_files import load_reconstruction, paste
from ptycho.data.views import FIT, HOLDOUT
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, load_library, reconstruct
from ptycho.reconstruction.optimize import minimize
from ptycho.reconstruction.tv import continuation
from ptycho.reconstruction.tv_weight import TVOptions, background_for, tv_weights
from ptycho.workflow import job

ITERATIONS_AT_ONCE = 10
"""L-BFGS iterations between evaluations of the deviance."""
MAX_WARM_START_FACTOR = 40
"""The warm start ends without convergence after this many times `tv.iterations`."""


def start_from(path: Path, box):
    """Put a saved object on a box, (origin, shape); its mean amplitude where it has nothing."""
    saved, (origin, shape) = load_reconstruction(path)[0], box
    lit = saved.illumination > 0.1 * np.median(saved.illumination)
    return paste(
        saved.object, tuple(np.subtract(saved.origin_px, origin)), shape, fill=np.abs(saved.object[lit]).mean()
    )


def compare_lsqml(condition: Condition, options: LSQMLOptions, start_path: Path) -> dict[str, dict]:
    """Run LSQML from a flat object and from another."""
    scan, view = condition.open()
    fit, holdout = (Exposures.of(scan, view.of_role(role)) for role in (FIT, HOLDOUT))
    compact, results = compact_batching(view, options), {}
    for name, start in {"flat": None, "network": lambda box: start_from(start_path, box)}.items():
        run = LSQMLRun(seed=0, compact=compact, start=start)
        result = reconstruct(fit, holdout, scan.probe, options, run)
        deviances, epoch_s = result.history["validation_deviance"].to_numpy(), result.cpu_s / len(result.history)
        best = int(np.argmin(deviances))
        results[name] = {"epochs": best + 1, "cpu_s": epoch_s * (best + 1), "deviance": deviances[best]}
        if name == "network":
            reached = np.flatnonzero(deviances <= results["flat"]["deviance"])
            epochs = int(reached[0]) + 1 if len(reached) else np.nan
            results[name] |= {"epochs_to_equal_deviance": epochs, "cpu_s_to_equal_deviance": epoch_s * epochs}
    return results


@dataclass(frozen=True)
class HoldoutDeviance:
    """Poisson deviance per pixel of holdout exposures under objects on the canvas of the fitted ones."""

    holdout: Likelihood
    fitted: Likelihood

    def __call__(self, obj) -> float:
        """Take an (H, W) complex64 object."""
        origin = tuple(np.subtract(self.fitted.origin_px, self.holdout.origin_px))
        value, _ = self.holdout(paste(obj, origin, self.holdout.shape, fill=np.abs(obj).mean()))
        return 2 * value / self.holdout.n_values


def compare_tv(condition: Condition, options: TVOptions, start_path: Path) -> dict[str, dict]:
    """Run TV-MAP down to its chosen weight from a flat object, and at that weight from another."""
    scan, view = condition.open()
    counts = Counts.of(scan, usable_exposures(view))
    likelihood = Likelihood(counts, scan.probe)
    deviance = HoldoutDeviance(Likelihood(Counts.of(scan, view.of_role(HOLDOUT)), scan.probe), likelihood)
    chosen = load_reconstruction(condition.object_path("tv"))[0].chosen["tv_weight"]
    path = [weight for weight in tv_weights(options, likelihood.illumination()) if weight > 1.01 * chosen]
    flat = np.full(likelihood.shape, counts.mean_transmittance(scan.probe), np.complex64)
    rows, clock = [], job.CpuClock()
    obj = continuation(likelihood, flat, [*path, chosen], options, rows, label="flat start")
    cold = {"iterations": sum(row["iterations"] for row in rows), "cpu_s": clock.seconds}
    cold |= {"objective": rows[-1]["objective"], "deviance": deviance(obj)}
    start = start_from(start_path, (likelihood.origin_px, likelihood.shape))
    limit = MAX_WARM_START_FACTOR * options.iterations
    return {"flat": cold, "network": warm_tv(likelihood, deviance, start, chosen, cold, limit)}


def warm_tv(likelihood: Likelihood, deviance: HoldoutDeviance, obj, tv_weight: float, cold: dict, limit: int) -> dict:
    """Minimize at a TV weight until the objective is as low as after a cold start; what is not reached is NaN."""
    smoothed, total, cpu_s = background_for(likelihood, 1), 0, 0.0
    result = {"iterations": np.nan, "cpu_s": np.nan, "deviance_of_start": deviance(obj)}
    equal = 0.0 if result["deviance_of_start"] <= cold["deviance"] else np.nan
    result |= {"iterations_to_equal_deviance": equal, "cpu_s_to_equal_deviance": equal}
    while total < limit:
        begin = time.process_time()
        obj, objective, count = minimize(smoothed, obj, tv_weight, ITERATIONS_AT_ONCE)
        cpu_s, total = cpu_s + time.process_time() - begin, total + count
        result |= {"objective": objective, "deviance": deviance(obj)}
        if np.isnan(result["iterations_to_equal_deviance"]) and result["deviance"] <= cold["deviance"]:
            result |= {"iterations_to_equal_deviance": total, "cpu_s_to_equal_deviance": cpu_s}
        if objective <= cold["objective"]:
            return result | {"iterations": total, "cpu_s": cpu_s}
        if not count:
            break
    return result


def run(options: argparse.Namespace) -> dict:
    """Go through the selected conditions that have both the network's object and TV-MAP's."""
    job.limit_threads(1)
    load_library()
    config, rows = load_study_config(options), []
    lsqml, prior = LSQMLOptions(**config["lsqml"]), TVOptions(**config["tv"])
    needed = [f"test/{method}/object.npz" for method in (options.network, "tv")]
    for condition in selected_conditions(options, options.results, *needed):
        start_path = condition.object_path(options.network)
        results = {
            "lsqml": compare_lsqml(condition, lsqml, start_path),
            "tv": compare_tv(condition, prior, start_path),
        }
        rows += [
            {**condition.labels, "method": method, "start": start, "quantity": quantity, "value": float(value)}
            for method, starts in results.items()
            for start, values in starts.items()
            for quantity, value in values.items()
        ]
    keys = ["view", "dose", "method", "start", "quantity"]
    table = pd.DataFrame(rows).groupby(keys, sort=False)["value"].agg(["mean", "std", "count"]).reset_index()
    return {"settings": settings_of(options), "summary": records(table)}


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = study_parser(__doc__)
    parser.add_argument("--network", default="unrolled", help="method whose object is the start (default: %(default)s)")
    print_json(run(parser.parse_args()))


if __name__ == "__main__":
    main()
