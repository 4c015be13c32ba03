"""Scans as people have them, from public bug reports: each gets a line that a person understands, or is converted."""

import h5py
import numpy as np
import pytest

from tests.raw_scans import COUNT, N, convert, counts_of, measurement, member

RAW = measurement()
COUNTS, X, Y = RAW["intensity"], RAW["xcoords"], RAW["ycoords"]
FIFTH = np.arange(COUNT) == 5


def converted(folder, *options, code=0, **changes):
    """Convert the scan with some arrays changed."""
    np.savez(folder / "raw.npz", **{**RAW, **changes})
    return convert(folder / "raw.npz", folder / "scan.npz", *options, code=code)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64, np.float16, np.float32, ">u2", ">f4"]
)
def test_whole_counts_of_any_type_are_converted_exactly(tmp_path, dtype):
    frames = np.minimum(COUNTS, 120).astype(dtype)
    np.testing.assert_array_equal(counts_of(converted(tmp_path, intensity=frames)), np.minimum(COUNTS, 120))


def test_a_pickled_key_that_nobody_needs_is_skipped_and_one_that_is_needed_is_named(tmp_path, capsys):
    scan = converted(tmp_path, _metadata=np.array({"name": "x"}, object))
    assert "skipped: '_metadata', which is pickled" in scan.metadata["conversion"]
    scan.path.unlink()
    converted(tmp_path, code=2, xcoords=X.astype(object))
    assert "'xcoords' is pickled, and pickles are never read" in capsys.readouterr().err
    pickled = np.empty(COUNT, object)
    pickled[:] = list(COUNTS)
    converted(tmp_path, code=2, intensity=pickled)
    assert "'intensity' is pickled" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_a_position_that_is_none_or_far_away_is_named_and_left_out_if_asked(tmp_path, capsys, value):
    positions = np.where(FIFTH, value, X)
    converted(tmp_path, code=2, xcoords=positions)
    message = capsys.readouterr().err.splitlines()[-1]
    assert "exposure 5" in message
    assert "--leave-out 5" in message
    scan = converted(tmp_path, "--leave-out", "5", xcoords=positions)
    np.testing.assert_array_equal(counts_of(scan), COUNTS[~FIFTH])
    assert max(scan.object.shape) < 60


def test_as_many_exposures_as_pixels_leave_the_order_open(tmp_path, capsys):
    raw = measurement(count=N)
    last = {**raw, "intensity": np.moveaxis(raw["intensity"], 0, 2)}
    converted(tmp_path, code=2, **last)
    assert "--frames-last or --frames-first" in capsys.readouterr().err
    np.testing.assert_array_equal(counts_of(converted(tmp_path, "--frames-last", **last)), raw["intensity"])
    np.testing.assert_array_equal(counts_of(converted(tmp_path, "--frames-first", **raw)), raw["intensity"])


