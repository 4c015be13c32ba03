"""`ptycho export`: files of other programs, read back by their own rules."""

import json

import h5py
import numpy as np
import pytest
import tifffile

from ptycho.cli.main import main
from ptycho.data.object_files import Reconstruction, save_reconstruction
from tests.raw_scans import convert, measurement

PIXEL, WAVELENGTH = 25e-9, 1.5e-10


@pytest.fixture
def scan(tmp_path):
    raw = measurement()
    np.savez(tmp_path / "raw.npz", **raw)
    options = ("--pixel-size", PIXEL, "--wavelength", WAVELENGTH)
    return convert(tmp_path / "raw.npz", tmp_path / "scan.npz", *options)


@pytest.fixture
def obj(tmp_path):
    rng = np.random.default_rng(0)
    obj = (rng.uniform(0.5, 1, (30, 21)) * np.exp(1j * rng.uniform(-3, 3, (30, 21)))).astype(np.complex64)
    reconstruction = Reconstruction(object=obj, illumination=np.ones(obj.shape), origin_px=(3, 5))
    save_reconstruction(tmp_path / "object.npz", reconstruction, method="tv", pixel_size_m=PIXEL)
    return obj


def run(*arguments, code=0):
    assert main(["export", *map(str, arguments)]) == code


def test_tiff_has_amplitude_phase_and_pixel(tmp_path, obj, capsys):
    run(tmp_path / "object.npz", tmp_path / "out.tif")
    assert "object of 30 by 21 px, pixel of 25 nm" in capsys.readouterr().out
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        amplitude, phase = (page.asarray() for page in file.pages)
        for page in file.pages:
            for tag in ("XResolution", "YResolution"):
                above, below = page.tags[tag].value
                assert above / below == pytest.approx(1e-2 / PIXEL)
            assert page.tags["ResolutionUnit"].value == 3  # centimeters
        description = json.loads(file.pages[0].description)
    assert amplitude.dtype == phase.dtype == np.float32
    np.testing.assert_allclose(amplitude * np.exp(1j * phase), obj, rtol=1e-5)
    assert description["pages"] == ["amplitude", "phase [rad]"]
    assert description["origin_px"] == [3, 5]
    assert str(tmp_path / "object.npz") in description["provenance"]["inputs"]


def test_ptychodus_places_a_position_in_the_middle_of_its_window(tmp_path, obj, scan):
    """Its reader takes x [m] to pixel (x - center) / pixel + (W - 1)/2, and the window from there on by (N - 1)/2."""
    run(tmp_path / "object.npz", tmp_path / "out.h5", "--scan", scan.path, "--distance", "2")
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["object"][0], obj)
        np.testing.assert_array_equal(file["probe"][0], scan.probe)
        assert file.attrs["photon_energy_eV"] == pytest.approx(1.23984198e-6 / WAVELENGTH)
        assert file.attrs["detector_object_distance_m"] == 2
        assert file.attrs["probe_photon_count"] == pytest.approx(np.sum(np.abs(scan.probe) ** 2), rel=1e-5)
        sides = {"x": (obj.shape[1], scan.xcoords - 5), "y": (obj.shape[0], scan.ycoords - 3)}
        for axis, (size, in_object) in sides.items():
            meters, center = file[f"probe_position_{axis}_m"][()], file["object"].attrs[f"center_{axis}_m"]
            first = (meters - center) / PIXEL + (size - 1) / 2 - (scan.n_pixels - 1) / 2
            np.testing.assert_allclose(first, in_object - scan.n_pixels / 2, atol=1e-9)


def test_ptychodus_reads_it_with_its_own_reader(tmp_path, obj, scan):
    io = pytest.importorskip("ptychodus.api.io")
    run(tmp_path / "object.npz", tmp_path / "out.h5", "--scan", scan.path)
    product = io.load_product(tmp_path / "out.h5")
    np.testing.assert_array_equal(product.object_.get_layer(0), obj)
    geometry = product.object_.get_geometry()
    x_px = geometry.map_probe_positions_to_object_x_px(product.probe_positions)
    np.testing.assert_allclose(x_px + 0.5, scan.xcoords - 5)


def test_cxi_has_the_object_and_what_convert_reads(tmp_path, obj, scan):
    run(tmp_path / "object.npz", tmp_path / "out.cxi", "--scan", scan.path)
    raw = measurement()
    with h5py.File(tmp_path / "out.cxi", "a") as file:
        np.testing.assert_array_equal(file["entry_1/image_1/data"], obj)
        np.testing.assert_allclose(file["entry_1/image_1/image_size"], [21 * PIXEL, 30 * PIXEL, 0])
        file["entry_1/data_1/data"] = raw["intensity"]
    again = convert(tmp_path / "out.cxi", tmp_path / "again.npz", "--pixel-size", PIXEL)
    np.testing.assert_allclose(np.diff(again.xcoords), np.diff(scan.xcoords))
    np.testing.assert_allclose(np.diff(again.ycoords), np.diff(scan.ycoords))
    np.testing.assert_allclose(again.probe, scan.probe, rtol=1e-5)
    assert again.metadata["wavelength_m"] == pytest.approx(WAVELENGTH)


