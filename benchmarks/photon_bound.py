"""Convergence and cost of the photon limit: the drawn error at several tolerances of the conjugate gradients.

Takes the results of a simulated study whose views exist. For every selected condition and tolerance it draws errors
with the same random numbers. Prints JSON: the relative error of each draw, ‖x‖ / ‖truth‖, and the CPU time of all.
Views are the same for all doses and seeds, so one of each is enough.

    python benchmarks/photon_bound.py results/default --doses 1000 --seeds 0
"""

import argparse

import numpy as np
from conditions import print_json, selected_conditions, study_parser

from ptycho.scoring.photon_bound import draw_errors
from ptycho.scoring.region import Region
from ptycho.workflow import job


def run(options: argparse.Namespace) -> list[dict]:
    """Draw errors of the selected conditions."""
    job.limit_threads(1)
    rows = []
    for condition in selected_conditions(options, options.results, "test.npz"):
        (scan, view), region = condition.open(), Region.load(options.results / "region/test.json")
        for tolerance in options.tolerances:
            rngs, clock = map(np.random.default_rng, range(options.draws)), job.CpuClock()
            errors, tile = draw_errors(scan, view, region, rngs, tolerance)
            size = np.linalg.norm(scan.object[tile.box])
            cost = {"tolerance": tolerance, "cpu_s": round(clock.seconds, 1)}
            errors = [round(float(np.linalg.norm(error) / size), 4) for error in errors]
            rows.append({**condition.labels, **cost, "error": errors})
    return rows


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = study_parser(__doc__, config=False)
    parser.add_argument("--draws", type=int, default=4, help="errors to draw (default: 4)")
    parser.add_argument("--tolerances", type=float, nargs="+", default=[1e-2, 1e-3, 1e-4, 1e-5])
    print_json(run(parser.parse_args()))


if __name__ == "__main__":
    main()
