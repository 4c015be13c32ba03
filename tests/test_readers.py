"""Readers of PtyLab, of TIFF files with a table; formats that are refused; the documented list of formats."""

import re

import h5py
import numpy as np
import pytest
import tifffile

from ptycho.formats.registry import FORMATS
from tests.raw_scans import (
    DETECTOR_PIXEL,
    DISTANCE,
    PIXEL,
    POSITIONS,
    WAVELENGTH,
    N,
    assert_same,
    convert,
    measurement,
    member,
    offsets,
)
from tests.workflow import ROOT


@pytest.mark.parametrize("code", range(8))
def test_ptylab_turns_frames_by_its_orientation(tmp_path, code):
    """Its codes: 1 inverts columns, 2 rows, 4 transposes first."""
    raw = measurement()
    frames = raw["intensity"]
    frames = frames[:, ::-1] if code & 2 else frames
    frames = frames[:, :, ::-1] if code & 1 else frames
    frames = frames.transpose(0, 2, 1) if code & 4 else frames
    with h5py.File(tmp_path / "lab.hdf5", "w") as file:
        file.update({"ptychogram": frames, "encoder": POSITIONS[:, ::-1] * PIXEL, "orientation": code})
        file.update({"wavelength": WAVELENGTH, "dxd": DETECTOR_PIXEL, "zo": [[DISTANCE]]})
        file["entrancePupilDiameter"] = 6 * PIXEL
    scan = convert(tmp_path / "lab.hdf5", tmp_path / "scan.npz")
    assert_same(scan, raw["intensity"])
    y, x = np.indices((N, N)) - N // 2
    np.testing.assert_array_equal(np.abs(scan.probe[0]) > 0, np.hypot(y, x) <= 3)


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_stacks_and_a_table(tmp_path, files, compression):
    raw = measurement(dtype=np.uint16)
    paths = [tmp_path / f"frames_{number}.tif" for number in range(files)]
    for path, frames in zip(paths, np.split(raw["intensity"], files), strict=True):
        tifffile.imwrite(path, frames, compression=compression, photometric="minisblack")
    rows = [f"{y * PIXEL * 1e6},{x * PIXEL * 1e6}" for x, y in POSITIONS]
    (tmp_path / "positions.csv").write_text("\n".join(["# mm", "y_um,x_um", *rows]), encoding="utf-8")
    np.save(tmp_path / "probe.npy", raw["probe"])
    options = ("--probe", tmp_path / "probe.npy", "--pixel-size", PIXEL)
    scan = convert(*paths, tmp_path / "positions.csv", tmp_path / "scan.npz", *options)
    assert_same(scan, raw["intensity"], raw["probe"])


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_may_have_decimal_commas(tmp_path, separator):
    raw = measurement(dtype=np.uint16)
    tifffile.imwrite(tmp_path / "frames.tif", raw["intensity"], photometric="minisblack")
    rows = [f"{x:.9f}{separator}{y:.9f}".replace(".", ",") for x, y in POSITIONS]
    (tmp_path / "p.csv").write_text("\n".join([f"x_px{separator}y_px", *rows]), encoding="utf-8")
    np.save(tmp_path / "probe.npy", raw["probe"])
    files = tmp_path / "frames.tif", tmp_path / "p.csv", tmp_path / "scan.npz"
    assert_same(convert(*files, "--probe", tmp_path / "probe.npy"), raw["intensity"])


def test_a_table_without_names_leaves_columns_and_unit_open(tmp_path, capsys):
    raw = measurement(dtype=np.uint16)
    tifffile.imwrite(tmp_path / "frames.tif", raw["intensity"], photometric="minisblack")
    np.savetxt(tmp_path / "positions.txt", POSITIONS[:, ::-1])
    np.savez(tmp_path / "probe.npz", probeGuess=raw["probe"])
    files = tmp_path / "frames.tif", tmp_path / "positions.txt", tmp_path / "scan.npz"
    convert(*files, "--probe", tmp_path / "probe.npz", code=2)
    message = capsys.readouterr().err
    assert "which columns of positions.txt are x and y: --position-columns xy or --position-columns yx" in message
    assert "the unit of the positions in positions.txt: --position-unit" in message
    options = ("--probe", tmp_path / "probe.npz", "--position-columns", "yx", "--position-unit", "px")
    assert_same(convert(*files, *options), raw["intensity"], raw["probe"])


def test_a_table_may_number_its_frames(tmp_path):
    raw = measurement(dtype=np.uint16)
    tifffile.imwrite(tmp_path / "frames.tif", raw["intensity"], photometric="minisblack")
    np.save(tmp_path / "probe.npy", raw["probe"])
    rows = [f"{number}\t{POSITIONS[number, 0]}\t{POSITIONS[number, 1]}" for number in (3, 1, 7)]
    (tmp_path / "positions.csv").write_text("\n".join(["frame\tx (px)\ty (px)", *rows]), encoding="utf-8")
    files = tmp_path / "frames.tif", tmp_path / "positions.csv", tmp_path / "scan.npz"
    scan = convert(*files, "--probe", tmp_path / "probe.npy")
    np.testing.assert_array_equal(member(scan, "scan_index"), [1, 3, 7])
    np.testing.assert_allclose(offsets(scan), POSITIONS[[1, 3, 7]] - POSITIONS[1])


@pytest.mark.parametrize("number", ["3.5", "nan", "1e300", "-1e19"])
def test_a_number_of_a_frame_that_is_none_is_refused(tmp_path, capsys, number):
    raw = measurement(dtype=np.uint16)
    tifffile.imwrite(tmp_path / "frames.tif", raw["intensity"], photometric="minisblack")
    rows = [f"{name},{x},{y}" for name, (x, y) in zip([number, *range(1, len(POSITIONS))], POSITIONS, strict=True)]
    (tmp_path / "positions.csv").write_text("\n".join(["Frame,x (px),y (px)", *rows]), encoding="utf-8")
    convert(tmp_path / "frames.tif", tmp_path / "positions.csv", tmp_path / "scan.npz", code=2)
    assert re.search(r"positions\.csv: 'Frame' is .* somewhere; wanted numbers of frames", capsys.readouterr().err)


def test_velociprobe_and_empad_are_refused_by_name(tmp_path, capsys):
    with h5py.File(tmp_path / "fly001_master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("fly001_data_000001.h5", "/entry/data/data")
    convert(tmp_path / "fly001_master.h5", tmp_path / "scan.npz", code=2)
    assert "Velociprobe of APS writes it; this format is not supported" in capsys.readouterr().err
    (tmp_path / "scan_x64_y64.raw").write_bytes(bytes(2 * 130 * 128 * 4))
    convert(tmp_path / "scan_x64_y64.raw", tmp_path / "scan.npz", code=2)
    assert "EMPAD detector; this format is not supported" in capsys.readouterr().err


def test_every_format_is_in_the_documentation():
    text = (ROOT / "docs/reference/formats.md").read_text(encoding="utf-8")
    for name, format in FORMATS.items():
        assert f"`{name}`" in text
        assert [variant for variant in format.variants if variant not in text] == []


def test_a_compression_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        for key, array in measurement().items():
            file.create_dataset(key, data=array, **({"compression": "gzip"} if key == "intensity" else {}))
    monkeypatch.setattr("ptycho.formats.hdf5_files._is_available", lambda code: False)
    convert(tmp_path / "raw.h5", tmp_path / "scan.npz", code=2)
    assert "'intensity' is compressed with filter 1: pip install hdf5plugin" in capsys.readouterr().err
