"""An object as a product of ptychodus, version 1.7 and later: HDF5 with probe, object and positions in meters."""

import json
from pathlib import Path

import h5py
import numpy as np

from ptycho.formats.exports import Exported

MIDDLE_PX = 0.5
"""From a window's middle, (N - 1)/2, which ptychodus' positions are, to its pixel N/2, which ours are."""


def write(exported: Exported, path: Path) -> None:
    """Write a product.

    The center of the object is its pixel (size - 1)/2; a position is the middle of its window.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If pixel, wavelength, probe or positions are not known.
    """
    exported.require("pixel_m", "wavelength_m", "probe", "positions")
    assert exported.probe is not None
    assert exported.positions is not None
    pixel = exported.pixel_size_m
    meters = (exported.positions - MIDDLE_PX) * pixel
    rows, columns = exported.object.shape
    top, left = exported.origin_px
    pixels = {"pixel_height_m": pixel, "pixel_width_m": pixel}
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {
                "name": Path(exported.name).stem,
                "comments": json.dumps({"provenance": exported.record}),
                "detector_object_distance_m": exported.distance_m or 0.0,
                "photon_energy_eV": exported.energy_ev,
                "probe_photon_count": float(np.sum(np.abs(exported.probe) ** 2, dtype=np.float64)),
                "exposure_time_s": 0.0,
                "mass_attenuation_m2_per_kg": 0.0,
                "tomography_angle_deg": 0.0,
            }
        )
        file.create_dataset("probe", data=exported.probe[None]).attrs.update(pixels)
        center = {"center_x_m": (left + (columns - 1) / 2) * pixel, "center_y_m": (top + (rows - 1) / 2) * pixel}
        file.create_dataset("object", data=exported.object[None]).attrs.update(pixels | center)
        file["object_layer_spacing_m"] = np.zeros(0)
        file["probe_position_indexes"] = np.arange(len(meters))
        file["probe_position_x_m"], file["probe_position_y_m"] = meters[:, 0], meters[:, 1]
        file["loss_epochs"], file["loss_values"] = np.zeros(0, np.int64), np.zeros(0)
