"""Readers of other programs' files. Every file is written here from the format's specification, by h5py and NumPy."""

import bz2
import io

import h5py
import numpy as np
import pytest

from tests.raw_scans import COUNT, N, convert, counts_of, measurement, member, offsets

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


PIXEL = 40e-9
"""Object pixel of the scans in physical units [m]."""
DISTANCE, DETECTOR_PIXEL = 2.0, 50e-6
WAVELENGTH = PIXEL * N * DETECTOR_PIXEL / DISTANCE


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


LAST = np.s_[::-1]


def product(path, version, obj, center, numbers, positions, **more):
    """Write a ptychodus product of HDF5 or NPZ, in the layout before 1.7 or since."""
    energy = "photon_energy_eV" if version == "since" else "probe_energy_eV"
    attributes = {energy: 1.23984198e-6 / WAVELENGTH, "detector_object_distance_m": DISTANCE, "name": "x"}
    arrays = {
        "probe": measurement()["probe"][None, None],
        "object": obj,
        "object_layer_spacing_m": np.zeros(0),
        "probe_position_indexes": numbers,
        "probe_position_x_m": positions[:, 0],
        "probe_position_y_m": positions[:, 1],
        "costs" if version == "before" else "loss_values": np.ones(3),
    }
    pixels = {"pixel_height_m": PIXEL, "pixel_width_m": PIXEL}
    centers = {"center_x_m": center[0], "center_y_m": center[1]}
    if path.suffix == ".npz":
        prefixed = {f"{of}_{key}": value for of in ("object", "probe") for key, value in pixels.items()}
        prefixed |= {f"object_{key}": value for key, value in centers.items()}
        np.savez(path, **attributes, **arrays, **prefixed, **more)
        return
    with h5py.File(path, "w") as file:
        file.update(arrays | more)
        file.attrs.update(attributes)
        file["probe"].attrs.update(pixels)
        file["object"].attrs.update(pixels | centers)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize("version", ["before", "since"])
def test_ptychodus_matches_by_index_and_keeps_the_center_of_its_version(tmp_path, suffix, version):
    """A bright pixel of the object says where position and object are: half a pixel apart in the two versions."""
    raw = measurement()
    obj = np.ones((1, 50, 40), np.complex64)
    obj[0, 21, 17] = 0.5
    center = (1e-6, 2e-6)
    middle = np.array([40, 50]) / 2 - (0.5 if version == "since" else 0)
    meters = (POSITIONS - middle) * PIXEL + center
    product(tmp_path / f"p{suffix}", version, obj, center, np.arange(COUNT)[LAST] + 100, meters[LAST])
    frames = {"patterns": raw["intensity"].astype(np.uint16), "indexes": np.arange(COUNT) + 100}
    frames["bad_pixels"] = np.zeros((N, N), bool)
    if suffix == ".npz":
        np.savez_compressed(tmp_path / "d.npz", **frames)
    else:
        with h5py.File(tmp_path / "d.h5", "w") as file:
            for key, array in frames.items():
                file.create_dataset(key, data=array, compression="lzf")
    scan = convert(tmp_path / f"d{suffix}", tmp_path / f"p{suffix}", tmp_path / "scan.npz")
    assert_same(scan, raw["intensity"], raw["probe"])
    np.testing.assert_allclose(np.stack([scan.xcoords, scan.ycoords], axis=1), POSITIONS)
    np.testing.assert_array_equal(scan.object[:], obj[0])
    assert scan.metadata["pixel_size_m"] == pytest.approx(PIXEL)


def test_ptychodus_without_a_version_is_asked_for_the_center(tmp_path, capsys):
    raw, obj = measurement(), np.ones((50, 40), np.complex64)
    meters = (POSITIONS - np.array([20, 25])) * PIXEL
    product(tmp_path / "p.h5", "unknown", obj, (0, 0), np.arange(COUNT), meters, patterns=raw["intensity"])
    convert(tmp_path / "p.h5", tmp_path / "scan.npz", code=2)
    assert "where the center of the object is: --variant before-1.7, --variant since-1.7" in capsys.readouterr().err
    scan = convert(tmp_path / "p.h5", tmp_path / "scan.npz", "--variant", "before-1.7")
    np.testing.assert_allclose(scan.xcoords, POSITIONS[:, 0])
    scan = convert(tmp_path / "p.h5", tmp_path / "scan.npz", "--variant", "since-1.7")
    np.testing.assert_allclose(scan.xcoords, POSITIONS[:, 0] - 0.5)
    assert_same(convert(tmp_path / "p.h5", tmp_path / "scan.npz", "--without-object"), raw["intensity"])


def test_ptychodus_frames_without_a_position_are_left_out(tmp_path):
    raw, obj = measurement(), np.ones((50, 40), np.complex64)
    kept = [0, 1, 2, 5, 6, 9]
    meters = (POSITIONS[kept] - np.array([20, 25])) * PIXEL
    product(tmp_path / "p.h5", "before", obj, (0, 0), np.array(kept), meters, patterns=raw["intensity"])
    scan = convert(tmp_path / "p.h5", tmp_path / "scan.npz")
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"][kept])
    np.testing.assert_array_equal(member(scan, "scan_index"), kept)
    np.testing.assert_allclose(scan.ycoords, POSITIONS[kept, 1])


