"""Readers of CXI, PtyPy, NSLS-II HXN and PtychoShelves. Every file is written here, from its specification, by h5py."""

import h5py
import numpy as np
import pytest

from tests.raw_scans import (
    COUNT,
    DETECTOR_PIXEL,
    DISTANCE,
    EXPECTED,
    PIXEL,
    POSITIONS,
    WAVELENGTH,
    N,
    assert_same,
    convert,
    counts_of,
    measurement,
    member,
    offsets,
)


def write_cxi(path, counts, translation, **more):
    """Write the arrays that the specification asks for; `more` has further ones, or others in their place."""
    detector = "entry_1/instrument_1/detector_1"
    arrays = {
        "cxi_version": 160,
        "entry_1/data_1/data": counts,
        "entry_1/data_1/translation": translation,
        f"{detector}/distance": DISTANCE,
        f"{detector}/x_pixel_size": DETECTOR_PIXEL,
        f"{detector}/y_pixel_size": DETECTOR_PIXEL,
        "entry_1/instrument_1/source_1/energy": 1.23984198e-6 / WAVELENGTH * 1.602176634e-19,
        "entry_1/instrument_1/source_1/illumination": measurement()["probe"],
    } | more
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            if value is not None:
                file[key] = value


def test_cxi(tmp_path):
    """Downstream, x is to the left and y up: the sample moves to the left where the beam moves to the right on it."""
    raw, meters = measurement(dtype=np.uint16), np.pad(POSITIONS * PIXEL, ((0, 0), (0, 1)))
    mask = np.zeros((N, N), np.uint32)
    mask[0, 1], mask[2, 3], mask[4, 5] = 0x1000, 1, 0x1002
    dark = np.stack([np.full((N, N), 0.25), np.full((N, N), 0.75)])
    detector = "entry_1/instrument_1/detector_1"
    write_cxi(tmp_path / "a.cxi", raw["intensity"], meters, **{f"{detector}/mask": mask, f"{detector}/data_dark": dark})
    scan = convert(tmp_path / "a.cxi", tmp_path / "scan.npz")
    bad = np.zeros((N, N), bool)
    bad[2, 3] = bad[4, 5] = True
    np.testing.assert_array_equal(member(scan, "bad_pixels"), bad)
    assert_same(scan, raw["intensity"] * ~bad, raw["probe"])
    assert (member(scan, "background")[~bad] == 0.5).all()
    assert scan.metadata["pixel_size_m"] == pytest.approx(PIXEL)
    assert scan.metadata["wavelength_m"] == pytest.approx(WAVELENGTH)
    beam = convert(tmp_path / "a.cxi", tmp_path / "beam.npz", "--variant", "beam")
    np.testing.assert_allclose(offsets(beam), -EXPECTED, atol=1e-9)


@pytest.mark.parametrize("transposed", [False, True])
def test_cxi_basis_vectors_say_how_the_detector_is_turned(tmp_path, transposed):
    """Rows to the right and columns up: x of a position is then along rows, and y against columns."""
    raw, meters = measurement(), np.pad(POSITIONS * PIXEL, ((0, 0), (0, 1)))
    rows, columns = [-DETECTOR_PIXEL, 0, 0], [0, DETECTOR_PIXEL, 0]
    vectors = np.array([rows, columns])
    turned = np.swapaxes(raw["intensity"], 1, 2)[:, :, ::-1]
    detector = "entry_1/instrument_1/detector_1"
    more = {
        f"{detector}/basis_vectors": vectors.T if transposed else vectors,
        f"{detector}/x_pixel_size": None,
        f"{detector}/y_pixel_size": None,
        "entry_1/data_1/data": None,
        f"{detector}/data": turned,
        "entry_1/data_1/translation": None,
        "entry_1/sample_1/geometry_1/translation": meters,
    }
    write_cxi(tmp_path / "a.cxi", None, None, **more)
    scan = convert(tmp_path / "a.cxi", tmp_path / "scan.npz")
    np.testing.assert_array_equal(counts_of(scan), turned)
    np.testing.assert_allclose(offsets(scan), np.stack([-EXPECTED[:, 1], EXPECTED[:, 0]], axis=1), atol=1e-9)


