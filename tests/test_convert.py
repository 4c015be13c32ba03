"""`ptycho convert`: orientation, crop, bins, padding, units, exposures, each against an array made in another way."""

import numpy as np
import pytest

from ptycho.data.npz import Npz
from ptycho.formats.frames import FrameTransform
from ptycho.formats.options import join_numbers, parse_numbers
from ptycho.physics.forward import predict_intensity
from tests.raw_scans import COUNT, N, convert, counts_of, member, offsets


def test_counts_positions_and_probe_are_taken_over(source, raw, tmp_path):
    scan = convert(source, tmp_path / "scan.npz")
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"])
    np.testing.assert_allclose(
        offsets(scan), np.stack([raw["xcoords"] - raw["xcoords"][0], raw["ycoords"] - raw["ycoords"][0]], 1)
    )
    ratio = scan.probe[0] / raw["probe"]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    predicted = predict_intensity(scan.object[:], scan.probe, scan.xcoords, scan.ycoords).sum()
    assert predicted == pytest.approx(raw["intensity"].sum(), rel=1e-3)
    assert scan.metadata["dose"] == pytest.approx(np.sum(np.abs(scan.probe) ** 2), rel=1e-5)
    assert scan.metadata["measured"] is True
    assert scan.metadata["source"] == "raw.npz"
    with Npz(scan.path) as file:
        file.check("diffraction", "xcoords", "objectGuess")


def test_what_is_applied_is_printed_and_kept(source, tmp_path, capsys):
    scan = convert(source, tmp_path / "scan.npz", "--flip-x", "--negate-y")
    steps = scan.metadata["conversion"]
    assert steps[0] == "read as plain NPZ or HDF5"
    assert {"frames: columns reversed", "positions: y negated", "probe: 'probe', 1 mode"} <= set(steps)
    output = capsys.readouterr()
    assert output.out.endswith(
        f"scan.npz: {COUNT} exposures of {N} × {N} px, a probe of {scan.metadata['dose']:.0f} photons\n"
    )
    printed = output.err.splitlines()
    assert [line for line in printed if line in steps] == steps
    rest = [line for line in printed if line not in steps]
    assert rest[0].startswith("mean pattern: center of mass at row")
    assert rest[1].startswith("photons per exposure: median")
    assert len(rest) == 2


