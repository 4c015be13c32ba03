"""What a network's object as the start saves LSQML and TV-MAP: epochs, iterations and CPU time to the same deviance.

Takes the results of a study in which the network and `tv` have run. The deviance is that of the `holdout` exposures,
which no method has seen, the network's object neither; they judge here, and nothing that is chosen by them goes on.
LSQML starts from a flat object and from the network's; what counts is the first epoch that is as good as the best of
the flat start. TV-MAP goes down to its chosen strength from a flat object, and starts there at once from the network's,
until its objective is as low; `to_the_same` is the same deviance here, too. Prints JSON: mean and standard deviation
over seeds of the iterations and CPU-seconds that either start takes; `count` is of the seeds in which it got as far at
all.

    python benchmarks/warm_start.py results/methods
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from ptycho.data.grouping import FIT, HOLDOUT, STOP
from ptycho.data.object_files import load_object
from ptycho.data.scan import open_scan
from ptycho.data.views import open_view
from ptycho.reconstruction.likelihood import Counts, Likelihood
from ptycho.reconstruction.lsqml import Exposures, Iterative, load_library, reconstruct
from ptycho.reconstruction.optimize import descend
from ptycho.reconstruction.tv import TotalVariation, continuation, softened, strengths, transmission_of
from ptycho.workflow import job
from ptycho.workflow.paths import condition_of


def placed(path, box):
    """Put a saved object on the pixels of a box; its mean where it has nothing."""
    (top, left), (height, width) = box
    obj, weight, (y, x), _ = load_object(path)
    whole = np.full((height, width), np.abs(obj[weight > 0.1 * np.median(weight)]).mean(), np.complex64)
    rows, columns = (
        slice(max(y, top), min(y + obj.shape[0], top + height)),
        slice(max(x, left), min(x + obj.shape[1], left + width)),
    )
    cut = obj[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    whole[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = cut
    return whole


def lsqml(scan, view, options: Iterative, first) -> dict:
    """Run LSQML from a flat object and from another."""
    fit, stop = (Exposures.of(scan, view.of_role(role)) for role in (FIT, HOLDOUT))
    compact = view.metadata["overlap"]["between_exposures"]["linear"] < options.compact_below
    found = {}
    for name, start in (("flat", None), ("network", lambda box: placed(first, box))):
        begun = time.process_time()
        history = reconstruct(fit, stop, scan.probe, options, seed=0, compact=compact, start=start).history
        best = history["stop_deviance"].idxmin()
        per_epoch = (time.process_time() - begun) / len(history)
        least = history["stop_deviance"][best]
        found[name] = {"epochs": int(best) + 1, "cpu_s": per_epoch * (best + 1), "deviance": least}
        if name == "flat":
            aim = least
        else:
            there = np.flatnonzero(history["stop_deviance"] <= aim)
            found[name]["epochs_to_the_same"] = int(there[0]) + 1 if len(there) else None
            found[name]["cpu_s_to_the_same"] = per_epoch * (there[0] + 1) if len(there) else None
    return found


def tv(scan, view, options: TotalVariation, chosen: float, first) -> dict:
    """Run TV-MAP at a strength, down to it from a flat object and at once from another."""
    counts, apart = (Counts.of(scan, view.of_role(*roles)) for roles in ((FIT, STOP), (HOLDOUT,)))
    likelihood = Likelihood(counts, scan.probe)
    box = likelihood.origin_px, likelihood.shape
    judge = Likelihood(apart, scan.probe)
    (y, x), (height, width) = np.subtract(judge.origin_px, likelihood.origin_px), judge.shape
    inside = y >= 0 and x >= 0 and y + height <= box[1][0] and x + width <= box[1][1]

    def deviance(obj) -> float:
        return 2 * judge(np.ascontiguousarray(obj[y : y + height, x : x + width]))[0] / (len(apart) * judge.n**2)

    if not inside:
        raise SystemExit("a holdout exposure lies outside the box of those that are fitted")
    path = [strength for strength in strengths(options, likelihood.light()) if strength > 1.01 * chosen]
    flat = np.full(box[1], transmission_of(counts, scan.probe), np.complex64)
    rows, begun = [], time.process_time()
    obj = continuation(likelihood, flat, [*path, chosen], options, rows, label="flat")
    cpu_s, made = time.process_time() - begun, sum(row["iterations"] for row in rows)
    found = {"flat": {"iterations": made, "cpu_s": cpu_s, "objective": rows[-1]["objective"]}}
    found["flat"]["deviance"] = deviance(obj)
    begun, made, obj, soft = time.process_time(), 0, placed(first, box), softened(likelihood, 1)
    warm = found["network"] = {"iterations": None, "cpu_s": None, "deviance_of_start": deviance(obj)}
    alike = ("iterations_to_the_same", "cpu_s_to_the_same")
    warm |= dict.fromkeys(alike) if warm["deviance_of_start"] > found["flat"]["deviance"] else dict.fromkeys(alike, 0)
    while made < 40 * options.iterations:  # in turns of ten, until the objective is as low
        obj, objective, count = descend(soft, obj, chosen, 10)
        made, cpu_s = made + count, time.process_time() - begun
        warm |= {"objective": objective, "deviance": deviance(obj)}
        if warm[alike[0]] is None and warm["deviance"] <= found["flat"]["deviance"]:
            warm |= dict(zip(alike, (made, cpu_s), strict=True))
        if objective <= found["flat"]["objective"]:
            warm |= {"iterations": made, "cpu_s": cpu_s}
        if warm["iterations"] or not count:
            break
    return found


def run(options) -> dict:
    """Go through the conditions that have both the network's object and TV-MAP's."""
    config, rows = yaml.safe_load(options.config.read_text()), []
    iterative, prior = Iterative(**config["iterative"]), TotalVariation(**config["tv"])
    found = sorted(options.results.glob(f"dose_*/*/seed_*/test/{options.network}/object.npz"))
    for first in tqdm(found, unit="condition"):
        where, place = condition_of(first), first.parents[2]
        facts = {name: where[name] for name in ("view", "dose", "seed")}
        regularised = first.parents[1] / "tv/object.npz"
        if not regularised.exists() or any(getattr(options, name) not in (None, facts[name]) for name in facts):
            continue
        scan = open_scan(options.results / f"data/dose_{facts['dose']}/seed_{facts['seed']}/test.npz")
        view = open_view(place / "test.npz")
        for method, numbers in (
            ("lsqml", lsqml(scan, view, iterative, first)),
            ("tv", tv(scan, view, prior, load_object(regularised)[3]["strength"], first)),
        ):
            for start, values in numbers.items():
                rows += [
                    {**facts, "method": method, "start": start, "what": key, "value": values[key]} for key in values
                ]
    if not rows:
        raise SystemExit(f"{options.results}: no condition asked for has objects of {options.network} and of tv")
    keys = ["view", "dose", "method", "start", "what"]
    table = (
        pd.DataFrame(rows)
        .astype({"value": float})
        .groupby(keys, sort=False)["value"]
        .agg(["mean", "std", "count"])
        .astype(object)
    )
    settings = {key: str(value) for key, value in vars(options).items()}
    return {"settings": settings, "found": table.where(table.notna(), None).reset_index().to_dict("records")}


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a study's results")
    parser.add_argument(
        "--config", type=Path, default=Path("config/methods.yaml"), help="its config (config/methods.yaml)"
    )
    parser.add_argument("--dose", type=int, help="photons (all of the study)")
    parser.add_argument("--view", help="of the study (all)")
    parser.add_argument("--seed", type=int, help="of the study (all)")
    parser.add_argument("--network", default="unrolled", help="method whose object is the start (unrolled)")
    job.limit_threads(1)
    load_library()
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
