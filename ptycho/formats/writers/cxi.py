"""An object as CXI: an image in real space, with illumination and translations where they are known."""

import json
from pathlib import Path

import h5py
import numpy as np

from ptycho.formats.exports import Exported
from ptycho.formats.raw import JOULE_PER_EV

VERSION = 160


def write(exported: Exported, path: Path) -> None:
    """Write the complex object as `entry_1/image_1`; `source_1` and `translation` [m] of the sample if they are known.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the pixel is not known.
    """
    exported.require("pixel_m")
    pixel, (rows, columns) = exported.pixel_size_m, exported.object.shape
    top, left = exported.origin_px
    with h5py.File(path, "w") as file:
        file["cxi_version"], file["number_of_entries"] = VERSION, 1
        file["entry_1/title"] = Path(exported.name).stem
        file["entry_1/process_1/note"] = json.dumps({"provenance": exported.record})
        image = file.create_group("entry_1/image_1")
        image["data"] = exported.object
        image["data_space"], image["data_type"], image["is_fft_shifted"] = "real", "transmittance", 0
        image["image_size"] = np.array([columns * pixel, rows * pixel, 0.0])
        image["image_center"] = np.array([(left + (columns - 1) / 2) * pixel, (top + (rows - 1) / 2) * pixel, 0.0])
        if exported.wavelength_m is not None:
            file["entry_1/instrument_1/source_1/energy"] = exported.energy_ev * JOULE_PER_EV
            file["entry_1/instrument_1/source_1/wavelength"] = exported.wavelength_m
        if exported.distance_m is not None:
            file["entry_1/instrument_1/detector_1/distance"] = exported.distance_m
        if exported.probe is not None:
            file["entry_1/instrument_1/source_1/illumination"] = exported.probe
        if exported.positions is not None:
            # The sample moves against the beam; x to the left and y up, looking downstream, turn the signs once more.
            file["entry_1/sample_1/geometry_1/translation"] = np.pad(exported.positions * pixel, ((0, 0), (0, 1)))
            file["entry_1/data_1/translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
