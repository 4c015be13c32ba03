"""CPU time of the unrolled network's reconstruction against TV-MAP's, in turns in one process with one thread.

Takes the results of a study in which `unrolled` has run. For every condition the network reconstructs the usable
exposures of the test view on one canvas, once before and once after TV-MAP does, the choice of its TV weight included.
Prints JSON: CPU time of each, how often the full likelihood and its gradient were evaluated (mini-batches are not
counted), and the ratio of the CPU times.

    python benchmarks/reconstruction_cost.py results/methods
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
from conditions import load_study_config, print_json, selected_conditions, study_parser, usable_exposures

from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import choose_device
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.tv import TVOptions, reconstruct
from ptycho.workflow import job


@contextmanager
def counted_evaluations() -> Iterator[list[tuple[int, int]]]:
    """Give a list that grows by one canvas shape with every evaluation of a likelihood."""
    shapes: list[tuple[int, int]] = []
    evaluate = Likelihood.evaluate

    def evaluate_and_count(likelihood, obj):
        shapes.append(likelihood.shape)
        return evaluate(likelihood, obj)

    Likelihood.evaluate = evaluate_and_count
    try:
        yield shapes
    finally:
        Likelihood.evaluate = evaluate


def cost_of(task: Callable[[], object]) -> tuple[float, int]:
    """Run a task; return its CPU time [s] and the number of likelihood evaluations."""
    with counted_evaluations() as evaluations:
        clock = job.CpuClock()
        task()
        return round(clock.seconds, 2), len(evaluations)


def run(options: argparse.Namespace) -> dict:
    """Reconstruct the selected conditions."""
    job.limit_threads(1)
    from ptycho.model.inference import load_model

    prior, rows = TVOptions(**load_study_config(options)["tv"]), []
    choose_device(prior.device, prior.device_memory)  # what starts here would count for the first reconstruction
    for condition in selected_conditions(options, options.results, "unrolled/model.keras"):
        scan, view = condition.open()
        counts, model = Counts.of(scan, usable_exposures(view)), load_model(condition.model_path("unrolled"))

        def unrolled(model=model, counts=counts, probe=scan.probe):
            model.reconstruct(counts, probe)

        def tv(counts=counts, probe=scan.probe, seed=condition.labels["seed"]):
            reconstruct(counts, probe, prior, seed=seed)

        (before_s, n_unrolled), (tv_s, n_tv), (after_s, _) = (cost_of(task) for task in (unrolled, tv, unrolled))
        cost = {
            "cpu_s": {"unrolled": [before_s, after_s], "tv": tv_s},
            "ratio": round((before_s + after_s) / 2 / tv_s, 4),
            "evaluations": {"unrolled": n_unrolled, "tv": n_tv},
        }
        rows.append({**condition.labels, **cost, "schedule": model.schedule.as_dict()})
    ratios = pd.DataFrame(rows).groupby(["view", "dose"])["ratio"].mean().round(4)
    return {"conditions": rows, "mean_ratio": {f"{view} {dose}": ratio for (view, dose), ratio in ratios.items()}}


def main() -> None:
    """Parse the command line, run, print JSON."""
    print_json(run(study_parser(__doc__).parse_args()))


if __name__ == "__main__":
    main()
