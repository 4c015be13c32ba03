"""What a refinement mends: TV-MAP with wrong positions or a wrong probe, with refined ones, and with exact ones.

Simulates the test split of the default study's scan (or that of another seed of the source) at one dose, tells wrong
positions and a wrong probe, refines them, and runs TV-MAP with what is exact, told and refined; and LSQML, which starts
from what is told and corrects it by itself. Prints one row of CSV a run:

position_rms_px, position_rms_affine_px
    What is left of the errors of positions, rms length: without their mean, and without an affine map of the scan.
probe_error
    1 - |⟨P, Q⟩| of the normalized probes, at the shift where it is least.
error, error_affine
    The study's error of the object, and that after the affine map of the positions was removed from it as well.
heldout_deviance
    Of the exposures that nothing was fitted to. Where positions are refined, theirs are found under the object.

    python benchmarks/refinement.py --flaws positions-2 defocus-30 --seeds 0 1 2 > refinement.csv
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conditions import usable_exposures
from detector import by_tv, compact_batching, make_scan
from numpy.typing import NDArray

from ptycho.data.flaws import Flaw, tell
from ptycho.data.object_files import Reconstruction, save_reconstruction
from ptycho.data.scan import Scan
from ptycho.data.views import FIT, HOLDOUT, VALIDATION, View, make_view
from ptycho.physics.probes import simulate_probe
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.location import locate, with_located
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, reconstruct
from ptycho.reconstruction.refinement import RefinementOptions, refine
from ptycho.scoring.evaluate import score_method
from ptycho.scoring.region import shared_region
from ptycho.workflow import job
from ptycho.workflow.config import CONFIG, load_config

KNOWLEDGE = ("exact", "told", "refined", "lsqml")
"""What TV-MAP knows; and LSQML with its own correction."""
SCORES = (
    "position_rms_px",
    "position_rms_affine_px",
    "probe_error",
    "error",
    "error_affine",
    "ssim_phase",
    "heldout_deviance",
    "cpu_s",
)
FLAWS = {
    "none": (Flaw(), ("positions", "probe")),
    "positions-0.5": (Flaw(positions_px=0.5), ("positions",)),
    "positions-2": (Flaw(positions_px=2), ("positions",)),
    "positions-5": (Flaw(positions_px=5), ("positions",)),
    "drift-2": (Flaw(drift_px=2), ("positions",)),
    "defocus-10": (Flaw(defocus=0.1), ("probe",)),
    "defocus-30": (Flaw(defocus=0.3), ("probe",)),
    "positions-2-defocus-30": (Flaw(positions_px=2, defocus=0.3), ("positions", "probe")),
}
"""Name -> what is told wrong, and what is therefore refined."""


def told(scan: Scan, flaw: Flaw, optics: dict[str, Any], seed: int) -> Scan:
    """Return the scan with what the methods are told; `optics` is the right probe as the config has it."""
    wrong = None
    if flaw.defocus:
        wrong = simulate_probe(**optics | {"defocus_px": optics["defocus_px"] * (1 + flaw.defocus)})[None]
    return tell(scan, flaw, np.random.default_rng([seed, 1010]), wrong).of(scan)


def with_shifts(scan: Scan, exposures: NDArray[np.int64], shifts: NDArray[np.float64]) -> Scan:
    """Return a scan with some exposures moved by (2, m) shifts."""
    moved = np.stack([scan.ycoords, scan.xcoords])
    moved[:, exposures] += shifts
    return replace(scan, ycoords=moved[0], xcoords=moved[1])


def by_lsqml(scan: Scan, view: View, config: dict[str, Any], seed: int, unknown: tuple[str, ...]) -> Reconstruction:
    """Reconstruct as the study's rule `lsqml` does where probe or positions are refined."""
    options = LSQMLOptions(**config["lsqml"])
    fit, validation, holdout = (view.of_role(role) for role in (FIT, VALIDATION, HOLDOUT))
    own = {f"refine_{name}": name in unknown for name in ("probe", "positions")}
    run = LSQMLRun(seed=seed, compact=compact_batching(view, options), **own)
    result = reconstruct(Exposures.of(scan, fit), Exposures.of(scan, validation), scan.probe, options, run)
    return with_located(result, Counts.of(scan, holdout), holdout, scan.probe, seed=seed)


