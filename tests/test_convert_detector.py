"""`ptycho convert`: photons per unit, background, flux and mask, and the probe."""

import re

import h5py
import numpy as np
import pytest

from ptycho.physics.forward import diffract
from tests.raw_scans import COUNT, N, convert, counts_of, measurement, member


def test_photons_per_unit_rounds_and_says_the_loss(tmp_path, raw):
    np.savez(tmp_path / "adu.npz", **{**raw, "intensity": raw["intensity"] * 37.5 + 9.375})
    scan = convert(tmp_path / "adu.npz", tmp_path / "scan.npz", "--photons-per-unit", 1 / 37.5)
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"])
    assert scan.metadata["photons_per_unit"] == pytest.approx(1 / 37.5)
    (loss,) = [step for step in scan.metadata["conversion"] if "rounded" in step]
    assert "0.25 photons rms" in loss
    share = -0.25 * raw["intensity"].size / (raw["intensity"] + 0.25).sum()
    assert f"changed by {share:.2%}" in loss


def test_a_background_is_kept_and_added_where_it_was_subtracted(tmp_path, raw):
    background = np.random.default_rng(1).integers(1, 4, (N, N))
    np.save(tmp_path / "dark.npy", background)
    np.savez(tmp_path / "dark.npz", **{**raw, "intensity": (raw["intensity"] - background).astype(np.float32)})
    options = ["--background", tmp_path / "dark.npy", "--background-subtracted", "--flip-x"]
    scan = convert(tmp_path / "dark.npz", tmp_path / "scan.npz", *options)
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"][:, :, ::-1])
    np.testing.assert_array_equal(member(scan, "background"), background[:, ::-1])
    assert member(scan, "background").dtype == np.float32
    np.savez(tmp_path / "raw.npz", **raw)
    kept = convert(tmp_path / "raw.npz", tmp_path / "kept.npz", "--background", "0.5")
    assert (member(kept, "background") == 0.5).all()
    assert np.sum(np.abs(kept.probe) ** 2) == pytest.approx(raw["intensity"].sum() / COUNT - 0.5 * N * N, rel=0.01)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1e9, r"raw.npz: the background, {}, has 3\.9\d*e\+06 photons per pixel, the frames .*; wanted less"),
        (1e300, r"{}: a background of 1e\+300 somewhere; wanted mean counts, 0 to 1e\+30"),
        (np.nan, r"{}: a background of nan somewhere; wanted mean counts, 0 to 1e\+30"),
    ],
)
def test_a_background_that_leaves_nothing_is_refused_by_name(tmp_path, source, capsys, value, message):
    background = np.zeros((N, N))
    background[3, 5] = value
    np.save(tmp_path / "dark.npy", background)
    convert(source, tmp_path / "scan.npz", "--background", tmp_path / "dark.npy", code=2)
    assert re.search(message.format(re.escape(str(tmp_path / "dark.npy"))), capsys.readouterr().err)


def test_flux_is_kept_with_mean_one(tmp_path, raw):
    flux = np.linspace(1, 3, COUNT)
    np.savez(tmp_path / "flux.npz", **raw, exposure_scale=flux)
    scan = convert(tmp_path / "flux.npz", tmp_path / "scan.npz", "--leave-out", "0")
    np.testing.assert_allclose(member(scan, "exposure_scale"), flux[1:] / flux[1:].mean())


def test_flux_comes_from_a_file_or_from_the_frames(tmp_path, source, raw):
    flux = np.linspace(1, 3, COUNT)
    np.savetxt(tmp_path / "flux.txt", flux)
    np.save(tmp_path / "flux.npy", flux)
    for name in ("flux.txt", "flux.npy"):
        scan = convert(source, tmp_path / "scan.npz", "--exposure-scale", tmp_path / name)
        np.testing.assert_allclose(member(scan, "exposure_scale"), flux / flux.mean())
    scan = convert(source, tmp_path / "scan.npz", "--exposure-scale", "frames")
    totals = raw["intensity"].sum(axis=(1, 2))
    np.testing.assert_allclose(member(scan, "exposure_scale"), totals / totals.mean())


