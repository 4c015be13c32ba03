"""Scans for the measuring programs: as many exposures as asked for, written block by block."""

import io
import json
import os
import zipfile

import numpy as np

from ptycho.data.grouping import FIT, group_neighbours
from ptycho.data.scan import ScanWriter, open_scan
from ptycho.data.views import View, save_view
from ptycho.physics.forward import blocks, predict_intensity
from ptycho.physics.probes import scale_to, zone_plate_probe

SPACING_PX = 8.8
COLUMNS = 32
DISTINCT = 256  # different patterns; they repeat, as memory and time do not depend on what they show

ZEROS = bytes(1 << 26)


def positions(count: int, n: int, rng: np.random.Generator):
    """Jittered raster, 32 exposures wide: xcoords, ycoords [px] and the object's shape."""
    row, column = np.divmod(np.arange(count), COLUMNS)
    margin = n // 2 + 2
    x, y = (axis * SPACING_PX + rng.uniform(-1, 1, count) + margin for axis in (column, row))
    return x, y, (int(y.max()) + margin + 1, int(x.max()) + margin + 1)


def beam(n: int, photons: float):
    """Return the default study's probe for patterns of n px."""
    shape = {"pupil_px": 13 * n / 64, "stop": 0.3, "defocus_px": 26.0 * n / 64, "astigmatism": 0.6, "coma": 0.4}
    return scale_to(zone_plate_probe(n, **shape), photons)


def make_scan(path, count: int, n: int):
    """Write and open a scan of `count` exposures of n × n px at 10,000 photons."""
    rng = np.random.default_rng(0)
    x, y, shape = positions(count, n, rng)
    probe = beam(n, 10_000)
    obj = np.exp(0.5j * rng.random((4 * n, 4 * n))).astype(np.complex64)
    around = rng.uniform(n, 3 * n, (2, DISTINCT))
    frames = np.sqrt(rng.poisson(predict_intensity(obj, probe, *around))).astype(np.float32)
    truth = np.broadcast_to(np.complex64(1), shape)
    fields = {"xcoords": x, "ycoords": y, "probeGuess": probe, "objectGuess": truth, "metadata": {"dose": 10_000}}
    with ScanWriter(path, count, n, **fields) as scan:
        for block in blocks(count, DISTINCT):
            scan.write(frames[: block.stop - block.start])
    return open_scan(path)


class _Sparse(io.FileIO):
    """A file in which long zeros are holes."""

    def write(self, data) -> int:
        if len(data) < len(ZEROS) or bytes(data) != ZEROS:
            return super().write(data)
        self.seek(len(data), os.SEEK_CUR)
        return len(data)


def make_sparse(path, count: int, n: int):
    """Write a scan whose frames are all zero and take no room on the disk."""
    rng = np.random.default_rng(0)
    x, y, shape = positions(count, n, rng)
    fields = {
        "xcoords": x,
        "ycoords": y,
        "probeGuess": np.ones((n, n), np.complex64),
        "objectGuess": np.broadcast_to(np.complex64(1), (shape[0], shape[1])),
        "metadata": np.array(json.dumps({"dose": 10_000})),
    }
    with _Sparse(path, "w+") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for key, array in fields.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"))
        with archive.open("diffraction.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, n, n)}
            np.lib.format.write_array_header_1_0(member, header)
            size = count * n * n * 4
            for _ in range(size // len(ZEROS)):
                member.write(ZEROS)
            member.write(bytes(size % len(ZEROS)))
    return path


def make_view(path, scan, n_groups: int) -> None:
    """Write a view of all exposures with `n_groups` groups of four."""
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)
    options = {"neighbours": 7, "n_groups": n_groups, "max_spread_px": 48, "rng": np.random.default_rng(0)}
    groups = group_neighbours(points, 4, **options)
    exposures = np.arange(len(scan))
    role = np.full(len(scan), FIT, np.int8)
    save_view(path, View(exposures=exposures, role=role, nn_indices=groups, metadata={"groups": len(groups)}))
