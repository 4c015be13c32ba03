"""Check a scan before it is studied: counts, detector, positions, probe, orientation, and what study it supports.

The exit code is 0 if nothing would ruin a study, 1 if something would, 2 if the file cannot be read. Beside the page
STEM.html stand STEM.png, STEM.txt, STEM.json (the verdict), STEM.yaml (a study that the scan supports) and, if pixels
should be masked or the flux jumps, STEM.npz with bad_pixels and exposure_scale.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("scan", type=Path, help="scan of the contract, such as ptycho convert writes")
    parser.add_argument("--output", type=Path, metavar="STEM", help="beginning of the files (default: <scan>_check)")


def run(options: argparse.Namespace) -> int:
    """Check, print the findings, and write the page."""
    from ptycho.reporting.check_files import check_file, mending_command, write_check
    from ptycho.reporting.check_page import verdict_text

    stem = options.output or Path(f"{options.scan.stem}_check")
    verdict, check = check_file(options.scan)
    written = write_check(stem, verdict, check)
    print(f"{verdict_text(verdict)}\nsaved {', '.join(str(path) for path in written)}")
    if check is not None and (command := mending_command(check, stem)):
        print(f"what is proposed is for this scan, not for the file that it was made of:\n{command}")
    return verdict.status
