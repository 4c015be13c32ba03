"""The unrolled network on an unseen kind of sample: trained on one object of a study, applied to another.

Takes the results of a study with several objects in which `unrolled`, `lsqml` and `tv` have run; conditions without
all three are skipped. Probe and positions are the same for all objects of a study, so only the sample is new to the
network. Prints JSON: for every view and dose, mean and standard deviation over seeds of the metrics, and of the paired
differences between that network and the study's methods.

    python benchmarks/unseen.py results/seeds --trained-on leaves --applied-to lines
"""

import argparse
import tempfile
from pathlib import Path

from conditions import Condition, print_json, selected_conditions, study_parser, summarize, usable_exposures

from ptycho.data.object_files import save_reconstruction
from ptycho.reconstruction.counts import Counts
from ptycho.workflow import job

METHODS = ("unrolled", "lsqml", "tv")


def transfer(source: Condition, target: Condition, path: Path) -> None:
    """Reconstruct the target's test view with the source's network and save the object."""
    from ptycho.model.inference import load_model

    scan, view = target.open()
    model = load_model(source.model_path("unrolled"))
    save_reconstruction(path, model.reconstruct(Counts.of(scan, usable_exposures(view)), scan.probe))


def run(options: argparse.Namespace) -> dict:
    """Score the networks of one object on another, beside the methods that have run on the latter."""
    job.limit_threads(1)
    trained, applied = (options.results / f"object_{name}" for name in (options.trained_on, options.applied_to))
    metrics, transferred = [], f"unrolled of {options.trained_on}"
    needed = [f"test/{method}/object.npz" for method in METHODS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "object.npz")
        for target in selected_conditions(options, applied, *needed):
            source = Condition(trained, target.labels)
            if source.model_path("unrolled").exists():
                transfer(source, target, path)
                metrics.append(target.score({transferred: path} | {name: target.object_path(name) for name in METHODS}))
    if not metrics:
        raise SystemExit(f"{trained}: no unrolled network for any selected condition of {applied}")
    return summarize(metrics, options, prefix=transferred)


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = study_parser(__doc__, config=False)
    parser.add_argument("--trained-on", default="leaves", help="object whose networks are used (default: %(default)s)")
    parser.add_argument(
        "--applied-to", default="lines", help="object whose test scans are reconstructed (default: %(default)s)"
    )
    print_json(run(parser.parse_args()))


if __name__ == "__main__":
    main()
