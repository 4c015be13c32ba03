"""What the jobs of a finished study cost: jobs, wall time, CPU time and peak memory of each rule, as Markdown.

The numbers are Snakemake's own (`benchmark:`), of every job by itself; jobs run side by side.

    python benchmarks/phases.py results/full
"""

import argparse
from pathlib import Path

import pandas as pd

PHASES = {"expose": "C", "view": "D", "train": "E", "infer": "inference", "merge": "inference", "compare": "G"} | {
    rule: "F" for rule in ("iterate", "regularise", "refine")
}


def table(results: Path) -> pd.DataFrame:
    """Add up what lies under `cost/`."""
    rows = [
        pd.read_csv(path, sep="\t").assign(rule=path.relative_to(results / "cost").parts[0].removesuffix(".tsv"))
        for path in sorted(results.glob("cost/**/*.tsv"))
    ]
    if not rows:
        raise SystemExit(f"{results}: no cost/**/*.tsv; wanted the results of a study that has run")
    jobs = pd.concat(rows)
    jobs = jobs.apply(lambda column: column if column.name == "rule" else pd.to_numeric(column, errors="coerce"))
    found = jobs.groupby("rule", sort=False).agg(
        jobs=("s", "size"), longest_s=("s", "max"), cpu_s=("cpu_time", "sum"), peak_mb=("max_rss", "max")
    )
    found.insert(0, "phase", [PHASES.get(rule, "C") for rule in found.index])
    return found.reset_index().sort_values(
        "phase", key=lambda phase: phase.map(["C", "D", "E", "inference", "F", "G"].index)
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a study's results")
    found = table(parser.parse_args().results)
    print("| phase | rule | jobs | longest job [s] | CPU of all [s] | largest job's peak memory [MB] |")
    print("|---|---|---|---|---|---|")
    for row in found.itertuples():
        print(f"| {row.phase} | {row.rule} | {row.jobs} | {row.longest_s:.0f} | {row.cpu_s:.0f} | {row.peak_mb:.0f} |")


if __name__ == "__main__":
    main()
