"""`ptycho convert`: what would make a wrong scan without a word is refused, with what mends it."""

import numpy as np
import pytest

from tests.raw_scans import PIXEL, convert, counts_of
from tests.test_readers_hdf5 import write_cxi


def refusal(capsys, *arguments):
    """The one line in which a conversion is refused."""
    convert(*arguments, code=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("ptycho: ")
    return lines[-1]


@pytest.mark.parametrize("key", ["intensity", "counts"])
def test_roots_of_counts_under_a_name_of_counts_are_asked_to_be_squared(tmp_path, raw, capsys, key):
    counts = raw.pop("intensity")
    np.savez(tmp_path / "roots.npz", **{**raw, key: np.sqrt(counts).astype(np.float32)})
    line = refusal(capsys, tmp_path / "roots.npz", tmp_path / "scan.npz")
    assert "roots of whole numbers alone: --quantity amplitude squares them" in line
    assert "--photons-per-unit" not in line
    scan = convert(tmp_path / "roots.npz", tmp_path / "scan.npz", "--quantity", "amplitude")
    np.testing.assert_array_equal(counts_of(scan), counts)


def test_a_file_that_is_not_used_is_refused_by_name(tmp_path, raw, capsys):
    meters = np.stack([raw["xcoords"], raw["ycoords"]], axis=1) * PIXEL
    write_cxi(tmp_path / "a.cxi", raw["intensity"], meters)
    np.savez(tmp_path / "other.npz", **raw)
    (tmp_path / "notes.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    files = [tmp_path / name for name in ("a.cxi", "other.npz", "notes.csv")]
    line = refusal(capsys, *files, tmp_path / "scan.npz")
    assert f"{files[1]} and {files[2]}: not used by a scan that is read as CXI; wanted its files alone" in line
    np.testing.assert_array_equal(counts_of(convert(files[0], tmp_path / "scan.npz")), raw["intensity"])


@pytest.mark.parametrize(
    ("energy", "asked"),
    [
        (
            "8.8",
            "a photon energy of 8.8 eV; --energy 8800, if it is in keV, or --wavelength 1.40891e-07, if it is right",
        ),
        ("1e10", "photon energy of 1e+10 eV; wanted eV"),
    ],
)
def test_an_energy_that_no_scan_has_is_asked_for_its_unit(source, tmp_path, capsys, energy, asked):
    lengths = ("--distance", 1, "--detector-pixel", "75e-6")
    line = refusal(capsys, source, tmp_path / "scan.npz", "--energy", energy, *lengths)
    assert asked in line
    assert "e+10" in line or "--energy 8.8: " in line


def test_the_object_pixel_is_said_wherever_it_follows(source, tmp_path):
    lengths = ("--energy", 8800, "--distance", 1, "--detector-pixel", "75e-6")
    scan = convert(source, tmp_path / "scan.npz", *lengths)
    assert any(step.startswith("object pixel 117.409 nm (") for step in scan.metadata["conversion"])
