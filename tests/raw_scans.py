"""Small raw scans for tests of the conversion: random counts, a beam without symmetry, a jittered raster."""

from itertools import takewhile

import numpy as np

from ptycho.cli.main import main
from ptycho.data.scan import open_scan

N, COUNT = 16, 12


def measurement(n=N, count=COUNT, dtype=np.int64, seed=0):
    """Counts (M, N, N) with a bright middle, x and y of patch centers [px], probe; nothing is symmetric."""
    rng = np.random.default_rng(seed)
    r, c = np.indices((n, n)) - n // 2
    beam = np.exp(-(((r - 0.3) / (0.2 * n)) ** 2) - ((c + 0.6) / (0.15 * n)) ** 2)
    probe = beam * np.exp(1j * (0.3 * r / n + 2 * r * c / n**2))
    columns = 4
    x, y = (axis.ravel()[:count] * 0.1 * n + n for axis in np.mgrid[:columns, : -(-count // columns)].astype(float))
    x, y = x + rng.uniform(-0.5, 0.5, count), y + rng.uniform(-0.5, 0.5, count)
    counts = rng.poisson(3 + 40 * beam, (count, n, n)).astype(dtype)
    return {"intensity": counts, "xcoords": x, "ycoords": y, "probe": probe}


def convert(*arguments, code=0):
    """Run `ptycho convert`, and open what it has written."""
    assert main(["convert", *map(str, arguments)]) == code
    files = list(takewhile(lambda argument: not str(argument).startswith("--"), arguments))
    return open_scan(files[-1]) if code == 0 else None


def counts_of(scan):
    """Whole photons of a scan, (M, N, N); bad pixels read 0."""
    counts = np.square(scan.diffraction[:], dtype=np.float64)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3, rtol=1e-6)
    bad = member(scan, "bad_pixels")
    return np.rint(counts).astype(np.int64) * (1 if bad is None else ~bad)


def member(scan, key):
    """An optional array of a scan's file, None if it is not there."""
    with np.load(scan.path, allow_pickle=False) as arrays:
        return arrays.get(key)


def offsets(scan):
    """Patch centers relative to the first, (M, 2), [x, y]: the origin of an object of ones means nothing."""
    centers = np.stack([scan.xcoords, scan.ycoords], axis=1)
    return centers - centers[0]


POSITIONS = np.stack([measurement()["xcoords"], measurement()["ycoords"]], axis=1)
EXPECTED = POSITIONS - POSITIONS[0]
"""What `offsets` of a converted scan has to be."""


PIXEL = 40e-9
"""Object pixel of the scans in physical units [m]."""
DISTANCE, DETECTOR_PIXEL = 2.0, 50e-6
WAVELENGTH = PIXEL * N * DETECTOR_PIXEL / DISTANCE


def assert_same(scan, counts, probe=None):
    """Counts, positions and, up to its scale, the probe are those that were written."""
    np.testing.assert_array_equal(counts_of(scan), counts)
    np.testing.assert_allclose(offsets(scan), EXPECTED[: len(scan)], atol=1e-9)
    if probe is not None:
        ratio = scan.probe / probe
        np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-3)
