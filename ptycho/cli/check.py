"""Check a scan before it is reconstructed: counts, detector, positions, probe, which way round, what study it supports.

    ptycho check scan.npz

Each line of the result names what was found and, if it would ruin a reconstruction, the option of ptycho convert that
mends it. Exit code: 0 if nothing would ruin a study, 1 if something would, 2 if the file cannot be read or something is
in the way of the output; then nothing is written. Look at STEM.html; STEM.png has its figure, STEM.txt its lines,
STEM.json the same for programs, STEM.yaml a study that the scan supports and, if pixels should be masked or the flux
jumps, STEM.npz a mask and the flux of every exposure. Files of an earlier check are replaced, unless they were edited.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("scan", type=Path, help="scan that ptycho convert has written")
    parser.add_argument(
        "--output", type=Path, metavar="STEM", help="beginning of the names of all files (default: <scan>_check)"
    )


def run(options: argparse.Namespace) -> int:
    """Check, print the findings, and write the page."""
    from ptycho.reporting.check_files import check_file, mending_command, require_own, write_check
    from ptycho.reporting.check_page import verdict_text
    from ptycho.workflow.files import ContractError

    stem = options.output or Path(f"{options.scan.stem}_check")
    require_own(stem, options.scan)
    verdict, check = check_file(options.scan)
    if check is None:
        raise ContractError(verdict.findings[0].line)
    require_own(stem, options.scan)  # again: a check takes a while
    written = write_check(stem, verdict, check)
    print(f"{verdict_text(verdict)}\nsaved {', '.join(str(path) for path in written)}")
    if command := mending_command(check, stem):
        print(f"what is proposed is for this scan, not for the file that it was made of:\n{command}")
    return verdict.status