ORIENTATIONS = {
    ("--transpose",): lambda r, c: (c, r),
    ("--flip-x",): lambda r, c: (r, N - 1 - c),
    ("--flip-y",): lambda r, c: (N - 1 - r, c),
    ("--flip-x", "--flip-y"): lambda r, c: (N - 1 - r, N - 1 - c),
    ("--transpose", "--flip-x"): lambda r, c: (N - 1 - c, r),
    ("--transpose", "--flip-y"): lambda r, c: (c, N - 1 - r),
    ("--transpose", "--flip-x", "--flip-y"): lambda r, c: (N - 1 - c, N - 1 - r),
    ("--zero-frequency", "corner"): lambda r, c: ((r + N // 2) % N, (c + N // 2) % N),
    ("--zero-frequency", "center"): lambda r, c: (r, c),
    ("--flip-x", "--zero-frequency", "corner"): lambda r, c: ((r + N // 2) % N, (N - 1 - c + N // 2) % N),
}
"""Options -> where in the file's frame the value of pixel (row, column) stands."""


@pytest.mark.parametrize("options", ORIENTATIONS)
def test_an_orientation_moves_the_pixels_of_frames_and_mask(source, raw, tmp_path, options):
    mask = np.zeros((N, N), bool)
    mask[2, 5] = mask[11, 3] = True
    np.save(tmp_path / "mask.npy", mask)
    scan = convert(source, tmp_path / "scan.npz", "--mask", tmp_path / "mask.npy", *options)
    counts, bad = counts_of(scan), member(scan, "bad_pixels")
    for row, column in np.ndindex(N, N):
        place = ORIENTATIONS[options](row, column)
        assert bad[row, column] == mask[place]
        np.testing.assert_array_equal(counts[:, row, column], 0 if mask[place] else raw["intensity"][:, *place])


@pytest.mark.parametrize(
    ("options", "x", "y"),
    [
        (["--negate-positions"], -1j, -1),
        (["--negate-x"], -1j, 1),
        (["--negate-y"], 1j, -1),
        (["--swap-positions"], 1, 1j),
        (["--swap-positions", "--negate-x"], -1, 1j),
        (["--negate-positions", "--negate-x"], 1j, -1),
    ],
)
def test_an_orientation_of_positions_moves_no_pixel(source, raw, tmp_path, options, x, y):
    """x and y are what becomes of them, as factors of y + ix."""
    scan = convert(source, tmp_path / "scan.npz", *options)
    expected = [np.real(f) * raw["ycoords"] + np.imag(f) * raw["xcoords"] for f in (x, y)]
    np.testing.assert_allclose(offsets(scan), np.stack([axis - axis[0] for axis in expected], axis=1), atol=1e-12)
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"])


def test_a_crop_keeps_the_zero_frequency_and_the_scale_of_positions(source, raw, tmp_path):
    scan = convert(source, tmp_path / "scan.npz", "--crop", "12")
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"][:, 2:14, 2:14])
    whole = convert(source, tmp_path / "whole.npz")
    np.testing.assert_allclose(offsets(scan), offsets(whole) * 12 / 16)
    scan = convert(source, tmp_path / "scan.npz", "--crop", "8", "--center", "9,6")
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"][:, 5:13, 2:10])


def test_binning_adds_counts_and_keeps_the_pixel_of_the_object(source, raw, tmp_path):
    scan = convert(source, tmp_path / "scan.npz", "--bin", "2")
    expected = np.zeros((COUNT, 8, 8), np.int64)
    for row, column in np.ndindex(N, N):
        expected[:, row // 2, column // 2] += raw["intensity"][:, row, column]
    np.testing.assert_array_equal(counts_of(scan), expected)
    np.testing.assert_allclose(offsets(scan), offsets(convert(source, tmp_path / "whole.npz")))
    ratio = scan.probe[0] / raw["probe"][4:12, 4:12]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_padding_adds_bad_pixels_and_predicts_the_same_frames(source, raw, tmp_path):
    scan = convert(source, tmp_path / "scan.npz", "--pad", "20")
    bad = np.ones((20, 20), bool)
    bad[2:18, 2:18] = False
    np.testing.assert_array_equal(member(scan, "bad_pixels"), bad)
    np.testing.assert_array_equal(counts_of(scan)[:, 2:18, 2:18], raw["intensity"])
    assert not counts_of(scan)[:, bad].any()
    whole = convert(source, tmp_path / "whole.npz")
    np.testing.assert_allclose(offsets(scan), offsets(whole) * 20 / 16)
    there, here = (
        np.fft.fftshift(np.abs(np.fft.fft2(np.fft.ifftshift(s.probe[0]), norm="ortho"))) for s in (whole, scan)
    )
    np.testing.assert_allclose(here[2:18, 2:18], there, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop", "17"], "--crop 17: wanted an even number of pixels up to 16"),
        (["--bin", "3"], "--bin 3: 16 px are no multiple of 3; --crop 15 first"),
        (["--pad", "15"], "--pad 15: wanted an even number of pixels, at least 16"),
        (["--center", "8,8"], "--center says where to crop"),
        (["--leave-out", "5-99"], "--leave-out 5-99: the file has exposures 0-11"),
        (["--leave-out", "a"], "--leave-out a: wanted numbers and ranges"),
        (["--photons-per-unit", "-1"], "--photons-per-unit -1: wanted a number above 0"),
        (["--position-unit", "nm"], "positions in nm, but no size of an object pixel"),
        (["--format", "none"], "--format none; wanted one of"),
        (["--variant", "new"], "--variant new: plain NPZ or HDF5 has none"),
        (["--energy", "0"], "--energy 0: wanted a number above 0"),
        (["--mask", "none.npy"], "none.npy: no such file"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_in_a_line(source, tmp_path, capsys, options, message):
    convert(source, tmp_path / "scan.npz", *options, code=2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("ptycho: ")
    assert message in last
    assert not (tmp_path / "scan.npz").exists()


@pytest.mark.parametrize("shape", [(COUNT, 15, 15), (COUNT, 16, 14)])
def test_frames_without_an_even_square_name_the_options_that_make_one(tmp_path, raw, capsys, shape):
    frames = np.ones(shape, np.int64)
    np.savez(tmp_path / "odd.npz", **{**raw, "intensity": frames, "probe": np.ones(shape[1:])})
    convert(tmp_path / "odd.npz", tmp_path / "scan.npz", code=2)
    refusal = capsys.readouterr().err
    assert "--crop 14" in refusal
    assert ("or fewer, and --center" in refusal) == (shape[1] != shape[2])
    assert convert(tmp_path / "odd.npz", tmp_path / "scan.npz", "--crop", "14", "--position-unit", "px").n_pixels == 14


def test_units_and_lengths_give_pixels(tmp_path, raw):
    pixel = 1.23984198e-6 / 8000 * 2.0 / (N * 75e-6)
    np.savez(
        tmp_path / "um.npz", **{**raw, "xcoords": raw["xcoords"] * pixel * 1e6, "ycoords": raw["ycoords"] * pixel * 1e6}
    )
    lengths = ["--energy", "8000", "--distance", "2", "--detector-pixel", "75e-6"]
    scan = convert(tmp_path / "um.npz", tmp_path / "scan.npz", "--position-unit", "\u00b5m", *lengths)
    np.testing.assert_allclose(offsets(scan)[:, 0], raw["xcoords"] - raw["xcoords"][0])
    assert scan.metadata["pixel_size_m"] == pytest.approx(pixel)
    assert scan.metadata["wavelength_m"] == pytest.approx(1.549802e-10, rel=1e-5)
    scan = convert(
        tmp_path / "um.npz", tmp_path / "scan.npz", "--position-unit", "um", "--pixel-size", pixel, "--crop", "8"
    )
    assert scan.metadata["pixel_size_m"] == pytest.approx(2 * pixel)
    np.testing.assert_allclose(offsets(scan)[:, 0], (raw["xcoords"] - raw["xcoords"][0]) / 2)


def test_exposures_are_left_out_and_named(source, raw, tmp_path):
    scan = convert(source, tmp_path / "scan.npz", "--leave-out", "0,5-7")
    kept = [1, 2, 3, 4, 8, 9, 10, 11]
    np.testing.assert_array_equal(counts_of(scan), raw["intensity"][kept])
    np.testing.assert_array_equal(member(scan, "scan_index"), kept)
    np.testing.assert_allclose(np.diff(scan.xcoords), np.diff(raw["xcoords"][kept]))


def test_an_object_is_taken_over_unless_positions_are_changed(tmp_path, raw):
    obj = np.exp(1j * np.random.default_rng(2).random((60, 60)))
    np.savez(tmp_path / "raw.npz", **raw, objectGuess=obj)
    scan = convert(tmp_path / "raw.npz", tmp_path / "scan.npz")
    np.testing.assert_allclose(scan.object[:], obj, rtol=1e-6)
    np.testing.assert_array_equal(scan.xcoords, raw["xcoords"])
    for options in (["--without-object"], ["--swap-positions"], ["--crop", "12"]):
        scan = convert(tmp_path / "raw.npz", tmp_path / "scan.npz", *options)
        assert (scan.object[:] == 1).all()


@pytest.mark.parametrize("with_object", [True, False])
def test_a_position_beyond_all_integers_is_refused(tmp_path, raw, capsys, with_object):
    obj = {"objectGuess": np.ones((60, 60), complex)} if with_object else {}
    np.savez(tmp_path / "raw.npz", **{**raw, "xcoords": np.full(len(raw["xcoords"]), 1e300)}, **obj)
    convert(tmp_path / "raw.npz", tmp_path / "scan.npz", code=2)
    assert "raw.npz: a position of 1e+300 px; wanted at most 1e+12" in capsys.readouterr().err


def test_lists_of_numbers_are_read_and_written():
    np.testing.assert_array_equal(parse_numbers("5,17-19", "--leave-out"), [5, 17, 18, 19])
    assert join_numbers([19, 17, 5, 18]) == "5,17-19"
    for text in ("", "3-1", "1,,2", "-4", "1-999999999999"):
        with pytest.raises(ValueError, match="wanted numbers and ranges"):
            parse_numbers(text, "--leave-out")


@pytest.mark.parametrize("corner", [False, True])
def test_the_transform_of_a_mask_is_that_of_frames(corner):
    transform = FrameTransform(shape=(18, 22), transpose=True, flip_y=True, corner=corner, crop=16, bin=2, pad=10)
    bad = np.random.default_rng(0).random((18, 22)) < 0.05
    counts = transform.counts(bad.astype(float))
    assert transform.n_pixels == 10
    np.testing.assert_array_equal((counts > 0)[1:9, 1:9], transform.bad_pixels(bad)[1:9, 1:9])
    assert transform.bad_pixels(bad)[0].all()
