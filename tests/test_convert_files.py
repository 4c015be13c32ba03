"""`ptycho convert`: frames in any storage, and what becomes of source and destination."""

import json

import numpy as np
import pytest

from ptycho.cli.main import main
from tests.raw_scans import COUNT, PIXEL, WAVELENGTH, N, convert, counts_of, member


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("last", [False, True])
def test_frames_are_read_from_any_storage(tmp_path, raw, save, order, last):
    frames = np.moveaxis(raw["intensity"], 0, 2) if last else raw["intensity"]
    save(tmp_path / "raw.npz", **{**raw, "intensity": np.asarray(frames, order=order)})
    scan = convert(tmp_path / "raw.npz", tmp_path / "scan.npz")
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"])


def test_frames_on_a_grid_of_positions_are_read_row_by_row(tmp_path, raw):
    np.savez(tmp_path / "raw.npz", **{**raw, "intensity": raw["intensity"].reshape(3, 4, N, N)})
    scan = convert(tmp_path / "raw.npz", tmp_path / "scan.npz")
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"])


def test_the_source_is_never_written_to(source, capsys):
    before = source.read_bytes()
    convert(source, source, code=2)
    assert "both input and output" in capsys.readouterr().err
    link = source.with_name("link.npz")
    link.hardlink_to(source)
    convert(source, link, code=2)
    assert source.read_bytes() == before


def test_a_converted_scan_is_converted_again_and_keeps_what_is_known_of_it(tmp_path, raw):
    """Lengths, steps, source, mask, and the numbers of the exposures in the first file."""
    raw["intensity"][3] = 0
    np.savez(tmp_path / "raw.npz", **raw)
    options = ("--pixel-size", PIXEL, "--wavelength", WAVELENGTH, "--photons-per-unit", "2", "--flip-x")
    first = convert(tmp_path / "raw.npz", tmp_path / "first.npz", *options)
    mask = np.zeros((N, N), bool)
    mask[2, 5] = True
    np.savez(tmp_path / "mask.npz", bad_pixels=mask)
    options = ("--mask", tmp_path / "mask.npz", "--leave-out", "0", "--bin", "2")
    second = convert(first.path, tmp_path / "second.npz", *options)
    np.testing.assert_array_equal(member(second, "scan_index"), [1, 2, *range(4, COUNT)])
    assert member(second, "bad_pixels").sum() == member(second, "bad_pixels")[1, 2] == 1
    assert second.metadata["source"] == "raw.npz"
    assert second.metadata["pixel_size_m"] == pytest.approx(PIXEL)
    assert second.metadata["wavelength_m"] == WAVELENGTH
    assert second.metadata["photons_per_unit"] == 2
    steps, before = second.metadata["conversion"], first.metadata["conversion"]
    assert steps[: len(before)] == before
    assert "converted before, from raw.npz: lengths and steps are kept" in steps[len(before) :]


@pytest.mark.parametrize("metadata", ["[]", "no JSON", '{"conversion": ["once"], "pixel_size_m": "one"}'])
def test_metadata_that_convert_has_not_written_say_nothing(tmp_path, raw, metadata):
    np.savez(tmp_path / "raw.npz", **raw, metadata=np.array(metadata))
    assert "pixel_size_m" not in convert(tmp_path / "raw.npz", tmp_path / "scan.npz").metadata


def test_a_failed_conversion_leaves_what_was_there(source, raw, tmp_path):
    scan = convert(source, tmp_path / "scan.npz")
    before = scan.path.read_bytes()
    np.savez(tmp_path / "broken.npz", **{**raw, "objectGuess": np.ones((3, 3))})
    convert(tmp_path / "broken.npz", tmp_path / "scan.npz", code=2)
    assert scan.path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.npz", "raw.npz", "scan.npz"]


def test_a_file_that_is_no_scan_is_not_overwritten(source, tmp_path, capsys):
    np.savez(tmp_path / "precious.npz", data=np.ones(3))
    before = (tmp_path / "precious.npz").read_bytes()
    convert(source, tmp_path / "precious.npz", code=2)
    assert "exists and is no converted scan" in capsys.readouterr().err
    assert (tmp_path / "precious.npz").read_bytes() == before
    assert main(["convert", str(source), str(tmp_path / "scan.h5")]) == 2
    assert "wanted a name that ends in .npz" in capsys.readouterr().err
    assert main(["convert", str(source)]) == 2
    assert "one file" in capsys.readouterr().err


def test_the_record_names_inputs_and_options(source, tmp_path):
    scan = convert(source, tmp_path / "scan.npz", "--flip-x")
    record = json.loads(str(member(scan, "metadata")))["provenance"]
    assert list(record["inputs"]) == [str(source)]
    assert record["config"]["flip_x"] is True
