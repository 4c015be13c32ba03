"""Small tools beside the workflow: `python -m ptycho convert`."""

import argparse
import logging
import sys
from pathlib import Path


def convert(options) -> None:
    """Bring a scan of an older layout to the contract."""
    from ptycho.formats import read_legacy
    from ptycho.scan import ScanWriter, open_scan

    arrays = read_legacy(options.source, options.quantity)
    frames = arrays.pop("diffraction")
    with ScanWriter(options.destination, len(frames), frames.shape[-1], **arrays) as scan:
        scan.write(frames)
    scan = open_scan(options.destination)
    print(
        f"{options.destination}: {len(scan)} exposures of {frames.shape[1:]}, {scan.metadata['dose']:.0f} photons each"
    )


def main(arguments=None) -> int:
    """Run a tool; 2 if something is wrong with what it was given."""
    parser = argparse.ArgumentParser(prog="python -m ptycho", description=__doc__)
    tools = parser.add_subparsers(required=True, metavar="tool")
    tool = tools.add_parser(
        "convert",
        help="bring an older scan to the contract (docs/conventions.md)",
        description="Read a scan under 'diffraction', 'diff3d' or 'intensity', in order (M, N, N) or (N, N, M), "
        "compressed or not, and write it as the contract says. Every step is said and kept in the file's metadata.",
    )
    tool.add_argument("source", type=Path, help="NPZ with frames, xcoords, ycoords and a probe")
    tool.add_argument("destination", type=Path, help="NPZ to write")
    tool.add_argument(
        "--quantity",
        default="auto",
        choices=("auto", "amplitude", "intensity"),
        help="what the frames hold (auto: integers above 1 are counts)",
    )
    tool.set_defaults(run=convert)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"ptycho: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
