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


@pytest.mark.parametrize(("unit", "scale"), [("mm", PIXEL * 1e3), ("um", PIXEL * 1e6), ("px", 1)])
def test_the_unit_that_makes_the_step_plausible_is_named(tmp_path, raw, capsys, unit, scale):
    positions = np.stack([raw["xcoords"], raw["ycoords"]], axis=1)
    write_cxi(tmp_path / "a.cxi", raw["intensity"], positions * scale)
    line = refusal(capsys, tmp_path / "a.cxi", tmp_path / "scan.npz")
    assert "with positions in m and an object pixel of 40 nm a step is " in line
    assert f": --position-unit {unit}? --position-unit m if it is right" in line
    scan = convert(tmp_path / "a.cxi", tmp_path / "scan.npz", "--position-unit", unit)
    np.testing.assert_allclose(np.diff(scan.xcoords), np.diff(positions[:, 0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda raw: {"probe": np.pad(raw["probe"], 8)},
            "the probe has 32 × 32 px; wanted 16 × 16; --probe FILE gives another, --estimate-probe DEFOCUS makes one",
        ),
        (
            lambda raw: {"probe": np.stack([raw["probe"], raw["probe"]], axis=-1)},
            "the probe has 16 × 2 px; wanted 16 × 16; modes belong first: (modes, 16, 16)",
        ),
        (
            lambda raw: {"xcoords": 0 * raw["xcoords"] + 3, "ycoords": 0 * raw["ycoords"]},
            "all 12 exposures have the position (3, 0) (x, y); wanted where each was taken",
        ),
    ],
    ids=["another size", "modes last", "one position"],
)
def test_what_does_not_fit_the_frames_is_said_before_they_are_read(tmp_path, raw, capsys, change, message):
    np.savez(tmp_path / "raw.npz", **{**raw, **change(raw)})
    assert refusal(capsys, tmp_path / "raw.npz", tmp_path / "scan.npz").endswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bin", "0"], "--bin 0: wanted 1 or more pixels"),
        (["--bin", "-2"], "--bin -2: wanted 1 or more pixels"),
        (["--center", "0,0", "--crop", "8"], "--center 0,0: wanted a row from 1 to 15 and a column from 1 to 15"),
        (["--center", "8,16", "--crop", "8"], "--center 8,16: wanted a row from 1 to 15 and a column from 1 to 15"),
    ],
)
def test_the_value_of_an_option_is_refused_for_itself(source, tmp_path, capsys, options, message):
    assert message in refusal(capsys, source, tmp_path / "scan.npz", *options)