def test_cxi_with_an_energy_in_another_unit_is_refused(tmp_path, capsys):
    raw, meters = measurement(), np.pad(POSITIONS * PIXEL, ((0, 0), (0, 1)))
    write_cxi(tmp_path / "a.cxi", raw["intensity"], meters, **{"entry_1/instrument_1/source_1/energy": 8000.0})
    convert(tmp_path / "a.cxi", tmp_path / "scan.npz", code=2)
    assert "--energy 8000, if it is in eV" in capsys.readouterr().err
    energy = 1.23984198e-6 / WAVELENGTH
    assert_same(convert(tmp_path / "a.cxi", tmp_path / "scan.npz", "--energy", energy), raw["intensity"])


def test_cxi_without_a_probe_names_the_options_that_give_one(tmp_path, capsys):
    raw, meters = measurement(), np.pad(POSITIONS * PIXEL, ((0, 0), (0, 1)))
    write_cxi(tmp_path / "a.cxi", raw["intensity"], meters, **{"entry_1/instrument_1/source_1/illumination": None})
    convert(tmp_path / "a.cxi", tmp_path / "scan.npz", code=2)
    assert "no probe; --probe FILE gives one, --estimate-probe DEFOCUS" in capsys.readouterr().err
    options = ("--estimate-probe", "1e-6", "--position-unit", "m")
    assert_same(convert(tmp_path / "a.cxi", tmp_path / "scan.npz", *options), raw["intensity"])


def write_ptyd(path, counts, links=False):
    """Two chunks of prepared data, the second of one frame less; in one file, or linked to as PtyPy links them."""
    with h5py.File(path, "w") as file:
        energy = 1.23984198e-9 / WAVELENGTH
        file.update({"meta/psize": [DETECTOR_PIXEL] * 2, "meta/energy": energy, "meta/distance": DISTANCE})
        file.update({"meta/center": [N / 2, N / 2], "meta/shape": [N, N]})
        weights = np.ones((N, N))
        weights[3, 2] = 0
        for number, rows in enumerate((slice(0, 7), slice(7, COUNT))):
            arrays = {
                "data": counts[rows],
                "positions": POSITIONS[rows, ::-1] * PIXEL,
                "weights": np.broadcast_to(weights, counts[rows].shape),
            }
            if links:
                with h5py.File(f"{path}.part{number:03d}", "w") as part:
                    part.update(arrays)
                file[f"chunks/{number}"] = h5py.ExternalLink(f"somewhere/{path.name}.part{number:03d}", "/")
            else:
                for key, array in arrays.items():
                    file[f"chunks/{number}/{key}"] = array


@pytest.mark.parametrize("links", [False, True])
def test_ptypy(tmp_path, links):
    """The object's first pixel is at (-3, -5) px; its origin and the positions say where a bright pixel is."""
    raw = measurement()
    write_ptyd(tmp_path / "a.ptyd", raw["intensity"], links)
    obj = np.ones((1, 50, 40), np.complex64)
    obj[0, 21, 17] = 0.5
    with h5py.File(tmp_path / "a.ptyr", "w") as file:
        file["content/probe/SscanG00/data"] = raw["probe"][None].astype(np.complex64)
        file["content/obj/SscanG00/data"] = obj
        file["content/obj/SscanG00/_origin"] = np.array([-5, -3]) * PIXEL
        file["content/obj/SscanG00/_psize"] = np.array([PIXEL, PIXEL])
    scan = convert(tmp_path / "a.ptyd", tmp_path / "a.ptyr", tmp_path / "scan.npz")
    bad = np.zeros((N, N), bool)
    bad[3, 2] = True
    np.testing.assert_array_equal(member(scan, "bad_pixels"), bad)
    assert_same(scan, raw["intensity"] * ~bad, raw["probe"])
    np.testing.assert_array_equal(scan.object[:], obj[0])
    np.testing.assert_allclose(np.stack([scan.xcoords, scan.ycoords], axis=1), POSITIONS + np.array([3, 5]))


