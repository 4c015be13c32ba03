"""Convert a measured scan to the NPZ that all other commands read: CXI, HDF5, MATLAB 7.3, TIFF, or an NPZ of your own.

    ptycho convert sample.cxi scan.npz
    ptycho convert frames.tif positions.csv scan.npz --probe probe.npy --energy 8000 --distance 2 --detector-pixel 75e-6

Start without options. The format is recognized by the content; docs/reference/formats.md has the list. What is done is
printed line by line, and kept in the metadata of the new file. Where a file does not say what its numbers mean, it is
refused, and the message names the options that say it. Then run ptycho check.
"""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

UNITS = {"m": "m", "mm": "mm", "um": "um", "µm": "um", "μm": "um", "nm": "nm", "px": "px"}  # noqa: RUF001 - micro and mu
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
    group.add_argument("--format", metavar="NAME", help="read the files as this format")
    group.add_argument(
        "--variant", metavar="NAME", help="the convention that the file follows, where its format has several"
    )
    group.add_argument(
        "--follow-links", action="store_true", help="also read files in other folders that HDF5 files link to"
    )
    group.add_argument(
        "--probe", type=Path, metavar="FILE", help="take the probe from this file: NPY, NPZ, HDF5, .ptyr"
    )
    group.add_argument(
        "--estimate-probe",
        type=float,
        metavar="DEFOCUS",
        help="make a probe from the mean pattern, DEFOCUS meters from the focus (0: in focus)",
    )
    group.add_argument("--without-object", action="store_true", help="do not take over the object of the file")
    group.add_argument("--leave-out", metavar="LIST", help="exposures to leave out, counted from 0: 5,17-30")


def _add_frame_options(group: Any) -> None:
    group.add_argument("--quantity", choices=("counts", "amplitude"), help="frames hold counts, or their square roots")
    group.add_argument(
        "--photons-per-unit",
        type=float,
        metavar="G",
        help="photons per unit of the detector (ADU): counts are multiplied and rounded to whole photons",
    )
    order = group.add_mutually_exclusive_group()
    order.add_argument(
        "--frames-last", action="store_true", default=None, help="frames are (N, N, M): exposures on the last axis"
    )
    order.add_argument(
        "--frames-first",
        action="store_false",
        dest="frames_last",
        default=None,
        help="frames are (M, N, N): exposures on the first axis",
    )
    group.add_argument("--transpose", action="store_true", help="exchange rows and columns of the frames, before flips")
    group.add_argument("--flip-x", action="store_true", help="mirror the frames left to right")
    group.add_argument("--flip-y", action="store_true", help="mirror the frames top to bottom")
    group.add_argument(
        "--zero-frequency",
        type=_center_or_corner,
        metavar="{center,corner}",
        help="where the frames have the direct beam",
    )
    group.add_argument("--crop", type=int, metavar="N", help="keep N × N pixels around the direct beam")
    group.add_argument(
        "--center",
        type=_pair,
        metavar="ROW,COLUMN",
        help="the pixel of the direct beam, for --crop (default: the middle)",
    )
    group.add_argument("--bin", type=int, default=1, metavar="B", help="then add up B × B pixels")
    group.add_argument("--pad", type=int, metavar="N", help="then pad to N × N pixels; what is added is masked")


def _add_detector_options(group: Any) -> None:
    group.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="mask of the frames as they are in the file: NPY, NPZ, HDF5, TIFF, PNG",
    )
    group.add_argument(
        "--mask-marks",
        choices=("bad", "good"),
        help="what the mask marks by numbers other than 0 (default: bad pixels)",
    )
    group.add_argument(
        "--mask-saturated",
        action="store_true",
        help="mask pixels that reach the maximum of the detector in some exposure",
    )
    group.add_argument(
        "--background",
        metavar="FILE",
        help="mean background counts of every pixel in an exposure: a file, or one number",
    )
    group.add_argument(
        "--exposure-scale",
        metavar="FILE",
        help="flux of every exposure: a file (an ion chamber's), or 'frames' (from their counts)",
    )
    group.add_argument(
        "--background-subtracted",
        action="store_true",
        help="the background was subtracted from the frames: add it again",
    )


def _add_position_options(group: Any) -> None:
    group.add_argument("--position-unit", type=_unit, metavar="{m,mm,um,nm,px}", help="unit of the positions")
    group.add_argument(
        "--position-columns", choices=("xy", "yx"), help="columns of a table of positions without a header"
    )
    group.add_argument(
        "--position-index", metavar="LIST", help="which position each frame has, in order, counted from 0: 0-99,105"
    )
    group.add_argument("--swap-positions", action="store_true", help="exchange x and y, before signs")
    group.add_argument("--negate-positions", action="store_true", help="change the sign of x and y")
    group.add_argument("--negate-x", action="store_true", help="change the sign of x alone")
    group.add_argument("--negate-y", action="store_true", help="change the sign of y alone")
    energy = group.add_mutually_exclusive_group()
    energy.add_argument("--energy", type=float, dest="energy_ev", metavar="EV", help="photon energy [eV]")
    energy.add_argument("--wavelength", type=float, dest="wavelength_m", metavar="M", help="wavelength [m]")
    group.add_argument(
        "--distance", type=float, dest="distance_m", metavar="M", help="from the sample to the detector [m]"
    )
    group.add_argument(
        "--detector-pixel", type=float, dest="detector_pixel_m", metavar="M", help="side of a detector pixel [m]"
    )
    group.add_argument(
        "--pixel-size",
        type=float,
        dest="pixel_size_m",
        metavar="M",
        help="side of an object pixel for the file's frames, in place of energy and distance [m]",
    )


def _unit(text: str) -> str:
    if text not in UNITS:
        raise argparse.ArgumentTypeError(f"{text}; wanted m, mm, um, nm or px")
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
