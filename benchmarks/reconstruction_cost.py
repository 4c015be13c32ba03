"""What an unrolled network's reconstruction costs beside TV-MAP's, in one process, in turns, with one thread.

Takes the results of a study in which `unrolled` has run. For every condition its network reconstructs the test view's
FIT and STOP exposures, whole, before and after TV-MAP does, the choice of its prior's strength included. Prints JSON:
CPU-seconds of either and how often the likelihood and its gradient were evaluated, and the ratios of the former.

    python benchmarks/reconstruction_cost.py results/methods
"""

import argparse
import json
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import yaml
from tqdm import tqdm

from ptycho.data.grouping import FIT, STOP
from ptycho.data.scan import open_scan
from ptycho.data.views import open_view
from ptycho.reconstruction.likelihood import Counts, Likelihood
from ptycho.reconstruction.tv import TotalVariation, reconstruct
from ptycho.workflow import job
from ptycho.workflow.paths import condition_of


@contextmanager
def counted():
    """Count evaluations of likelihoods: a list that grows by one with each."""
    made, evaluate = [], Likelihood._evaluate
    Likelihood._evaluate = lambda likelihood, obj: made.append(1) or evaluate(likelihood, obj)
    try:
        yield made
    finally:
        Likelihood._evaluate = evaluate


def cost_of(work) -> tuple[float, int]:
    """Do some work; return its CPU-seconds and evaluations."""
    with counted() as made:
        clock = job.CpuClock()
        work()
        return round(clock.seconds, 2), len(made)


def run(options) -> dict:
    """Reconstruct every condition."""
    from ptycho.model.inference import load_network
    from ptycho.model.unrolled import apply_unrolled

    prior, rows = TotalVariation(**yaml.safe_load(options.config.read_text())["tv"]), []
    models = sorted(options.results.glob("dose_*/*/seed_*/unrolled/model.keras"))
    if not models:
        raise SystemExit(f"{options.results}: no dose_*/*/seed_*/unrolled/model.keras; wanted results of one object")
    for model in tqdm(models, unit="condition"):
        where, place = condition_of(model), model.parents[1]
        scan = open_scan(options.results / f"data/dose_{where['dose']}/seed_{where['seed']}/test.npz")
        counts = Counts.of(scan, open_view(place / "test.npz").of_role(FIT, STOP))
        network, seed = load_network(model), where["seed"]

        def few(network=network, counts=counts, probe=scan.probe):
            apply_unrolled(network, counts, probe)

        def many(counts=counts, probe=scan.probe, seed=seed):
            reconstruct(counts, probe, prior, seed=seed)

        (first, made), (tv, tv_made), (second, _) = (cost_of(work) for work in (few, many, few))
        found = {"unrolled": [first, second], "tv": tv, "ratio": round((first + second) / 2 / tv, 4)}
        evaluations = {"unrolled": made, "tv": tv_made}
        rows.append({**where, **found, "evaluations": evaluations, "steps": network.get_layer("steps").numbers})
    ratios = pd.DataFrame(rows).groupby(["view", "dose"])["ratio"].mean().round(4)
    return {"found": rows, "mean ratio": {f"{view} {dose}": ratio for (view, dose), ratio in ratios.items()}}


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a study's results: results/methods")
    parser.add_argument(
        "--config", type=Path, default=Path("config/methods.yaml"), help="its config (config/methods.yaml)"
    )
    job.limit_threads(1)
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
