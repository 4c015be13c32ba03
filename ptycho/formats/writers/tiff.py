"""An object as TIFF: two pages of float32, amplitude and phase, with the size of a pixel."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ptycho.formats.exports import Exported

PAGES = ("amplitude", "phase [rad]")
CENTIMETERS_PER_METER = 100.0


def write(exported: Exported, path: Path) -> None:
    """Write amplitude and phase, wrapped to (-π, π]; tags XResolution and YResolution in pixels per centimeter.

    The description, JSON, has the names of the pages, the pixel [m], row and column of the first pixel, and the record.
    """
    description = {
        "pages": PAGES,
        "pixel_size_m": exported.pixel_m,
        "origin_px": exported.origin_px,
        "provenance": exported.record,
    }
    scale: dict[str, Any] = {}
    if exported.pixel_m is not None:
        per_centimeter = 1 / (CENTIMETERS_PER_METER * exported.pixel_m)
        scale = {"resolution": (per_centimeter, per_centimeter), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as file:
        for image in (np.abs(exported.object), np.angle(exported.object)):
            text = json.dumps(description)
            file.write(image.astype(np.float32), photometric="minisblack", description=text, metadata=None, **scale)