def test_ptypy_reconstructions_have_no_frames_and_give_a_probe(tmp_path, capsys):
    raw = measurement()
    with h5py.File(tmp_path / "a.ptyr", "w") as file:
        file["content/probe/SscanG00/data"] = raw["probe"][None].astype(np.complex64)
        file["content/obj/SscanG00/data"] = np.ones((1, 50, 40), np.complex64)
    convert(tmp_path / "a.ptyr", tmp_path / "scan.npz", code=2)
    assert "wanted the .ptyd file with them, too" in capsys.readouterr().err
    write_ptyd(tmp_path / "a.ptyd", raw["intensity"])
    scan = convert(tmp_path / "a.ptyd", tmp_path / "scan.npz", "--probe", tmp_path / "a.ptyr")
    assert len(scan) == COUNT


def test_files_in_other_folders_are_linked_to_only_if_asked(tmp_path, capsys):
    raw = measurement()
    (tmp_path / "inside").mkdir()
    write_ptyd(tmp_path / "outside.ptyd", raw["intensity"])
    np.save(tmp_path / "probe.npy", raw["probe"])
    with h5py.File(tmp_path / "inside/a.ptyd", "w") as file:
        for group in ("meta", "chunks"):
            file[group] = h5py.ExternalLink("../outside.ptyd", f"/{group}")
    arguments = tmp_path / "inside/a.ptyd", tmp_path / "scan.npz", "--probe", tmp_path / "probe.npy"
    convert(*arguments, code=2)
    assert "in another folder" in capsys.readouterr().err
    assert len(convert(*arguments, "--follow-links")) == COUNT


def test_hxn(tmp_path):
    """The beamline's program turns an image by a quarter clockwise, moves the zero frequency, takes the root."""
    raw = measurement()
    turned = np.rot90(raw["intensity"], axes=(2, 1))
    assert turned[0, 0, 0] == raw["intensity"][0, N - 1, 0]
    with h5py.File(tmp_path / "scan_1.h5", "w") as file:
        file["diffamp"] = np.sqrt(np.fft.fftshift(turned, axes=(1, 2)))
        file["points"] = np.stack([-POSITIONS[:, 0], POSITIONS[:, 1]]) * PIXEL * 1e6
        file.update({"lambda_nm": WAVELENGTH * 1e9, "z_m": DISTANCE, "ccd_pixel_um": DETECTOR_PIXEL * 1e6})
    np.save(tmp_path / "probe.npy", raw["probe"])
    scan = convert(tmp_path / "scan_1.h5", tmp_path / "scan.npz", "--probe", tmp_path / "probe.npy")
    assert_same(scan, raw["intensity"], raw["probe"])
    assert scan.metadata["pixel_size_m"] == pytest.approx(PIXEL)


def as_matlab(array):
    """What MATLAB writes for an array: h5py finds its axes reversed, complex numbers as pairs."""
    array = np.ascontiguousarray(np.transpose(array))
    if not np.iscomplexobj(array):
        return array
    pairs = np.zeros(array.shape, [("real", "f8"), ("imag", "f8")])
    pairs["real"], pairs["imag"] = array.real, array.imag
    return pairs


