"""Readers of other programs' files. Every file is written here from the format's specification, by h5py and NumPy."""

import bz2
import io

import h5py
import numpy as np

from tests.raw_scans import COUNT, N, convert, counts_of, measurement, offsets

POSITIONS = np.stack([measurement()["xcoords"], measurement()["ycoords"]], axis=1)
EXPECTED = POSITIONS - POSITIONS[0]
"""What `offsets` of a converted scan has to be."""


def assert_same(scan, counts, probe=None):
    """Counts, positions and, up to its scale, the probe are those that were written."""
    np.testing.assert_array_equal(counts_of(scan), counts)
    np.testing.assert_allclose(offsets(scan), EXPECTED[: len(scan)], atol=1e-9)
    if probe is not None:
        ratio = scan.probe / probe
        np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-3)


def test_tike(tmp_path):
    raw = measurement()
    arrays = {
        "data": np.fft.ifftshift(raw["intensity"], axes=(1, 2))[None].astype(np.float32),
        "scan": (POSITIONS[:, ::-1] - N / 2)[None],
        "probe": raw["probe"][None, None, None, None].astype(np.complex64),
    }
    np.savez(tmp_path / "tike.npz", **arrays)
    scan = convert(tmp_path / "tike.npz", tmp_path / "scan.npz")
    assert_same(scan, raw["intensity"], raw["probe"])
    assert scan.metadata["conversion"][0] == "read as tike NPZ"
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (tmp_path / "tike.npz.bz2").write_bytes(bz2.compress(buffer.getvalue()))
    assert_same(convert(tmp_path / "tike.npz.bz2", tmp_path / "packed.npz"), raw["intensity"], raw["probe"])


def test_hdf5_of_your_own_with_the_keys_of_an_npz(tmp_path):
    raw = measurement()
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file.update(raw)
    assert_same(convert(tmp_path / "own.h5", tmp_path / "scan.npz"), raw["intensity"], raw["probe"])
    assert len(raw["intensity"]) == COUNT
