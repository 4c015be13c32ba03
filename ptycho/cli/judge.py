"""Judge reconstructions of a scan without a truth, by how well they predict its counts.

The misfit is the deviance of the counts over its expected value for an exact prediction: 1 is perfect, at any dose.
OBJECT is an object.npz of a study, an NPZ with object (and probe, xcoords, ycoords, origin_px), or a ptychodus product
(HDF5); what a file lacks is taken from the scan. Exposures that a reconstruction was fitted to have a lower misfit than
others: choose some that it was not fitted to by --view or --exposures.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ptycho.data.scan import Scan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("scan", type=Path, help="scan that ptycho convert has written")
    parser.add_argument("objects", type=Path, nargs="+", metavar="OBJECT", help="file with an object")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--view",
        type=Path,
        metavar="FILE",
        help="judge the exposures that no method of a study has seen, those of this view",
    )
    chosen.add_argument("--exposures", metavar="LIST", help="judge these exposures alone, such as 5,17-30")
    parser.add_argument(
        "--half-frc",
        action="store_true",
        help="also fit both halves of the photons with each file's probe and positions: FRC between them",
    )
    parser.add_argument(
        "--follow-links", action="store_true", help="also read files in other folders that OBJECT links to"
    )
    parser.add_argument(
        "--output", type=Path, metavar="STEM", help="write STEM.txt, .png and .json (default: <scan>_judge)"
    )


def run(options: argparse.Namespace) -> int:
    """Judge, print the table, and write text, figure and numbers."""
    import json

    from ptycho.data.scan import open_scan
    from ptycho.formats.reconstructions import read_candidate
    from ptycho.inspection.judgment import judge
    from ptycho.reporting.figures import save
    from ptycho.reporting.misfit_figures import plot_judgments
    from ptycho.reporting.misfits import judged_of, judgment_text
    from ptycho.workflow.files import save_text

    scan = open_scan(options.scan)
    exposures, which = chosen_exposures(scan, options)
    candidates = (read_candidate(path, scan, options.follow_links) for path in options.objects)
    judgments = [judge(candidate, scan, exposures, with_halves=options.half_frc) for candidate in candidates]
    which = f"{judged_of(judgments, len(scan) if exposures is None else len(exposures))} {which}"
    text = judgment_text(judgments, f"{options.scan}: {which}")
    stem = options.output or Path(f"{options.scan.stem}_judge")
    save_text(Path(f"{stem}.txt"), text)
    save_text(Path(f"{stem}.json"), json.dumps([judgment.as_dict() for judgment in judgments], indent=2) + "\n")
    save(plot_judgments(judgments, f"{options.scan.name}: {which}"), Path(f"{stem}.png"))
    print(f"{text}\nsaved {stem}.txt, {stem}.png, {stem}.json")
    return 0


def chosen_exposures(scan: "Scan", options: argparse.Namespace) -> "tuple[NDArray[np.int64] | None, str]":
    """Return the exposures to judge, None for all, and what they are called.

    Raises
    ------
    ValueError
        If the list names no exposures of the scan, or the view is one of another scan.
    """
    from ptycho.data.selection import parse_exposures
    from ptycho.data.views import HOLDOUT, open_view

    if options.view:
        holdout = open_view(options.view, scan).of_role(HOLDOUT)
        return holdout, f"holdout exposures of {options.view}"
    if options.exposures:
        chosen = parse_exposures(options.exposures, len(scan))
        return chosen, "chosen exposures"
    return None, "exposures of the scan, whether fitted or not"
