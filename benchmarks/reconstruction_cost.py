"""What an unrolled network's reconstruction costs beside TV-MAP's, in one process, in turns, with one thread.

Takes the results of a study in which `unrolled` has run. For every condition its network reconstructs the test view's
FIT and STOP exposures before and after TV-MAP does, the choice of its prior's strength included, as the rules do.
Prints JSON: CPU-seconds and likelihoods evaluated (a gradient each) of either, and the ratios of the former.

    python benchmarks/reconstruction_cost.py results/methods
"""

import argparse
import json
from pathlib import Path

import numpy as np
import yaml
from tqdm import tqdm

from ptycho import log
from ptycho.compare import condition_of
from ptycho.grouping import FIT, STOP
from ptycho.likelihood import Counts, Likelihood
from ptycho.scan import open_scan
from ptycho.tv import TotalVariation, reconstruct
from ptycho.views import open_view


class Evaluations:
    """Counts how often a likelihood is computed."""

    def __init__(self):
        self.made, self._evaluate = 0, Likelihood._evaluate
        Likelihood._evaluate = lambda likelihood, obj: self._counted(likelihood, obj)

    def _counted(self, likelihood, obj):
        self.made += 1
        return self._evaluate(likelihood, obj)

    def of(self, work):
        """Do some work; return its CPU-seconds and evaluations."""
        clock, before = log.CpuClock(), self.made
        work()
        return round(clock.seconds, 2), self.made - before


def run(options) -> dict:
    """Reconstruct every condition that was asked for."""
    from ptycho.model.inference import load_network
    from ptycho.model.unrolled import apply_unrolled

    prior, rows = TotalVariation(**yaml.safe_load(options.config.read_text())["tv"]), []
    evaluations = Evaluations()
    for model in tqdm(sorted(options.results.glob("dose_*/*/seed_*/unrolled/model.keras")), unit="condition"):
        where, place = condition_of(model), model.parents[1]
        scan = open_scan(options.results / f"data/dose_{where['dose']}/seed_{where['seed']}/test.npz")
        counts = Counts.of(scan, open_view(place / "test.npz").of_role(FIT, STOP))
        network, seed = load_network(model), where["seed"]

        def few(network=network, counts=counts, probe=scan.probe):
            apply_unrolled(network, counts, probe)

        def many(counts=counts, probe=scan.probe, seed=seed):
            reconstruct(counts, probe, prior, seed=seed)

        (first, made), (tv, tv_made), (second, _) = (evaluations.of(work) for work in (few, many, few))
        found = {"unrolled": [first, second], "tv": tv, "ratio": round((first + second) / 2 / tv, 4)}
        rows.append({**where, **found, "evaluations": {"unrolled": made, "tv": tv_made}})
    mean = {}
    for row in rows:
        mean.setdefault(f"{row['view']} {row['dose']}", []).append(row["ratio"])
    return {"found": rows, "mean ratio": {key: round(float(np.mean(values)), 4) for key, values in mean.items()}}


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a study's results: results/methods")
    parser.add_argument(
        "--config", type=Path, default=Path("config/methods.yaml"), help="its config (config/methods.yaml)"
    )
    log.limit_threads(1)
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