def test_a_scan_gives_its_own_object(tmp_path, scan):
    run(scan.path, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["object"][0], scan.object[:])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.png", "wanted a name that ends in .tif"),
        (
            "out.h5",
            "no wavelength, probe, positions in it; wanted --scan with the scan that it was reconstructed from, and "
            "--energy or --wavelength if it has none",
        ),
        ("taken.tif", "exists; wanted another name"),
    ],
)
def test_what_is_missing_is_named(tmp_path, obj, capsys, output, message):
    (tmp_path / "taken.tif").write_bytes(b"precious")
    run(tmp_path / "object.npz", tmp_path / output, code=2)
    assert message in capsys.readouterr().err
    assert (tmp_path / "taken.tif").read_bytes() == b"precious"
    assert not (tmp_path / "out.h5").exists()


def test_an_object_of_unknown_pixel_names_the_options_that_give_it(tmp_path, scan, capsys):
    reconstruction = Reconstruction(object=scan.object[:], illumination=np.ones(scan.object.shape), origin_px=(0, 0))
    save_reconstruction(tmp_path / "plain.npz", reconstruction)
    run(tmp_path / "plain.npz", tmp_path / "out.cxi", code=2)
    wanted = "no pixel in it; wanted --scan with the scan that it was reconstructed from, or --pixel-size"
    assert wanted in capsys.readouterr().err
    run(tmp_path / "plain.npz", tmp_path / "out.tif")
    assert "pixel of unknown size (--scan or --pixel-size gives it)" in capsys.readouterr().out
    run(tmp_path / "plain.npz", tmp_path / "out.cxi", "--scan", scan.path)
    assert "pixel of 25 nm" in capsys.readouterr().out


def test_a_file_without_an_object_is_refused(tmp_path, capsys):
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    run(tmp_path / "other.npz", tmp_path / "out.tif", code=2)
    assert "no key 'object'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        *(("--pixel-size", value, "wanted a number above 0") for value in ("-1", "nan", "inf", "0")),
        ("--pixel-size", "1e-300", "read as a pixel of 1e-300 m; wanted one of 1 pm to 1 mm"),
        ("--pixel-size", "30", "read as a pixel of 30 m; wanted one of 1 pm to 1 mm"),
        *(("--energy", value, "wanted a number above 0") for value in ("-5", "nan", "0")),
        ("--wavelength", "0", "wanted a number above 0"),
        *(("--distance", value, "wanted a number above 0") for value in ("-3", "nan", "0")),
    ],
)
def test_lengths_that_are_none_are_refused(tmp_path, obj, scan, capsys, option, value, message):
    capsys.readouterr()
    run(tmp_path / "object.npz", tmp_path / "out.h5", "--scan", scan.path, option, value, code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"ptycho: {option} {value}: {message}"
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("suffix", [".h5", ".cxi", ".tif"])
@pytest.mark.parametrize(
    ("shape", "origin"),
    [((30, 21), (200, 5)), ((30, 21), (3, -15)), ((10, 10), (3, 5)), ((80, 21), (3, 5))],
    ids=["below", "to the left", "too small", "too large"],
)
def test_a_scan_that_does_not_fit_the_object_is_refused(tmp_path, scan, capsys, shape, origin, suffix):
    obj = np.ones(shape, np.complex64)
    reconstruction = Reconstruction(object=obj, illumination=np.ones(shape), origin_px=origin)
    save_reconstruction(tmp_path / "object.npz", reconstruction, pixel_size_m=PIXEL)
    capsys.readouterr()
    run(tmp_path / "object.npz", tmp_path / f"out{suffix}", "--scan", scan.path, code=2)
    (line,) = capsys.readouterr().err.splitlines()
    rows, columns = (f"{first}..{first + size}" for first, size in zip(origin, shape, strict=True))
    assert line.startswith(
        f"ptycho: {tmp_path / 'object.npz'}: its object covers rows {rows} and columns {columns}, the windows of "
        f"{scan.path} rows 2..21 and columns 2..23; wanted the scan"
    )
    assert not (tmp_path / f"out{suffix}").exists()


def test_a_sample_may_be_larger_than_a_scan_of_it(tmp_path, scan):
    np.savez(tmp_path / "sample.npz", objectGuess=np.ones((100, 100), np.complex64))
    run(tmp_path / "sample.npz", tmp_path / "out.cxi", "--scan", scan.path)
    np.savez(tmp_path / "small.npz", objectGuess=np.ones((8, 8), np.complex64))
    run(tmp_path / "small.npz", tmp_path / "small.cxi", "--scan", scan.path, code=2)
