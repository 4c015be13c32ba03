"""Small files of every kind that a study writes, and what is read from them."""

import io
import json
import struct
import zipfile

import numpy as np

from ptycho.data.object_files import (
    POSITION_KEYS,
    Reconstruction,
    Refined,
    RefinedPositions,
    load_reconstruction,
    save_reconstruction,
)
from ptycho.data.sample_files import Sample, open_sample, save_sample
from ptycho.data.scan import ScanWriter, open_scan
from ptycho.data.tiles import Tile, load_tiles, save_tiles
from ptycho.data.views import View, open_view, save_view

N, COUNT = 8, 6


def write_scan(path, **changes):
    rng = np.random.default_rng(0)
    fields = {
        "xcoords": rng.uniform(N, 2 * N, COUNT),
        "ycoords": rng.uniform(N, 2 * N, COUNT),
        "probeGuess": rng.normal(size=(N, N)).astype(np.complex64),
        "objectGuess": rng.normal(size=(3 * N, 3 * N)).astype(np.complex64),
        "scan_index": np.arange(COUNT),
        "metadata": {"dose": 3},
        **changes,
    }
    with ScanWriter(path, COUNT, N, **fields) as scan:
        scan.write(rng.random((COUNT, N, N)).astype(np.float32))
    return path


def write_view(path, **changes):
    fields = {"exposures": np.arange(5), "role": np.array([0, 0, 0, 1, 2], np.int8), "nn_indices": [[0, 1], [2, 3]]}
    fields = {key: np.asarray(value) for key, value in (fields | changes).items()}
    metadata = fields.pop("metadata", {"counts": {"exposures_of_scan": COUNT}})
    save_view(path, View(**fields, metadata=metadata.item() if isinstance(metadata, np.ndarray) else metadata))
    return path


def write_tiles(path):
    core = ((-np.inf, 3.0), (-np.inf, np.inf))
    save_tiles(path, [Tile(np.arange(3), core, 4.0), Tile(np.arange(2, 5), ((3.0, np.inf), core[1]), 4.0)])
    return path


def write_object(path):
    places = {key: np.linspace(0, 1, 3) for key in POSITION_KEYS[1:]}
    refined = Refined(positions=RefinedPositions(exposures=np.array([0, 2, 5]), **places))
    obj = np.ones((4, 5), np.complex64)
    result = Reconstruction(object=obj, illumination=obj.real, origin_px=(2, 3), refined=refined)
    save_reconstruction(path, result, method="tv")
    return path


def write_sample(path, **changes):
    rng = np.random.default_rng(1)
    positions = {"xcoords": rng.uniform(N, 2 * N, COUNT), "ycoords": rng.uniform(N, 2 * N, COUNT)}
    obj, probe = (rng.normal(size=(side, side)).astype(np.complex64) for side in (3 * N, N))
    fields = {"object": obj, "probe": probe, **positions, "is_test": np.array([0, 0, 0, 1, 1, 1], np.int8), **changes}
    save_sample(path, Sample(**fields))
    return path


def rewritten(path, key, member):
    """Replace one member of an NPZ by bytes; its checksum is right."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    members[f"{key}.npy"] = member
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array, version=None, **header):
    """Bytes of an array, with another header than its own."""
    file = io.BytesIO()
    array = np.asarray(array)
    fields = np.lib.format.header_data_from_array_1_0(array) | header
    text = repr(fields).encode() + b"\n"
    file.write(b"\x93NUMPY" + bytes(version or (1, 0)))
    file.write(struct.pack("<H" if (version or (1, 0)) == (1, 0) else "<I", len(text)) + text + array.tobytes())
    return file.getvalue()


def scan_values(path):
    scan = open_scan(path)
    arrays = [scan.xcoords, scan.ycoords, scan.probe, scan.object[...], scan.diffraction[...]]
    return [array.tobytes() for array in arrays] + [json.dumps(scan.metadata)]


def view_values(path):
    view = open_view(path)
    return [view.exposures.tobytes(), view.role.tobytes(), view.nn_indices.tobytes(), json.dumps(view.metadata)]


def tile_values(path):
    return [(tile.exposures.tobytes(), tile.core, tile.halo_px) for tile in load_tiles(path)]


def object_values(path):
    result, metadata = load_reconstruction(path)
    arrays = [result.object, result.illumination, *vars(result.refined.positions).values()]
    return [array.tobytes() for array in arrays] + [result.origin_px, json.dumps(metadata)]


def sample_values(path):
    sample = open_sample(path)
    arrays = (sample.object[...], sample.probe, sample.xcoords, sample.ycoords, sample.is_test)
    return [array.tobytes() for array in arrays]


FILES = {
    "scan": (write_scan, scan_values),
    "view": (write_view, view_values),
    "tiles": (write_tiles, tile_values),
    "object": (write_object, object_values),
    "sample": (write_sample, sample_values),
}
"""Kind of a file -> what writes a small one, and what reads its values."""