class Case:
    """A scan, its view and region, and how reconstructions of it are scored."""

    def __init__(self, scan: Scan, view: View, folder: str):
        self.scan, self.view, self.path = scan, view, Path(folder, "object.npz")
        self.region, self.fitted = shared_region(scan, [view]), usable_exposures(view)

    def score(self, result: Reconstruction, known: Scan) -> dict[str, float]:
        """Score a reconstruction that was made with what is `known`."""
        save_reconstruction(self.path, result, method="tv")
        scores, _ = score_method(self.path, self.scan, self.view, self.region, known)
        return {name: scores[name] for name in SCORES}


def run_case(name: str, options: argparse.Namespace, seed: int, folder: str) -> list[dict[str, Any]]:
    """Reconstruct one scan with what is exact, told and refined."""
    config, (flaw, unknown) = load_config(CONFIG / "config.yaml"), FLAWS[name]
    config["source"] |= {"seed": options.source_seed, "object": {"kind": options.object}}
    scan = make_scan(Path(folder, "scan.npz"), config, argparse.Namespace(dose=options.dose, seed=seed), "perfect")
    rng = np.random.default_rng(seed)
    view = make_view(scan, config["views"][options.view], config["grouping"]["holdout_fraction"], rng)
    case, wrong = Case(scan, view, folder), told(scan, flaw, config["source"]["probe"], seed)
    labels = {"flaw": name, "dose": options.dose, "view": options.view, "seed": seed}
    rows = []
    if "lsqml" in options.knowledge:
        result = by_lsqml(wrong, view, config, seed, unknown)
        rows.append(labels | {"method": "lsqml", "knowledge": "own"} | case.score(result, wrong))
    clock = job.CpuClock()
    refinement = refine(Counts.of(wrong, case.fitted), wrong.probe, RefinementOptions(unknown=unknown), seed=seed)
    cost = clock.seconds
    print(refinement.history.to_string(), file=sys.stderr)
    parameters = refinement.parameters
    known = replace(with_shifts(wrong, case.fitted, parameters.shifts), probe=parameters.probe)
    for knowledge, told_scan in {"exact": scan, "told": wrong, "refined": known}.items():
        if knowledge not in options.knowledge:
            continue
        result = by_tv(told_scan, view, config, seed)
        if knowledge == "refined" and "positions" in unknown:
            holdout = view.of_role(HOLDOUT)
            shifts, _ = locate(Counts.of(told_scan, holdout), refinement, unknown, seed=seed)
            told_scan = with_shifts(told_scan, holdout, shifts)
        row = labels | {"method": "tv", "knowledge": knowledge} | case.score(result, told_scan)
        rows.append(row | {"refinement_cpu_s": cost if knowledge == "refined" else 0.0})
    return rows


def main() -> None:
    """Parse the command line, run, print CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--flaws", nargs="+", default=list(FLAWS), choices=FLAWS, help="default: all")
    add("--dose", type=int, default=10_000, help="incident photons per exposure (default: %(default)s)")
    add("--view", default="dense", help="overlap view of the default study (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0], help="seeds of noise and errors (default: %(default)s)")
    add("--source-seed", type=int, default=20, help="seed of object and scan (default: the study's, %(default)s)")
    add("--object", default="dead_leaves", help="kind of object (default: %(default)s)")
    add(
        "--knowledge", nargs="+", default=list(KNOWLEDGE), choices=KNOWLEDGE, help="of TV-MAP; and LSQML (default: all)"
    )
    options = parser.parse_args()
    job.limit_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for first, (name, seed) in enumerate(product(options.flaws, options.seeds)):
            rows = pd.DataFrame(run_case(name, options, seed, folder)).round(5)
            rows.to_csv(sys.stdout, index=False, header=not first)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
