"""Arrays that programs lay out differently, or that do not fit each other: taken rightly, or named as in the file."""

import h5py
import numpy as np
import pytest

from tests.raw_scans import (
    COUNT,
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
)
from tests.test_readers_hdf5 import INSTRUMENT, write_cxi, write_ptyd

COUNTS = measurement(dtype=np.uint16)["intensity"]
METERS = POSITIONS * PIXEL
BAD = np.zeros((N, N), bool)
BAD[4], BAD[9, 3] = True, True


def write(path, arrays):
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array


def hxn(**changes):
    turned = np.fft.fftshift(np.rot90(COUNTS, axes=(2, 1)), axes=(1, 2))
    arrays = {"diffamp": np.sqrt(turned), "points": np.stack([-METERS[:, 0], METERS[:, 1]]) * 1e6}
    return arrays | {"lambda_nm": WAVELENGTH * 1e9, "z_m": DISTANCE, "ccd_pixel_um": DETECTOR_PIXEL * 1e6} | changes


def ptylab(**changes):
    arrays = {"ptychogram": COUNTS, "encoder": METERS[:, ::-1], "wavelength": [WAVELENGTH], "zo": [[DISTANCE]]}
    return arrays | {"dxd": [[DETECTOR_PIXEL]]} | changes


def ptychodus(**changes):
    arrays = {"patterns": COUNTS, "indexes": np.arange(COUNT), "probe_position_indexes": np.arange(COUNT)}
    return arrays | {"probe_position_x_m": METERS[:, 0], "probe_position_y_m": METERS[:, 1]} | changes


def ptychoshelves(**changes):
    fourier = np.fft.fftshift(np.sqrt(COUNTS), axes=(1, 2)).swapaxes(1, 2)
    arrays = {"fmag": fourier, "outputs/probe_positions": POSITIONS.T, "p/lambda": [[WAVELENGTH]]}
    return arrays | {"p/dx_spec": [[PIXEL], [PIXEL]]} | changes


def paired(**changes):
    return {"dp": COUNTS, "ppX": METERS[:, 0], "ppY": METERS[:, 1], "lambda": WAVELENGTH, "dx": PIXEL} | changes


