"""Export an object for other programs: float32 amplitude and phase (TIFF), ptychodus product (HDF5), CXI.

INPUT is an object.npz, a scan or a sample. The suffix of OUTPUT says the format: .tif, .h5 or .cxi.
"""

import argparse
from dataclasses import fields, replace
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("input", type=Path, help="NPZ with an object")
    parser.add_argument("output", type=Path, help="file to write: .tif, .h5 or .cxi")
    parser.add_argument("--scan", type=Path, metavar="NPZ", help="scan of the object: its positions, probe and lengths")
    parser.add_argument("--pixel-size", type=float, dest="pixel_size_m", metavar="M", help="pixel of the object [m]")
    energy = parser.add_mutually_exclusive_group()
    energy.add_argument("--energy", type=float, dest="energy_ev", metavar="EV", help="photon energy [eV]")
    energy.add_argument("--wavelength", type=float, dest="wavelength_m", metavar="M", help="wavelength [m]")
    parser.add_argument("--distance", type=float, dest="distance_m", metavar="M", help="from sample to detector [m]")


def run(options: argparse.Namespace) -> int:
    """Write the file, and print what is in it."""
    from ptycho.formats.exports import ExportOptions, export, read_exported
    from ptycho.workflow.provenance import make_record

    asked = {field.name: getattr(options, field.name) for field in fields(ExportOptions)}
    exported = read_exported(options.input, ExportOptions(**asked))
    inputs = [path for path in (options.input, options.scan) if path is not None]
    config = {key: str(value) if isinstance(value, Path) else value for key, value in asked.items()}
    record = make_record(__name__, config=config, seeds={}, inputs=inputs, outputs=[options.output])
    export(replace(exported, record=record), options.output)
    pixel = (
        "pixel of unknown size (--scan or --pixel-size gives it)"
        if exported.pixel_m is None
        else f"pixel of {exported.pixel_m * 1e9:.6g} nm"
    )
    rows, columns = exported.object.shape
    print(f"{options.output}: object of {rows} by {columns} px, {pixel}")
    return 0
