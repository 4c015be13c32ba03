"""Scans for the benchmark programs: any number of exposures, written block by block."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np

from ptycho.data.grouping import group_around, group_neighbors, sort_groups
from ptycho.data.scan import Scan, ScanWriter, open_scan
from ptycho.data.tiles import Tile, TilingOptions, cut_view, save_tiles
from ptycho.data.views import FIT, VALIDATION, View, save_view
from ptycho.physics.forward import blocks, predict_intensity
from ptycho.physics.probes import scale_to, zone_plate_probe

SPACING_PX = 8.8
COLUMNS = 32
DOSE = 10_000
N_DISTINCT = 256
"""Different patterns in a scan; they repeat, since memory and time do not depend on what they show."""
VALIDATION_STEP = 20
"""Every 20th exposure is for validation."""
ZEROS = bytes(1 << 26)


def strip_positions(count: int, n: int, rng: np.random.Generator):
    """Lay out a jittered raster, `COLUMNS` exposures wide.

    Returns
    -------
    xcoords, ycoords : (count,) float64
        Patch centers [px].
    shape : (int, int)
        Rows and columns of an object that holds every n-pixel window.
    """
    row, column = np.divmod(np.arange(count), COLUMNS)
    margin = n // 2 + 2
    x, y = (axis * SPACING_PX + rng.uniform(-1, 1, count) + margin for axis in (column, row))
    return x, y, (int(y.max()) + margin + 1, int(x.max()) + margin + 1)


def study_probe(n: int, photons: float):
    """Return the default study's probe, scaled to patterns of n px, (n, n) complex64 [sqrt(photon)]."""
    probe = zone_plate_probe(
        n, pupil_px=13 * n / 64, stop=0.3, defocus_px=26.0 * n / 64, astigmatism_rad=0.6, coma_rad=0.4
    )
    return scale_to(probe, photons)


def make_scan(path: Path, count: int, n: int) -> Scan:
    """Write and open a scan of `count` exposures of n × n px at a dose of `DOSE`."""
    rng = np.random.default_rng(0)
    x, y, shape = strip_positions(count, n, rng)
    probe = study_probe(n, DOSE)
    obj = np.exp(0.5j * rng.random((4 * n, 4 * n))).astype(np.complex64)
    centers = rng.uniform(n, 3 * n, (2, N_DISTINCT))
    frames = np.sqrt(rng.poisson(predict_intensity(obj, probe, *centers))).astype(np.float32)
    truth = np.broadcast_to(np.complex64(1), shape)
    fields = {"xcoords": x, "ycoords": y, "probeGuess": probe, "objectGuess": truth, "metadata": {"dose": DOSE}}
    with ScanWriter(path, count, n, **fields) as scan:
        for block in blocks(count, N_DISTINCT):
            scan.write(frames[: block.stop - block.start])
    return open_scan(path)


class _SparseFile(io.FileIO):
    """A file in which long runs of zeros become holes."""

    def write(self, data) -> int:
        """Write data, or skip over as many bytes if it is `ZEROS`."""
        if len(data) < len(ZEROS) or bytes(data) != ZEROS:
            return super().write(data)
        self.seek(len(data), os.SEEK_CUR)
        return len(data)


def make_sparse(path: Path, count: int, n: int) -> Path:
    """Write a scan whose frames are all zero and take no space on disk."""
    x, y, shape = strip_positions(count, n, np.random.default_rng(0))
    fields = {
        "xcoords": x,
        "ycoords": y,
        "probeGuess": np.ones((n, n), np.complex64),
        "objectGuess": np.broadcast_to(np.complex64(1), shape),
        "metadata": np.array(json.dumps({"dose": DOSE})),
    }
    with _SparseFile(path, "w+") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
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


def make_view(path: Path, scan: Scan, n_groups: int = 100) -> View:
    """Write and return a view of all exposures: groups of 16 as in the default study, every 20th to validate."""
    points, exposures = np.stack([scan.ycoords, scan.xcoords], axis=1), np.arange(len(scan))
    role = np.full(len(scan), FIT, np.int8)
    role[::VALIDATION_STEP] = VALIDATION
    fit, validation = exposures[role == FIT], exposures[role == VALIDATION]
    options = {"neighbors": 20, "n_groups": n_groups, "max_spread": 6, "rng": np.random.default_rng(0)}
    groups = fit[group_neighbors(points[fit], 16, **options)]
    groups = np.concatenate([groups, group_around(points, validation, fit, 16)])
    view = View(exposures=exposures, role=role, nn_indices=sort_groups(points, groups), metadata={})
    save_view(path, view)
    return view


def make_tiles(path: Path, scan: Scan, tiling: TilingOptions) -> list[Tile]:
    """Write and return the tiles of all exposures."""
    tiles = cut_view(scan, np.arange(len(scan)), tiling)
    save_tiles(path, tiles)
    return tiles


def save_untrained(path: Path, scan: Scan, filters: int, physics_iterations: int) -> None:
    """Write a PINN with random weights: speed and memory do not depend on them."""
    from ptycho.model.card import make_card, save_network
    from ptycho.model.networks import Estimator, build_network

    estimator = Estimator(physics_iterations=physics_iterations, transmittance=1.0, n_pixels=scan.n_pixels)
    facts = {"n_pixels": scan.n_pixels, "channels": 16, "transmittance": 1.0, "estimator": estimator.as_dict()}
    card = make_card("pinn", scan.probe, **facts)
    save_network(path, build_network(estimator, filters), card, scan.probe)