@pytest.fixture
def probe(tmp_path):
    """Options that give the probe."""
    np.save(tmp_path / "probe.npy", measurement()["probe"])
    return "--probe", tmp_path / "probe.npy"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (hxn(points=np.ones((2, 9))), f"'diffamp' has {COUNT} frames but 'points' 9 positions; wanted one for each"),
        (hxn(points=np.ones((3, COUNT))), f"'points' has shape (3, {COUNT}); wanted positions, (2, {COUNT})"),
        (ptylab(encoder=METERS[:9]), f"'ptychogram' has {COUNT} frames but 'encoder' 9 positions; wanted one for each"),
        (ptylab(encoder=METERS[:9].T), f"'ptychogram' has {COUNT} frames but 'encoder' 9 positions; wanted one for"),
        (
            ptychodus(indexes=np.arange(9)),
            f"'indexes' has 9 numbers but 'patterns' {COUNT} frames; wanted one for each",
        ),
        (
            ptychodus(probe_position_indexes=np.arange(9)),
            f"'probe_position_indexes' has 9 numbers but 'probe_position_x_m' {COUNT} positions; wanted one for each",
        ),
        (
            ptychodus(probe_position_y_m=METERS[:9, 1]),
            f"'probe_position_x_m' has {COUNT} positions but 'probe_position_y_m' 9; wanted as many",
        ),
        (ptylab(ptychogram=COUNTS[0]), f"'ptychogram' has shape ({N}, {N}); wanted (M, N, N) or (N, N, M)"),
        (ptychodus(bad_pixels=BAD[1:]), f"'bad_pixels' is bool with shape ({N - 1}, {N}); wanted that of a frame"),
        (
            ptychoshelves(**{"outputs/probe_positions": POSITIONS[:9].T}),
            f"'fmag' has {COUNT} frames but 'outputs/probe_positions' 9 positions; wanted one for each",
        ),
        (paired(ppY=METERS[:9, 1]), f"'ppX' has {COUNT} positions but 'ppY' 9; wanted as many"),
        (paired(ppX=METERS[:9, 0], ppY=METERS[:9, 1]), f"'dp' has {COUNT} frames but 'ppX' 9 positions; wanted one"),
    ],
)
def test_lengths_that_differ_are_named_as_in_the_file(tmp_path, capsys, probe, arrays, message):
    write(tmp_path / "a.h5", arrays)
    options = ("--transpose",) if "dp" in arrays else ("--pixel-size", PIXEL)
    convert(tmp_path / "a.h5", tmp_path / "scan.npz", *probe, *options, code=2)
    assert f"a.h5: {message}" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        ("positions", METERS[:6], "'chunks/0/data' has 7 frames but 'chunks/0/positions' 6 positions; wanted as many"),
        ("positions", np.ones((7, 3)), "'chunks/0/positions' has shape (7, 3); wanted positions, (7, 2)"),
        ("weights", np.ones((7, N, 3)), f"'chunks/0/weights' has shape (7, {N}, 3); wanted frames of ({N}, {N})"),
    ],
)
def test_a_chunk_of_ptypy_whose_arrays_do_not_fit_is_named(tmp_path, capsys, probe, key, array, message):
    """Positions of two chunks together may be as many as frames, and yet belong to others."""
    write_ptyd(tmp_path / "a.ptyd", COUNTS)
    with h5py.File(tmp_path / "a.ptyd", "a") as file:
        del file[f"chunks/0/{key}"]
        file[f"chunks/0/{key}"] = array
    convert(tmp_path / "a.ptyd", tmp_path / "scan.npz", *probe, code=2)
    assert f"a.ptyd: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arrays",
    [
        hxn(points=hxn()["points"].T),
        ptylab(encoder=METERS[:, ::-1].T),
        ptylab(ptychogram=np.moveaxis(COUNTS, 0, 2)),
        ptychoshelves(**{"outputs/probe_positions": POSITIONS}),
        ptychodus(patterns=np.moveaxis(COUNTS, 0, 2)),
    ],
)
def test_axes_in_another_order_are_known_by_their_lengths(tmp_path, probe, arrays):
    write(tmp_path / "a.h5", arrays)
    assert_same(convert(tmp_path / "a.h5", tmp_path / "scan.npz", *probe, "--pixel-size", PIXEL), COUNTS)


def test_an_order_of_axes_that_a_format_cannot_have_is_refused(tmp_path, capsys, probe):
    write(tmp_path / "a.h5", ptychoshelves())
    convert(tmp_path / "a.h5", tmp_path / "scan.npz", *probe, "--frames-last", code=2)
    assert "--frames-last: PtychoShelves has exposures first" in capsys.readouterr().err
    convert(tmp_path / "a.h5", tmp_path / "scan.npz", *probe, "--position-columns", "yx", code=2)
    assert "--position-columns yx: is for tables; --swap-positions" in capsys.readouterr().err


def test_a_cxi_whose_third_column_moves_in_place_of_the_first_is_refused(tmp_path, capsys):
    write_cxi(tmp_path / "a.cxi", COUNTS, np.stack([0 * METERS[:, 0], METERS[:, 1], METERS[:, 0]], axis=1))
    convert(tmp_path / "a.cxi", tmp_path / "scan.npz", code=2)
    message = "'entry_1/data_1/translation' has one x everywhere, but many z; wanted columns x, y, z"
    assert message in capsys.readouterr().err


MASK = f"{INSTRUMENT}/detector_1/mask"


def test_positions_of_a_grid_of_exposures_are_read_row_by_row(tmp_path):
    write_cxi(tmp_path / "a.cxi", COUNTS.reshape(3, 4, N, N), np.pad(METERS, ((0, 0), (0, 1))).reshape(3, 4, 3))
    assert_same(convert(tmp_path / "a.cxi", tmp_path / "scan.npz"), COUNTS)


def test_a_cxi_whose_frames_are_a_broken_link_or_an_image_names_where_they_belong(tmp_path, capsys):
    write_cxi(tmp_path / "a.cxi", h5py.SoftLink("/entry_1/nothing"), METERS)
    convert(tmp_path / "a.cxi", tmp_path / "scan.npz", code=2)
    assert f"neither 'entry_1/data_1/data' nor '{INSTRUMENT}/detector_1/data' leads to" in capsys.readouterr().err


