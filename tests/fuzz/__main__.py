"""Run one damaged input with its traceback, or many; see the package's own description."""

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from tests.fuzz.entry_points import ENTRY_POINTS
from tests.fuzz.runner import CORPUS, Case, run


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=[*ENTRY_POINTS, "all"], metavar="ENTRY_POINT", help=", ".join(ENTRY_POINTS))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--number", type=int, help="run this input alone, in this process, without limits")
    parser.add_argument("--inputs", type=int, default=50, help="run so many (default: 50)")
    parser.add_argument("--keep", metavar="WHAT", help="keep the file of --number in the corpus: what is wrong with it")
    options = parser.parse_args()
    if options.number is not None:
        return run_one(options)
    for name in ENTRY_POINTS if options.name == "all" else [options.name]:
        failures = run(name, options.seed, range(options.inputs))
        print(f"{name}: {len(failures)} of {options.inputs} failed", flush=True)
        for failure in failures:
            print(f"  --number {failure.number}  {failure.how}\n      {failure.what}", flush=True)
    return 0


def run_one(options):
    """Print what one input does."""
    import tests.fuzz.worker  # noqa: F401 - threads are limited before TensorFlow is imported

    with tempfile.TemporaryDirectory() as folder:
        case = Case(options.name, ENTRY_POINTS[options.name], Path(folder))
        damaged = case.damage(options.seed, options.number)
        print(f"{damaged.path.name}: {damaged.how}")
        if options.keep:
            kept = CORPUS / options.name.replace(" ", "_") / options.keep / damaged.path.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(damaged.content)
        damaged.path.write_bytes(damaged.content)
        try:
            case.entry.read(case.folder)
        except Exception:
            traceback.print_exc()
        print(f"outcome: {case.outcome(damaged) or 'fine'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
