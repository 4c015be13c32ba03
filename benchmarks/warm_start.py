"""What a network's object as the start saves LSQML and TV-MAP: epochs, iterations and CPU time to the same deviance.

Takes the results of a study in which the network and `tv` have run. The deviance is that of the `holdout` exposures,
which no method has seen. LSQML starts from a flat object and from the network's; what counts is the first epoch that is
as good as the best of the flat start. TV-MAP goes down to its chosen strength from a flat object, and starts there at
once from the network's, until its objective is as low. Prints JSON.

    python benchmarks/warm_start.py results/methods --dose 10000 --view dense
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import yaml

from ptycho import log
from ptycho.grouping import FIT, HOLDOUT, STOP
from ptycho.iterative import Exposures, Iterative, reconstruct
from ptycho.likelihood import Counts, Likelihood
from ptycho.scan import open_scan
from ptycho.stitch import load_object
from ptycho.tv import TotalVariation, descend, strengths, transmission_of
from ptycho.views import open_view


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
    path = [strength for strength in strengths(options) if strength > 1.01 * chosen]
    flat = np.full(box[1], transmission_of(counts, scan.probe), np.complex64)
    begun, made, obj = time.process_time(), 0, flat
    for strength in [*path, chosen]:
        iterations = options.final_iterations if strength == chosen else options.iterations
        obj, objective, count = descend(likelihood, obj, strength, iterations)
        made += count
    found = {"flat": {"iterations": made, "cpu_s": time.process_time() - begun, "objective": objective}}
    found["flat"]["deviance"] = deviance(obj)
    begun, made, obj = time.process_time(), 0, placed(first, box)
    before = deviance(obj)
    while made < 40 * options.iterations:  # in turns of ten, until the objective is as low
        obj, objective, count = descend(likelihood, obj, chosen, 10)
        made += count
        if objective <= found["flat"]["objective"] or not count:
            break
    found["network"] = {"iterations": made, "cpu_s": time.process_time() - begun, "objective": objective}
    found["network"] |= {"deviance": deviance(obj), "deviance_of_start": before}
    return found


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a study's results")
    parser.add_argument(
        "--config", type=Path, default=Path("config/methods.yaml"), help="its config (config/methods.yaml)"
    )
    parser.add_argument("--dose", type=int, default=10_000, help="photons (10000)")
    parser.add_argument("--view", default="dense", help="of the study (dense)")
    parser.add_argument("--seed", type=int, default=0, help="of the study (0)")
    parser.add_argument("--network", default="unrolled", help="method whose object is the start (unrolled)")
    options = parser.parse_args()
    log.limit_threads(1)
    config = yaml.safe_load(options.config.read_text())
    place = options.results / f"dose_{options.dose}/{options.view}/seed_{options.seed}"
    scan = open_scan(options.results / f"data/dose_{options.dose}/seed_{options.seed}/test.npz")
    view, first = open_view(place / "test.npz"), place / f"test/{options.network}/object.npz"
    chosen = load_object(place / "test/tv/object.npz")[3]["strength"]
    found = {
        "lsqml": lsqml(scan, view, Iterative(**config["iterative"]), first),
        "tv": tv(scan, view, TotalVariation(**config["tv"]), chosen, first),
    }
    print(json.dumps({"dose": options.dose, "view": options.view, "start": options.network, **found}, indent=2))


if __name__ == "__main__":
    main()