def test_numbers_that_are_counted_from_another_one_are_asked_for(tmp_path, capsys, probe):
    """Matched by number, every frame would have the position of the next one."""
    write(tmp_path / "a.h5", ptychodus(indexes=np.arange(1, COUNT + 1)))
    options = (*probe, "--pixel-size", PIXEL)
    convert(tmp_path / "a.h5", tmp_path / "scan.npz", *options, code=2)
    message = f"{COUNT} frames are counted from 1 ('indexes'), as many positions from 0 ('probe_position_indexes')"
    assert f"{message}: --position-index 0-{COUNT - 1} takes" in capsys.readouterr().err
    in_order = convert(tmp_path / "a.h5", tmp_path / "scan.npz", *options, "--position-index", f"0-{COUNT - 1}")
    assert_same(in_order, COUNTS)
    by_number = convert(tmp_path / "a.h5", tmp_path / "scan.npz", *options, "--leave-out", COUNT - 1)
    np.testing.assert_allclose(np.diff(by_number.xcoords), np.diff(POSITIONS[1:, 0]))


@pytest.mark.parametrize("axis", [0, -1])
def test_real_and_imaginary_part_of_a_probe_are_not_taken_for_modes(tmp_path, capsys, axis):
    raw = measurement()
    parts = np.stack([raw["probe"].real, raw["probe"].imag], axis=axis)
    write_cxi(tmp_path / "a.cxi", COUNTS, METERS, **{f"{INSTRUMENT}/source_1/illumination": parts})
    convert(tmp_path / "a.cxi", tmp_path / "scan.npz", code=2)
    assert f"is float64 with shape {parts.shape}, real and imaginary part? wanted complex" in capsys.readouterr().err


def test_a_mask_that_marks_most_pixels_is_asked_what_it_marks(tmp_path, capsys):
    """The specification says that 0 is good; programs that mark good pixels by 1 do not."""
    write_cxi(tmp_path / "a.cxi", COUNTS, METERS, **{MASK: (~BAD).astype(np.uint8)})
    convert(tmp_path / "a.cxi", tmp_path / "scan.npz", code=2)
    share = f"'{MASK}' marks {(~BAD).sum()} px ({(~BAD).mean():.2%}); are those the good ones? --mask-marks good"
    assert share in capsys.readouterr().err
    np.save(tmp_path / "none.npy", np.zeros((N, N), bool))
    for options, bad in (
        (["--mask-marks", "good"], BAD),
        (["--mask-marks", "bad"], ~BAD),
        (["--mask-marks", "bad", "--mask", tmp_path / "none.npy"], ~BAD),
    ):
        scan = convert(tmp_path / "a.cxi", tmp_path / "scan.npz", *options)
        np.testing.assert_array_equal(member(scan, "bad_pixels"), bad)


@pytest.mark.parametrize("differ", [False, True])
def test_a_mask_of_every_exposure_masks_what_any_of_them_does(tmp_path, differ):
    stack = np.broadcast_to(BAD, (COUNT, N, N)).astype(np.uint32)
    stack[3, 0, 7] = differ
    bad = stack.any(axis=0)
    write_cxi(tmp_path / "a.cxi", COUNTS, METERS, **{MASK: stack})
    np.savez(tmp_path / "plain.npz", **{**measurement(), "bad_pixels": stack})
    for name in ("a.cxi", "plain.npz"):
        scan = convert(tmp_path / name, tmp_path / "scan.npz")
        np.testing.assert_array_equal(member(scan, "bad_pixels"), bad)
        said = [step for step in scan.metadata["conversion"] if "are bad in all exposures and 1 px in some" in step]
        assert len(said) == differ


