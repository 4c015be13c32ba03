"""Convert a scan in an NPZ of your own, or in an older layout, to the data contract (docs/reference/files.md).

Frames may be under 'diffraction', 'diff3d' or 'intensity', in order (M, N, N) or (N, N, M), compressed or not. Every
conversion is printed, and kept in the metadata of the new file.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("source", type=Path, help="NPZ with frames, xcoords, ycoords and a probe")
    parser.add_argument("destination", type=Path, help="NPZ to write")
    parser.add_argument(
        "--quantity",
        default="auto",
        choices=("auto", "amplitude", "intensity"),
        help="what the frames hold (auto: integers above 1 are counts)",
    )


def run(options: argparse.Namespace) -> int:
    """Convert the scan, and print what it holds."""
    from ptycho.data.scan import ScanWriter, open_scan
    from ptycho.formats.plain_npz import read_plain_npz
    from ptycho.workflow.provenance import make_record

    arrays = read_plain_npz(options.source, options.quantity)
    arrays["metadata"]["provenance"] = make_record(
        __name__,
        config={"quantity": options.quantity},
        seeds={},
        inputs=[options.source],
        outputs=[options.destination],
    )
    frames = arrays.pop("diffraction")
    with ScanWriter(options.destination, len(frames), frames.shape[-1], **arrays) as writer:
        writer.write(frames)
    scan = open_scan(options.destination)
    print(
        f"{options.destination}: {len(scan)} exposures of {frames.shape[1:]}, {scan.metadata['dose']:.0f} photons each"
    )
    return 0
