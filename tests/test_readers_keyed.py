"""Readers of tike, ptychodus, PtychoPINN, paired files, HDF5 of your own. Every file is written here, by its layout."""

import bz2
import io

import h5py
import numpy as np
import pytest

from tests.raw_scans import (
    COUNT,
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


@pytest.mark.parametrize("wrong", [np.nan, "x", b"x", 1j, np.zeros(1, "V8"), np.datetime64(7, "s")], ids=str)
def test_a_number_of_a_product_that_is_none_is_refused(tmp_path, capsys, wrong):
    meters, obj = POSITIONS * PIXEL, np.ones((50, 40), complex)
    numbers, counts = np.arange(COUNT), measurement(dtype=np.uint16)["intensity"]
    product(tmp_path / "x.npz", "since", obj, (wrong, 0.0), numbers, meters, patterns=counts)
    convert(tmp_path / "x.npz", tmp_path / "scan.npz", code=2)
    assert "x.npz: 'object_center_x_m' is " in capsys.readouterr().err


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


def test_ptychodus_windows_are_where_the_frames_say(tmp_path, scan):
    """In its files of today a position is the middle of an even window, half a pixel before our pixel N/2."""
    probe, obj, count = scan.probe, scan.object[:], len(scan)
    counts = np.rint(np.square(scan.diffraction[:], dtype=np.float64)).astype(np.uint32)
    height, width = obj.shape
    for shift in (0.0, 0.5):
        x, y = scan.xcoords - shift - (width - 1) / 2, scan.ycoords - shift - (height - 1) / 2
        with h5py.File(tmp_path / "p.h5", "w") as file:
            file.update({"patterns": counts, "probe": probe[None], "object": obj[None], "costs": np.ones(2)})
            file.update({"probe_position_x_m": x * PIXEL, "probe_position_y_m": y * PIXEL})
            file.update({"probe_position_indexes": np.arange(count)})
            file.attrs["photon_energy_eV"] = 8000.0
            file["object"].attrs.update(
                {"center_x_m": 0.0, "center_y_m": 0.0, "pixel_width_m": PIXEL, "pixel_height_m": PIXEL}
            )
        converted = convert(tmp_path / "p.h5", tmp_path / "scan.npz")
        np.testing.assert_allclose(converted.xcoords, scan.xcoords)
        np.testing.assert_allclose(converted.ycoords, scan.ycoords)
        assert any(f"displaced by {shift:g} px" in step for step in converted.metadata["conversion"])


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