@pytest.mark.parametrize(
    ("key", "value", "message", "options"),
    [
        ("energy", 8800.0, "'meta/energy': a photon energy of 8800 keV; --energy 8800, if it is in eV", "--energy"),
        ("energy", b"none", "'meta/energy' is the text 'none'; wanted a finite number, or --energy", "--wavelength"),
        ("psize", b"None", "'meta/psize' is the text 'None'; wanted a finite number, or --det", "--detector-pixel"),
        (
            "psize",
            np.array([1.0, 1.1]) * DETECTOR_PIXEL,
            "'meta/psize' is 5e-05 to 5.5e-05; wanted one number, or --det",
            "--detector-pixel",
        ),
        ("distance", np.full(COUNT, DISTANCE), None, None),
        ("distance", -2.0, "'meta/distance' is -2; wanted a number above 0, or --distance", "--distance"),
        ("energy", str(1.23984198e-9 / WAVELENGTH), None, None),
    ],
)
def test_a_length_of_ptypy_in_another_unit_or_none_is_replaced_by_an_option(
    tmp_path, capsys, probe, key, value, message, options
):
    write_ptyd(tmp_path / "a.ptyd", COUNTS)
    with h5py.File(tmp_path / "a.ptyd", "a") as file:
        del file[f"meta/{key}"]
        file[f"meta/{key}"] = value
    if message is not None:
        convert(tmp_path / "a.ptyd", tmp_path / "scan.npz", *probe, code=2)
        assert f"a.ptyd: {message}" in capsys.readouterr().err
        lengths = {"--energy": 1.23984198e-6 / WAVELENGTH, "--wavelength": WAVELENGTH, "--distance": DISTANCE}
        probe = (*probe, options, lengths.get(options, DETECTOR_PIXEL))
    scan = convert(tmp_path / "a.ptyd", tmp_path / "scan.npz", *probe)
    assert scan.metadata["pixel_size_m"] == pytest.approx(PIXEL)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_length_of_ptylab_is_named_as_in_the_file_and_replaced_by_an_option(tmp_path, capsys, probe, value):
    write(tmp_path / "a.h5", ptylab(wavelength=[value]))
    convert(tmp_path / "a.h5", tmp_path / "scan.npz", *probe, code=2)
    assert f"'wavelength' is {value:g}; wanted a number above 0, or --energy or --wave" in capsys.readouterr().err
    assert_same(convert(tmp_path / "a.h5", tmp_path / "scan.npz", *probe, "--wavelength", WAVELENGTH), COUNTS)


def test_an_energy_of_a_product_in_another_unit_is_asked_for(tmp_path, capsys, probe):
    write(tmp_path / "a.h5", ptychodus())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["photon_energy_eV"] = 8.8
    convert(tmp_path / "a.h5", tmp_path / "scan.npz", *probe, "--pixel-size", PIXEL, code=2)
    assert "'photon_energy_eV': a photon energy of 8.8 eV; --energy 8800, if it is in keV" in capsys.readouterr().err


def test_a_product_alone_is_asked_for_its_patterns(tmp_path, capsys):
    write(tmp_path / "a.h5", {key: array for key, array in ptychodus().items() if key.startswith("probe")})
    convert(tmp_path / "a.h5", tmp_path / "scan.npz", code=2)
    assert "a product without patterns; wanted the file of its diffraction data, too" in capsys.readouterr().err


def test_whole_numbers_where_a_format_has_amplitudes_are_asked_for(tmp_path, capsys, probe):
    write(tmp_path / "a.h5", hxn(diffamp=np.rint(np.square(hxn()["diffamp"]))))
    convert(tmp_path / "a.h5", tmp_path / "scan.npz", *probe, code=2)
    message = "'diffamp' should be amplitudes, but holds whole numbers alone, as of counts: --quantity counts"
    assert message in capsys.readouterr().err
    assert_same(convert(tmp_path / "a.h5", tmp_path / "scan.npz", *probe, "--quantity", "counts"), COUNTS)


def test_a_pickled_probe_is_named_with_the_options_in_its_place(tmp_path, capsys, probe):
    raw = measurement()
    np.savez(tmp_path / "a.npz", **{**raw, "probe": raw["probe"].astype(object)})
    convert(tmp_path / "a.npz", tmp_path / "scan.npz", code=2)
    assert "leaves open the probe: 'probe' is pickled, and pickles are never read: --probe" in capsys.readouterr().err
    for options in (probe, ("--estimate-probe", 0)):
        assert_same(convert(tmp_path / "a.npz", tmp_path / "scan.npz", *options), COUNTS)
