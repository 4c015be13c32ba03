"""Convert a scan of another program, or an NPZ of your own, to the data contract (docs/reference/files.md).

The format is recognized by the content; docs/reference/formats.md has the list. Every convention that is applied is
printed, and kept in the metadata of the new file. A file that leaves one open is refused, with the options that settle
it.
"""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

UNITS = {"m": "m", "um": "um", "µm": "um", "μm": "um", "nm": "nm", "px": "px"}  # noqa: RUF001 - micro and mu
"""Unit of positions as it is typed -> as it is called."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.usage = "ptycho convert INPUT [INPUT ...] OUTPUT [options]"
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="the files of one scan, and the NPZ to write"
    )
    _add_file_options(parser.add_argument_group("files"))
    _add_frame_options(parser.add_argument_group("frames"))
    _add_detector_options(parser.add_argument_group("detector"))
    _add_position_options(parser.add_argument_group("positions and lengths"))


def _add_file_options(group: Any) -> None:
    group.add_argument("--format", metavar="NAME", help="take the files for this format")
    group.add_argument("--variant", metavar="NAME", help="which of its format's conventions a file follows")
    group.add_argument(
        "--follow-links", action="store_true", help="also read files in other folders that inputs link to"
    )
    group.add_argument("--probe", type=Path, metavar="FILE", help="take the probe of this file")
    group.add_argument(
        "--estimate-probe",
        type=float,
        metavar="DEFOCUS",
        help="make the probe of the mean pattern, DEFOCUS m from the focus",
    )
    group.add_argument("--without-object", action="store_true", help="start from an object of ones")
    group.add_argument("--leave-out", metavar="LIST", help="exposures to leave out, counted from 0: 5,17-30")


def _add_frame_options(group: Any) -> None:
    group.add_argument("--quantity", choices=("counts", "amplitude"), help="what the frames hold")
    group.add_argument(
        "--photons-per-unit",
        type=float,
        metavar="G",
        help="multiply counts by G, round them to whole photons, say the loss",
    )
    order = group.add_mutually_exclusive_group()
    order.add_argument("--frames-last", action="store_true", default=None, help="frames are (N, N, M)")
    order.add_argument(
        "--frames-first", action="store_false", dest="frames_last", default=None, help="frames are (M, N, N)"
    )
    group.add_argument("--transpose", action="store_true", help="exchange rows and columns of the frames, before flips")
    group.add_argument("--flip-x", action="store_true", help="reverse the columns of the frames")
    group.add_argument("--flip-y", action="store_true", help="reverse the rows of the frames")
    group.add_argument(
        "--zero-frequency", type=_center_or_corner, metavar="{center,corner}", help="where it is in the frames"
    )
    group.add_argument("--crop", type=int, metavar="N", help="keep N × N px around the zero frequency")
    group.add_argument("--center", type=_pair, metavar="ROW,COLUMN", help="the zero frequency's pixel, for --crop")
    group.add_argument("--bin", type=int, default=1, metavar="B", help="then add the counts of B × B px")
    group.add_argument("--pad", type=int, metavar="N", help="then pad to N × N px, with bad pixels")


def _add_detector_options(group: Any) -> None:
    group.add_argument("--mask", type=Path, metavar="FILE", help="mask of the frames as they are in the file")
    group.add_argument("--mask-marks", choices=("bad", "good"), help="what nonzero pixels of a mask are")
    group.add_argument("--mask-saturated", action="store_true", help="mask pixels that reach the detector's maximum")
    group.add_argument("--background", metavar="FILE", help="mean counts per exposure: a file, or a number")
    group.add_argument(
        "--exposure-scale",
        metavar="FILE",
        help="flux of every exposure: a file, or 'frames' (by counts)",
    )
    group.add_argument("--background-subtracted", action="store_true", help="the frames lack it: add it to them")


def _add_position_options(group: Any) -> None:
    group.add_argument("--position-unit", type=_unit, metavar="{m,um,nm,px}", help="unit of the positions")
    group.add_argument("--position-columns", choices=("xy", "yx"), help="columns of a table without a header")
    group.add_argument("--position-index", metavar="LIST", help="the positions of the frames, in order: 0-99,105")
    group.add_argument("--swap-positions", action="store_true", help="exchange x and y, before signs")
    group.add_argument("--negate-positions", action="store_true", help="change the sign of x and y")
    group.add_argument("--negate-x", action="store_true", help="change the sign of x alone")
    group.add_argument("--negate-y", action="store_true", help="change the sign of y alone")
    energy = group.add_mutually_exclusive_group()
    energy.add_argument("--energy", type=float, dest="energy_ev", metavar="EV", help="photon energy [eV]")
    energy.add_argument("--wavelength", type=float, dest="wavelength_m", metavar="M", help="wavelength [m]")
    group.add_argument("--distance", type=float, dest="distance_m", metavar="M", help="from sample to detector [m]")
    group.add_argument(
        "--detector-pixel", type=float, dest="detector_pixel_m", metavar="M", help="pixel of the detector [m]"
    )
    group.add_argument(
        "--pixel-size",
        type=float,
        dest="pixel_size_m",
        metavar="M",
        help="pixel of the object, frames as in the file [m]",
    )


def _unit(text: str) -> str:
    if text not in UNITS:
        raise argparse.ArgumentTypeError(f"{text}; wanted m, um, nm or px")
    return UNITS[text]


def _center_or_corner(text: str) -> str:
    """Either spelling of the first is fine."""
    if text != "corner" and not text.startswith("cent"):
        raise argparse.ArgumentTypeError(f"{text}; wanted center or corner")
    return "corner" if text == "corner" else "center"


def _pair(text: str) -> tuple[int, int]:
    row, comma, column = text.partition(",")
    if not comma or not row.strip().isdigit() or not column.strip().isdigit():
        raise argparse.ArgumentTypeError(f"{text}; wanted ROW,COLUMN")
    return int(row), int(column)


def run(options: argparse.Namespace) -> int:
    """Convert the scan, and print what it holds."""
    from ptycho.formats.conversion import convert
    from ptycho.formats.options import ConversionOptions
    from ptycho.workflow.provenance import make_record

    if len(options.files) < 2:
        raise ValueError(f"{options.files[0]}: one file; wanted one or more to read, and then the NPZ to write")
    *inputs, destination = options.files
    names = {field.name for field in fields(ConversionOptions)}
    asked = {key: value for key, value in vars(options).items() if key in names}
    if options.negate_positions:
        asked |= {"negate_x": not asked["negate_x"], "negate_y": not asked["negate_y"]}
    config = {key: str(value) if isinstance(value, Path) else value for key, value in asked.items()}
    read = [*inputs, *(path for path in (options.probe, options.mask) if path is not None)]

    def record() -> dict[str, Any]:
        return make_record(__name__, config=config, seeds={}, inputs=read, outputs=[destination])

    scan = convert(inputs, destination, ConversionOptions(**asked), record)
    n, photons = scan.n_pixels, scan.metadata["dose"]
    masked = "" if scan.detector.bad_pixels is None else ", those on bad pixels included"
    print(f"{destination}: {len(scan)} exposures of {n} × {n} px, a probe of {photons:.0f} photons{masked}")
    return 0