def test_a_mask_of_another_shape_is_refused_by_name(source, tmp_path, capsys):
    np.save(tmp_path / "mask.npy", np.zeros((3, 5), bool))
    convert(source, tmp_path / "scan.npz", "--mask", tmp_path / "mask.npy", code=2)
    message = "mask.npy: 'mask' is bool with shape (3, 5); wanted that of a frame in the file, ("
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("marks", ["bad", "good"])
def test_a_mask_without_a_sign_is_asked_for(tmp_path, raw, capsys, marks):
    mask = np.zeros((N, N), np.uint8)
    mask[3, 4] = 1
    np.savez(tmp_path / "mask.npz", **raw, mask=mask)
    convert(tmp_path / "mask.npz", tmp_path / "scan.npz", code=2)
    assert "--mask-marks bad or --mask-marks good" in capsys.readouterr().err
    scan = convert(tmp_path / "mask.npz", tmp_path / "scan.npz", "--mask-marks", marks)
    np.testing.assert_array_equal(member(scan, "bad_pixels"), mask == (marks == "bad"))


def test_a_probe_comes_from_another_file_or_from_the_mean_pattern(tmp_path, raw):
    probe = raw.pop("probe")
    np.savez(tmp_path / "raw.npz", **raw)
    np.save(tmp_path / "probe.npy", probe)
    scan = convert(tmp_path / "raw.npz", tmp_path / "scan.npz", "--probe", tmp_path / "probe.npy")
    ratio = scan.probe[0] / probe
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    scan = convert(tmp_path / "raw.npz", tmp_path / "scan.npz", "--estimate-probe", "0", "--position-unit", "px")
    pattern = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(scan.probe[0]), norm="ortho"))) ** 2
    np.testing.assert_allclose(pattern, raw["intensity"].mean(axis=0), rtol=1e-3, atol=1e-3)


def test_a_probe_of_the_mean_pattern_has_no_hot_pixels_which_would_hide_them(tmp_path, raw):
    np.savez(tmp_path / "raw.npz", **raw)
    wanted = convert(tmp_path / "raw.npz", tmp_path / "wanted.npz", "--estimate-probe", "0")
    assert not any("far above" in step for step in wanted.metadata["conversion"])
    raw["intensity"][:, 3, 4] = raw["intensity"][:, 3, 5] = 5000
    np.savez(tmp_path / "hot.npz", **raw)
    scan = convert(tmp_path / "hot.npz", tmp_path / "scan.npz", "--estimate-probe", "0")
    assert any("2 px far above all around, [3, 4], [3, 5], left out" in step for step in scan.metadata["conversion"])
    beams = [np.abs(diffract(probe[0])) ** 2 for probe in (scan.probe, wanted.probe)]
    first, second = (beam / beam.sum() for beam in beams)
    assert np.abs(first - second).sum() < 0.02


@pytest.mark.parametrize(
    ("option", "key", "array"),
    [
        ("--probe", "probe", measurement()["probe"]),
        ("--mask", "mask", np.eye(N, dtype=bool)),
        ("--background", "background", np.ones((N, N))),
        ("--exposure-scale", "exposure_scale", np.ones(COUNT)),
    ],
)
def test_links_of_the_files_of_options_are_followed_if_asked(tmp_path, source, capsys, option, key, array):
    (tmp_path / "inside").mkdir()
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file[key] = array
    with h5py.File(tmp_path / "inside/linked.h5", "w") as file:
        file[key] = h5py.ExternalLink("../outside.h5", key)
    arguments = source, tmp_path / "scan.npz", option, tmp_path / "inside/linked.h5"
    convert(*arguments, code=2)
    assert f"'{key}' is in another folder" in capsys.readouterr().err
    convert(*arguments, "--follow-links")