INVALID = {
    "NaN in the object": (
        {"objectGuess": np.full((60, 60), np.nan + 0j)},
        "'objectGuess' holds 3600 values that are not",
    ),
    "layers": (
        {"objectGuess": np.ones((3, 60, 60), complex)},
        "'objectGuess' is complex128 with shape (3, 60, 60); wanted one",
    ),
    "NaN in the probe": ({"probe": np.full((N, N), np.nan)}, "'probe' holds 256 values that are not finite"),
    "zero probe": ({"probe": np.zeros((N, N))}, "'probe' has Σ|P|² = 0"),
    "probe of another size": ({"probe": np.ones((8, 8))}, "the probe has 8 × 8 px; wanted 16 × 16"),
    "no frames": (
        {"intensity": COUNTS[:0], "xcoords": X[:0], "ycoords": Y[:0]},
        "'xcoords' is float64 with shape (0,); wanted at least one number",
    ),
    "no photons": ({"intensity": np.zeros_like(COUNTS)}, "no photon in any exposure"),
    "all gaps": ({"intensity": np.full(COUNTS.shape, -1)}, "no photon in any exposure"),
    "one axis": ({"intensity": COUNTS[0, 0]}, "'intensity' has shape (16,); wanted (M, N, N)"),
    "complex frames": ({"intensity": COUNTS + 0j}, "'intensity' is complex128; wanted counts or amplitudes"),
    "text positions": ({"xcoords": np.array(["a"] * COUNT)}, "'xcoords' is <U1 with shape (12,); wanted numbers"),
    "fewer y": ({"ycoords": Y[:-1]}, "'xcoords' has 12 positions but 'ycoords' 11; wanted as many"),
    "more frames": (
        {"xcoords": X[:9], "ycoords": Y[:9]},
        "'intensity' has 12 frames but 'xcoords' 9 positions; wanted one for each frame: --leave-out",
    ),
    "NaN in a frame": (
        {"intensity": np.where(FIFTH[:, None, None] & (np.arange(N) == 3), np.nan, COUNTS)},
        "in exposure 5, in pixels that have counts elsewhere: --leave-out these exposures",
    ),
    "dark subtracted": ({"intensity": COUNTS - 2.0}, "--background FILE --background-subtracted"),
    "in units of a detector": (
        {"intensity": COUNTS * 37.5},
        "all are multiples of 37.5: if that is one photon, G is 0.02666",
    ),
    "in units that float32 rounds": (
        {"intensity": (COUNTS * 1230.7).astype(np.float32)},
        "all are multiples of 1230.7: if that is one photon, G is 0.00081254571",
    ),
    "negative in the same pixels": (
        {"intensity": np.where(np.arange(N) == 3, -7, COUNTS)},
        f"negative values, down to -7, in exposure 0-11, in the same {N} px of all: wanted counts: --mask FILE",
    ),
    "normalized": (
        {"intensity": COUNTS / COUNTS.max()},
        "--photons-per-unit G multiplies by G and rounds (all are multiples",
    ),
    "nanometers": ({"xcoords": X * 20, "ycoords": Y * 20}, "--position-unit nm?"),
    "micrometers": ({"xcoords": X * 0.02, "ycoords": Y * 0.02}, "--position-unit um?"),
    "meters": ({"xcoords": X * 2e-8, "ycoords": Y * 2e-8}, "--position-unit m?"),
    "flux of another length": (
        {"exposure_scale": np.ones(3)},
        "'exposure_scale' has 3 values but 'intensity' 12 frames; wanted one for each",
    ),
    "mask of another shape": (
        {"bad_pixels": np.zeros((3, 3), bool)},
        "'bad_pixels' is bool with shape (3, 3); wanted that of a",
    ),
    "mask everywhere": ({"bad_pixels": np.ones((N, N), bool)}, "the mask leaves no pixel"),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_scan_gets_one_line(tmp_path, capsys, case):
    changes, message = INVALID[case]
    converted(tmp_path, code=2, **changes)
    last = capsys.readouterr().err.splitlines()[-1]
    assert message in last
    assert f"{tmp_path}" in last or "probe has" in last
    assert not (tmp_path / "scan.npz").exists()


def test_more_positions_than_frames_are_refused_with_numbers_and_taken_with_an_index(tmp_path, capsys):
    more = {"xcoords": np.append(X[::-1], X[:3]), "ycoords": np.append(Y[::-1], Y[:3])}
    converted(tmp_path, code=2, **more)
    message = "'intensity' has 12 frames but 'xcoords' 15 positions; wanted one for each frame: --position-index 0-11"
    assert message in capsys.readouterr().err
    index = np.arange(COUNT)[::-1].copy()
    np.testing.assert_allclose(np.diff(converted(tmp_path, **more, position_index=index).xcoords), np.diff(X))
    scan = converted(tmp_path, "--position-index", "12-14,8,7,6,5,4,3,2,1,0", **more)
    np.testing.assert_allclose(np.diff(scan.xcoords), np.diff(X))


@pytest.mark.parametrize(
    ("dtype", "gap", "dead"),
    [
        (np.uint32, 2**32 - 1, 2**32 - 2),
        (np.int32, -1, -2),
        (np.uint16, 2**16 - 1, 2**16 - 2),
        (np.uint16, 2**16 - 2, 2**16 - 2),
        (np.float32, np.nan, -2),
    ],
)
def test_gaps_and_dead_pixels_become_bad_pixels(tmp_path, dtype, gap, dead):
    """Eiger and Pilatus detectors mark dead pixels by a value of their own, beside that of gaps."""
    gaps = np.zeros((N, N), bool)
    gaps[5:7], gaps[:, 9] = True, True
    frames = np.where(gaps, gap, COUNTS)
    frames[:, 5, 9] = dead
    scan = converted(tmp_path, intensity=frames.astype(dtype))
    np.testing.assert_array_equal(member(scan, "bad_pixels"), gaps)
    np.testing.assert_array_equal(counts_of(scan), np.where(gaps, 0, COUNTS))
    assert not scan.diffraction[:][:, gaps].any()
    assert any(step.startswith(f"gaps: {gaps.sum()} px") for step in scan.metadata["conversion"])
    valid = np.sum(COUNTS[:, ~gaps])
    assert scan.metadata["dose"] > valid / COUNT


def test_saturated_pixels_are_counted_and_masked_if_asked(tmp_path):
    frames = np.minimum(COUNTS * 2000, 65535).astype(np.uint16)
    always, sometimes = (frames == 65535).all(axis=0), (frames == 65535).any(axis=0)
    scan = converted(tmp_path, intensity=frames)
    (said,) = [step for step in scan.metadata["conversion"] if "saturation" in step]
    assert "--mask-saturated masks them" in said
    np.testing.assert_array_equal(member(scan, "bad_pixels"), always)
    masked = converted(tmp_path, "--mask-saturated", intensity=frames)
    np.testing.assert_array_equal(member(masked, "bad_pixels"), sometimes)


def test_exposures_without_a_photon_are_left_out_and_named(tmp_path):
    frames = COUNTS.astype(np.int32)
    frames[3:5], frames[8] = 0, -1
    scan = converted(tmp_path, intensity=frames)
    assert any(step.startswith("exposures 3-4,8 hold no photon") for step in scan.metadata["conversion"])
    np.testing.assert_array_equal(member(scan, "scan_index"), [0, 1, 2, 5, 6, 7, 9, 10, 11])
    assert member(scan, "bad_pixels") is None


def test_frames_of_any_even_side_are_taken(tmp_path):
    for n in (10, 18, 100):
        raw = measurement(n)
        assert converted(tmp_path, **raw).n_pixels == n


def test_other_kinds_of_files_get_one_line(tmp_path, capsys):
    np.save(tmp_path / "frames.npy", COUNTS)
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    (tmp_path / "frames.pkl").write_bytes(b"\x80\x04.")
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "old.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128))
    (tmp_path / "positions.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    (tmp_path / "notes.doc").write_bytes(b"abc\0")
    messages = {
        "frames.npy": "one array without positions and probe",
        "other.npz": "a layout of no known format; found a",
        "frames.pkl": "pickles are never read",
        "empty.h5": "an empty file",
        "old.mat": "a MATLAB file before 7.3",
        "positions.csv": "a table without frames",
        "notes.doc": "no file of a known kind",
        "none.h5": "no such file",
        ".": "a folder; wanted a file",
    }
    for name, message in messages.items():
        convert(tmp_path / name, tmp_path / "scan.npz", code=2)
        output = capsys.readouterr().err
        assert message in output, name
        assert len(output.splitlines()) == 1


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_damaged_files_get_one_line(tmp_path, capsys, suffix):
    """Cut short anywhere, or with some bits flipped: refused in a line, or, where no checksum is hit, converted."""
    path, rng, codes = tmp_path / f"raw{suffix}", np.random.default_rng(0), []
    if suffix == ".npz":
        np.savez_compressed(path, **RAW)
    else:
        with h5py.File(path, "w") as file:
            for key, array in RAW.items():
                file.create_dataset(key, data=array, compression="gzip")
    whole = path.read_bytes()
    for attempt in range(30):
        data = bytearray(whole)
        if attempt % 2:
            del data[rng.integers(len(data)) :]
        for place in rng.integers(max(len(data), 1), size=8 * (1 - attempt % 2)):
            data[place] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        codes.append(run(path, tmp_path / "scan.npz"))
        lines = capsys.readouterr().err.splitlines()
        assert not codes[-1] or lines[-1].startswith("ptycho: ")
        (tmp_path / "scan.npz").unlink(missing_ok=True)
    assert set(codes) <= {0, 2}
    assert codes[1::2] == [2] * 15


def run(*files):
    from ptycho.cli.main import main

    return main(["convert", *map(str, files)])


def test_a_link_to_a_file_that_is_not_there_is_named(tmp_path, capsys):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["intensity"] = h5py.ExternalLink("gone.h5", "/intensity")
        file.update({key: RAW[key] for key in ("xcoords", "ycoords", "probe")})
    convert(tmp_path / "raw.h5", tmp_path / "scan.npz", code=2)
    assert "gone.h5, and there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["external", "virtual"])
def test_values_in_files_of_another_folder_are_not_read(tmp_path, capsys, kind):
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["intensity"] = COUNTS
    COUNTS.tofile(tmp_path / "secret.raw")
    with h5py.File(tmp_path / "in/raw.h5", "w") as file:
        file.update({key: RAW[key] for key in ("xcoords", "ycoords", "probe")})
        if kind == "external":
            outside = [(str(tmp_path / "secret.raw"), 0, COUNTS.nbytes)]
            file.create_dataset("intensity", COUNTS.shape, COUNTS.dtype, external=outside)
        else:
            layout = h5py.VirtualLayout(COUNTS.shape, COUNTS.dtype)
            layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "intensity", COUNTS.shape)
            file.create_virtual_dataset("intensity", layout)
    convert(tmp_path / "in/raw.h5", tmp_path / "scan.npz", code=2)
    assert "--follow-links reads it" in capsys.readouterr().err
    scan = convert(tmp_path / "in/raw.h5", tmp_path / "scan.npz", "--follow-links")
    np.testing.assert_array_equal(counts_of(scan), COUNTS)