def test_ptychoshelves(tmp_path):
    """MATLAB's window starts, counted from 1, at ceil((object - window) / 2) + position."""
    raw = measurement()
    height, width = 51, 40
    obj = np.ones((height, width), complex)
    obj[21, 17] = 0.5
    first = np.array([np.ceil((width - N) / 2), np.ceil((height - N) / 2)]) - 1  # counted from 0
    mask = np.zeros((N, N, COUNT))
    mask[0, 3] = 1
    path = tmp_path / "recon.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["fmag"] = as_matlab(np.fft.fftshift(np.sqrt(raw["intensity"]), axes=(1, 2)).transpose(1, 2, 0))
        file["fmask"] = as_matlab(np.fft.fftshift(mask, axes=(0, 1)))
        file["p/lambda"], file["p/dx_spec"] = [[WAVELENGTH]], as_matlab(np.array([[PIXEL, PIXEL]]))
        file["outputs/probe_positions"] = as_matlab(POSITIONS - N // 2 - first)
        file["probe"] = as_matlab(np.stack([raw["probe"], 0.1j * raw["probe"]], axis=-1))
        file["object"] = as_matlab(obj)
    with path.open("r+b") as block:
        block.write(b"MATLAB 7.3 MAT-file")
    scan = convert(path, tmp_path / "scan.npz")
    bad = mask[:, :, 0] != 0
    np.testing.assert_array_equal(member(scan, "bad_pixels"), bad)
    assert_same(scan, raw["intensity"] * ~bad)
    np.testing.assert_allclose(np.stack([scan.xcoords, scan.ycoords], axis=1), POSITIONS)
    np.testing.assert_array_equal(scan.object[:], obj)
    np.testing.assert_allclose(scan.probe[1], 0.1j * scan.probe[0], rtol=1e-5)
    assert scan.metadata["wavelength_m"] == pytest.approx(WAVELENGTH)


INSTRUMENT = "entry_1/instrument_1"
PIXELS = {f"{INSTRUMENT}/detector_1/y_pixel_size": 2 * DETECTOR_PIXEL}


@pytest.mark.parametrize(
    ("more", "message", "option"),
    [
        ({"detector_1/distance": 0.0}, "is 0; wanted a number above 0, or --distance", ("--distance", DISTANCE)),
        ({"detector_1/distance": -1.0}, "is -1; wanted a number above 0, or --distance", ("--distance", DISTANCE)),
        (
            {"detector_1/distance": "2 m"},
            "is the text '2 m'; wanted a finite number, or --distance",
            ("--distance", DISTANCE),
        ),
        (
            {"source_1/energy": np.nan},
            "is nan; wanted a finite number, or --energy or --wavelength",
            ("--wavelength", WAVELENGTH),
        ),
        (
            {"source_1/energy": -1.0},
            "is -1; wanted a number above 0, or --energy or --wavelength",
            ("--wavelength", WAVELENGTH),
        ),
    ],
)
def test_a_length_of_a_cxi_that_is_none_is_named_and_an_option_replaces_it(tmp_path, capsys, more, message, option):
    raw, meters = measurement(), np.pad(POSITIONS * PIXEL, ((0, 0), (0, 1)))
    ((key, value),) = more.items()
    write_cxi(tmp_path / "a.cxi", raw["intensity"], meters, **{f"{INSTRUMENT}/{key}": value})
    convert(tmp_path / "a.cxi", tmp_path / "scan.npz", code=2)
    assert capsys.readouterr().err.splitlines()[-1] == f"ptycho: {tmp_path / 'a.cxi'}: '{INSTRUMENT}/{key}' {message}"
    scan = convert(tmp_path / "a.cxi", tmp_path / "scan.npz", *option)
    assert scan.metadata["pixel_size_m"] == pytest.approx(PIXEL)


def test_pixels_of_a_detector_that_are_not_square_name_the_option_that_replaces_them(tmp_path, capsys):
    raw, meters = measurement(), np.pad(POSITIONS * PIXEL, ((0, 0), (0, 1)))
    write_cxi(tmp_path / "a.cxi", raw["intensity"], meters, **PIXELS)
    convert(tmp_path / "a.cxi", tmp_path / "scan.npz", code=2)
    message = "pixels of 5e-05 × 0.0001 m, along x and y, of the detector; wanted square ones, or --detector-pixel"
    assert message in capsys.readouterr().err
    scan = convert(tmp_path / "a.cxi", tmp_path / "scan.npz", "--detector-pixel", DETECTOR_PIXEL)
    assert scan.metadata["pixel_size_m"] == pytest.approx(PIXEL)


@pytest.mark.parametrize(
    ("key", "plane", "found"),
    [
        ("mask", np.zeros((N, N - 1), np.uint32), f"is bool with shape ({N}, {N - 1})"),
        ("data_dark", np.zeros((3, N, N - 1)), f"is float64 with shape ({N}, {N - 1})"),
        ("data_dark", np.full((3, N, N), -1.0), "holds -1 somewhere"),
    ],
)
def test_a_plane_of_a_cxi_that_does_not_fit_is_named_as_in_the_file(tmp_path, capsys, key, plane, found):
    raw, meters = measurement(), np.pad(POSITIONS * PIXEL, ((0, 0), (0, 1)))
    write_cxi(tmp_path / "a.cxi", raw["intensity"], meters, **{f"{INSTRUMENT}/detector_1/{key}": plane})
    convert(tmp_path / "a.cxi", tmp_path / "scan.npz", code=2)
    assert f"a.cxi: '{INSTRUMENT}/detector_1/{key}' {found}; wanted" in capsys.readouterr().err