def pinn_arrays(frames, **more):
    raw = measurement()
    return {
        "diff3d": frames,
        "xcoords": raw["xcoords"],
        "ycoords": raw["ycoords"],
        "xcoords_start": raw["xcoords"],
        "ycoords_start": raw["ycoords"],
        "scan_index": np.zeros(COUNT, int),
        "probeGuess": raw["probe"],
        "objectGuess": np.ones((60, 60), complex),
        "_metadata": np.array({"name": "x"}, object),
    } | more


def test_ptychopinn_floats_are_asked_for(tmp_path, capsys):
    """Amplitudes of its old contract are scaled: no value shows what they are."""
    counts = measurement()["intensity"]
    scale = (N / 2) ** 2 / counts.sum(axis=(1, 2)).mean()
    np.savez(tmp_path / "p.npz", **pinn_arrays(np.sqrt(counts * scale).astype(np.float32)))
    convert(tmp_path / "p.npz", tmp_path / "scan.npz", code=2)
    assert "--quantity counts or --quantity amplitude" in capsys.readouterr().err
    convert(tmp_path / "p.npz", tmp_path / "scan.npz", "--variant", "legacy_v1", code=2)
    assert "--photons-per-unit" in capsys.readouterr().err
    options = ("--variant", "legacy_v1", "--photons-per-unit", 1 / scale)
    scan = convert(tmp_path / "p.npz", tmp_path / "scan.npz", *options)
    assert_same(scan, counts, measurement()["probe"])
    assert "skipped: '_metadata', which is pickled" in scan.metadata["conversion"]


def test_ptychopinn_counts_frames_last_and_more_positions(tmp_path):
    raw = measurement()
    arrays = pinn_arrays(np.moveaxis(raw["intensity"], 0, 2).astype(np.float32))
    np.savez(tmp_path / "p.npz", **arrays)
    assert_same(convert(tmp_path / "p.npz", tmp_path / "scan.npz"), raw["intensity"], raw["probe"])
    index = np.array([4, 0, 7, 9])
    arrays = pinn_arrays(raw["intensity"][index], scan_index=index, scale_contract_version="ci_intensity_v2")
    np.savez(tmp_path / "more.npz", **arrays)
    scan = convert(tmp_path / "more.npz", tmp_path / "scan.npz")
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"][index])
    np.testing.assert_allclose(scan.xcoords, raw["xcoords"][index])


def test_paired_files_ask_how_they_are_turned(tmp_path, capsys):
    raw = measurement(dtype=np.uint32)
    with h5py.File(tmp_path / "x_dp.hdf5", "w") as file:
        file["dp"] = np.swapaxes(raw["intensity"], 1, 2)
    with h5py.File(tmp_path / "x_para.hdf5", "w") as file:
        file.update(
            {"ppX": -POSITIONS[:, :1] * PIXEL, "ppY": -POSITIONS[:, 1:] * PIXEL, "lambda": WAVELENGTH, "dx": PIXEL}
        )
        file["probe"] = raw["probe"].T
    files = tmp_path / "x_dp.hdf5", tmp_path / "x_para.hdf5", tmp_path / "scan.npz"
    convert(*files, code=2)
    message = capsys.readouterr().err
    assert "leaves open how frames and positions are oriented: --variant matlab" in message
    scan = convert(*files, "--variant", "matlab")
    assert_same(scan, raw["intensity"], raw["probe"])
    assert scan.metadata["wavelength_m"] == pytest.approx(WAVELENGTH)
    scan = convert(*files, "--variant", "unchanged")
    np.testing.assert_array_equal(counts_of(scan), np.swapaxes(raw["intensity"], 1, 2))
    np.testing.assert_allclose(offsets(scan), -EXPECTED, atol=1e-9)
    scan = convert(*files, "--negate-positions", "--transpose")
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"])
    np.testing.assert_allclose(offsets(scan), EXPECTED, atol=1e-9)
    convert(files[0], files[2], code=2)
    assert "wanted the file X_para.hdf5, too" in capsys.readouterr().err


def test_paired_files_may_hold_a_product(tmp_path):
    raw = measurement(dtype=np.uint32)
    with h5py.File(tmp_path / "x_dp.hdf5", "w") as file:
        file["dp"] = raw["intensity"]
    meters = (POSITIONS - np.array([20, 25])) * PIXEL
    product(tmp_path / "x_para.hdf5", "before", np.ones((50, 40), complex), (0, 0), np.arange(COUNT), meters)
    scan = convert(tmp_path / "x_para.hdf5", tmp_path / "x_dp.hdf5", tmp_path / "scan.npz")
    assert_same(scan, raw["intensity"], raw["probe"])
    np.testing.assert_allclose(scan.xcoords, POSITIONS[:, 0])


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
