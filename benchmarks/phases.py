"""Cost of the jobs of a finished study: number, wall time, CPU time and peak memory by rule, as a Markdown table.

The numbers are what each job measured of itself, start-up included; jobs run side by side.

    python benchmarks/phases.py results/full
"""

import argparse
from pathlib import Path

import pandas as pd

from ptycho.reporting.study_tables import read_cost

PHASES = {
    "C": ("reference", "simulate_scan"),
    "D": ("view",),
    "E": ("train",),
    "inference": ("infer", "merge"),
    "F": (
        *("lsqml", "tv", "tv_start", "tv_chunk", "merge_tv", "refined"),
        *("lsqml_half", "tv_half", "tv_start_half", "tv_chunk_half", "merge_tv_half"),
    ),
    "G": ("compare",),
}
"""Phases in their order, and the folders under `cost` that belong to each."""


def cost_table(results: Path) -> pd.DataFrame:
    """Aggregate the files under `cost`, one row per rule.

    Raises
    ------
    SystemExit
        If there are none.
    """
    rows = [
        {"rule": path.relative_to(results / "cost").with_suffix("").parts[0], **read_cost(path)}
        for path in sorted(results.glob("cost/**/*.tsv"))
    ]
    if not rows:
        raise SystemExit(f"{results}: no cost/**/*.tsv; wanted the results of a study that has run")
    costs = (
        pd.DataFrame(rows)
        .groupby("rule", sort=False)
        .agg(jobs=("s", "size"), longest_s=("s", "max"), cpu_s=("cpu_time", "sum"), peak_mb=("max_rss", "max"))
    )
    phase_of = {rule: phase for phase, rules in PHASES.items() for rule in rules}
    costs.insert(0, "phase", [phase_of.get(rule, "") for rule in costs.index])
    order = [*PHASES, ""]
    return costs.reset_index().sort_values("phase", key=lambda phase: phase.map(order.index), kind="stable")


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the study's results, such as results/full")
    costs = cost_table(parser.parse_args().results)
    print("| phase | rule | jobs | longest job [s] | CPU time of all jobs [s] | peak memory of the largest job [MB] |")
    print("|---|---|---|---|---|---|")
    for row in costs.itertuples():
        print(f"| {row.phase} | {row.rule} | {row.jobs} | {row.longest_s:.0f} | {row.cpu_s:.0f} | {row.peak_mb:.0f} |")


if __name__ == "__main__":
    main()
