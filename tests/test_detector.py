"""Bad pixels, background and flux: what the contract says, what a simulated detector does, and what is masked where."""

import json

import numpy as np
import pytest

from ptycho.data.mapped import MappedArray
from ptycho.data.npz import save_arrays
from ptycho.data.scan import mean_counts, open_scan
from ptycho.physics.detector import GAP_COUNTS, PERFECT, Detector, DetectorOptions, simulate_detector
from ptycho.physics.forward import illumination, predict_intensity
from ptycho.physics.noise import reduce_dose, whole_counts
from ptycho.physics.simulate import simulate_scan
from ptycho.reporting.summary import detector_notes
from ptycho.scoring.evaluate import heldout_blocks
from ptycho.scoring.placement import illumination_on
from ptycho.scoring.region import Region
from ptycho.workflow.files import ContractError
from tests.conftest import view_of, write_scan
from tests.workflow import config_file, snakemake

N = 16
GARBAGE = {"zero": 0.0, "gap": np.sqrt(GAP_COUNTS), "nan": np.nan, "negative": -1.0}


def bad_pixels(n=N):
    """Two gaps and a dead pixel at the zero frequency."""
    bad = np.zeros((n, n), bool)
    bad[n // 4], bad[:, 3 * n // 4], bad[n // 2, n // 2] = True, True, True
    return bad


def write(path, garbage=0.0, metadata=None, **changes):
    """A scan of five exposures with whole counts, and with garbage in its bad pixels."""
    rng = np.random.default_rng(0)
    frames = np.sqrt(rng.poisson(3, (5, N, N))).astype(np.float32)
    arrays = {"bad_pixels": bad_pixels(), "background": rng.random((N, N)).astype(np.float32)}
    arrays |= {"exposure_scale": np.array([0.5, 1.5, 1.0, 1.2, 0.8])} | changes
    frames[:, bad_pixels()] = garbage
    save_arrays(
        path,
        diffraction=frames,
        xcoords=np.linspace(10, 14, 5),
        ycoords=np.linspace(11, 13, 5),
        probeGuess=np.ones((N, N), np.complex64),
        objectGuess=np.ones((32, 32), np.complex64),
        **arrays,
        metadata=np.array(json.dumps({"dose": 256, **(metadata or {})})),
    )
    return path


@pytest.mark.parametrize("garbage", GARBAGE)
def test_bad_pixels_read_zero_whatever_stands_there(tmp_path, garbage):
    scans = [open_scan(write(tmp_path / f"{value}.npz", value)) for value in (7.0, GARBAGE[garbage])]
    reference, scan = (scan.diffraction for scan in scans)
    for index in (slice(None), 2, np.array([4, 1]), slice(1, 3)):
        np.testing.assert_array_equal(scan[index], reference[index])
        assert not scan[index][..., bad_pixels()].any()
    assert (scan.shape, scan.dtype, len(scan)) == ((5, N, N), np.float32, 5)
    assert mean_counts(scan) == mean_counts(reference)
    whole_counts(scan[:], "scan")  # whole photons, all finite
    thinner = [list(reduce_dose(frames, 0.5, np.random.default_rng(0))) for frames in (reference, scan)]
    np.testing.assert_array_equal(*thinner)
    with pytest.raises(IndexError, match="first axis"):
        scan[2, 3]


def test_a_background_that_is_not_finite_in_a_bad_pixel_is_no_background(tmp_path):
    background = np.where(bad_pixels(), np.nan, np.float32(0.5)).astype(np.float32)
    detector = open_scan(write(tmp_path / "scan.npz", background=background)).detector
    np.testing.assert_array_equal(detector.background, np.where(bad_pixels(), 0, 0.5))


def test_a_scan_without_these_arrays_is_not_wrapped(tmp_path, scan):
    assert scan.detector.arrays() == {}
    assert isinstance(scan.diffraction, MappedArray)
    none_bad = open_scan(write(tmp_path / "none.npz", bad_pixels=np.zeros((N, N), bool)))
    assert none_bad.detector.bad_pixels is None
    assert isinstance(none_bad.diffraction, MappedArray)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bad_pixels": np.zeros((N, N), np.uint8)}, r"'bad_pixels' is uint8 with shape \(16, 16\); wanted bool"),
        ({"bad_pixels": np.zeros((5, N, N), bool)}, r"'bad_pixels' is bool with shape .*wanted bool \(16, 16\)"),
        ({"bad_pixels": np.ones((N, N), bool)}, "'bad_pixels' is True everywhere"),
        ({"background": np.zeros((N, N))}, "'background' is float64 .*wanted float32"),
        ({"background": np.full((N, N), -1, np.float32)}, "'background' is -1.0 in a valid pixel"),
        ({"exposure_scale": np.ones(4)}, r"'exposure_scale' is float64 with shape \(4,\); wanted float64 \(5,\)"),
        ({"exposure_scale": np.array([1, 1, 0, 1, 1.0])}, "'exposure_scale' holds 0.0; wanted numbers above 0"),
        ({"exposure_scale": np.full(5, 1e9)}, r"'exposure_scale' has a mean of 1e\+09; wanted 1"),
        ({"metadata": {"pixel_size_m": -1}}, "'pixel_size_m' in 'metadata' is -1; wanted a number above 0"),
        ({"metadata": {"photons_per_unit": "2"}}, "'photons_per_unit' in 'metadata' is '2'"),
        ({"metadata": {"conversion": "flipped"}}, "'conversion' in 'metadata' is 'flipped'; wanted a list of texts"),
    ],
)
def test_a_breach_of_the_contract_is_named(tmp_path, changes, message):
    with pytest.raises(ContractError, match=message):
        open_scan(write(tmp_path / "scan.npz", **changes))


def test_what_a_detector_expects_and_how_many_pixels_count():
    detector = Detector(
        bad_pixels=bad_pixels(),
        background=np.full((N, N), 0.25, np.float32),
        exposure_scale=np.array([0.5, 1.5]),
    )
    intensity = np.random.default_rng(0).random((2, N, N))
    expected = detector.expected_counts(intensity)
    np.testing.assert_allclose(expected[1], 1.5 * intensity[1] + 0.25)
    np.testing.assert_array_equal(detector.select([1]).expected_counts(intensity[1:]), expected[1:])
    np.testing.assert_allclose(detector.scaled(0.5).expected_counts(intensity) + 0.125, expected)
    assert detector.n_valid(N) == (~bad_pixels()).sum() == detector.valid_values(intensity).shape[1]
    assert PERFECT.expected_counts(intensity) is intensity
    assert PERFECT.valid_values(intensity) is intensity
    assert (PERFECT.n_valid(N), PERFECT.valid) == (N * N, None)


def test_photons_without_a_sample_are_those_that_reach_valid_pixels():
    probe = np.random.default_rng(0).normal(size=(2, N, N)) + 0j
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe, axes=(1, 2)), norm="ortho"), axes=(1, 2))
    detectable = Detector(bad_pixels=bad_pixels()).detectable(probe)
    assert np.sum(np.abs(detectable) ** 2) == pytest.approx(np.sum(np.abs(spectrum[:, ~bad_pixels()]) ** 2))
    assert PERFECT.detectable(probe) is probe


def test_a_simulated_detector_is_what_was_asked_for():
    options = DetectorOptions(gap_px=2, dead_fraction=0.02, hot_pixels=3, background=0.1, flux_jitter=0.2)
    simulated = simulate_detector(options, 64, 400, np.random.default_rng(1))
    detector, readout = simulated.detector, simulated.readout
    gaps = readout == np.float32(np.sqrt(GAP_COUNTS))
    assert (gaps.all(axis=0).sum(), gaps.all(axis=1).sum()) == (2, 2)
    assert not gaps[32 - 8 : 32 + 8, 32 - 8 : 32 + 8].any()
    outside = ~gaps
    assert (readout[outside] == 0).sum() == pytest.approx(0.02 * 64**2, rel=0.2)
    assert (readout[outside] > 1000).sum() <= 3
    np.testing.assert_array_equal(np.isnan(readout), detector.valid)
    assert detector.exposure_scale.mean() == pytest.approx(1)
    assert detector.exposure_scale.std() == pytest.approx(0.2, rel=0.1)
    np.testing.assert_array_equal(detector.background, np.float32(0.1))
    without_hot = simulate_detector(
        DetectorOptions(gap_px=2, dead_fraction=0.02), 64, 400, np.random.default_rng(1)
    ).detector
    assert (detector.bad_pixels & ~without_hot.bad_pixels).sum() <= 3
    nothing = simulate_detector(DetectorOptions(), 64, 400, np.random.default_rng(1))
    assert (nothing.detector.arrays(), nothing.readout) == ({}, None)
    with pytest.raises(ValueError, match="gaps of 20 px; wanted at most 15 px of 64"):
        simulate_detector(DetectorOptions(gap_px=20), 64, 400, np.random.default_rng(1))


def test_bad_pixels_do_not_change_the_noise_of_the_others():
    options = DetectorOptions(gap_px=1, dead_fraction=0.05)
    simulated = simulate_detector(options, N, 4, np.random.default_rng(0))
    intensity = np.random.default_rng(1).random((4, N, N)) * 10
    masked, whole = (
        each.count(intensity, slice(0, 4), np.random.default_rng(2))
        for each in (simulated, simulate_detector(DetectorOptions(), N, 4, np.random.default_rng(0)))
    )
    valid = simulated.detector.valid
    np.testing.assert_array_equal(masked[:, valid], whole[:, valid])
    assert (masked[:, ~valid] != whole[:, ~valid]).any()


def test_a_simulated_scan_has_the_flux_and_background_of_its_detector(scan):
    """Means over all exposures and valid pixels, within five standard deviations."""
    options = DetectorOptions(gap_px=2, background=0.5, flux_jitter=0.5)
    simulated = simulate_detector(options, 64, 49, np.random.default_rng(0))
    positions = scan.xcoords, scan.ycoords
    frames = np.concatenate(
        list(simulate_scan(scan.object[:], scan.probe, positions, np.random.default_rng(1), 10, simulated))
    )
    again = simulate_scan(scan.object[:], scan.probe, positions, np.random.default_rng(1), 49, simulated)
    np.testing.assert_array_equal(frames, next(again))
    mean = predict_intensity(scan.object[:], scan.probe, *positions)
    mean = mean * simulated.detector.exposure_scale[:, None, None] + 0.5
    valid = simulated.detector.valid
    counts = np.square(frames[:, valid], dtype=np.float64).sum(axis=1)
    expected = mean[:, valid].sum(axis=1)
    assert np.abs((counts - expected) / np.sqrt(expected)).max() < 5
    assert (frames[:, ~valid] == np.float32(np.sqrt(GAP_COUNTS))).all()


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A scan of the test suite with bad pixels, background and flux."""
    scale = np.random.default_rng(0).uniform(0.6, 1.4, 49)
    detector = {"bad_pixels": bad_pixels(64), "background": np.full((64, 64), 0.3, np.float32)}
    path = tmp_path_factory.mktemp("masked") / "scan.npz"
    return write_scan(path, detector=detector | {"exposure_scale": scale})


def test_holdout_exposures_are_predicted_on_valid_pixels(masked):
    exposures = np.array([4, 40])
    ((counts, mean),) = heldout_blocks(masked.object[:], masked, exposures)
    valid, at = ~bad_pixels(64), (masked.xcoords[exposures], masked.ycoords[exposures])
    expected = predict_intensity(masked.object[:], masked.probe, *at)
    expected = masked.detector.exposure_scale[exposures, None, None] * expected + np.float32(0.3)
    np.testing.assert_allclose(mean, expected[:, valid])
    np.testing.assert_array_equal(counts, np.square(masked.diffraction[exposures], dtype=np.float64)[:, valid])


def test_statistics_of_a_view_are_of_valid_pixels(scan, masked):
    view, exposures = view_of(masked), view_of(masked).exposures
    numbers = view.metadata
    valid = ~bad_pixels(64)
    assert numbers["valid_pixel_fraction"] == valid.mean()
    detected = np.square(masked.diffraction[exposures][:, valid], dtype=np.float64).sum(axis=1)
    assert numbers["mean_detected_photons"] == pytest.approx(detected.mean())
    plain = view_of(scan).metadata
    assert "valid_pixel_fraction" not in plain
    assert numbers["fluence_photons_per_px"] != plain["fluence_photons_per_px"]
    assert numbers["fluence_photons_per_px"] == pytest.approx(plain["fluence_photons_per_px"], rel=0.1)
    used = view.of_role(0, 1)
    lit = sum(
        masked.detector.exposure_scale[j]
        * illumination(masked.probe, masked.xcoords[[j]], masked.ycoords[[j]], (50, 60), (30, 40))
        for j in used.tolist()
    )
    np.testing.assert_allclose(illumination_on(Region(30, 80, 40, 100), masked, view), lit)
    assert detector_notes({"a": plain}) == []
    assert detector_notes({"a": plain, "b": {"valid_pixel_fraction": 0.949}}) == [
        "5.1% of the detector's pixels are bad: photons and deviances are those of the valid ones."
    ]


@pytest.mark.slow
def test_a_study_simulates_the_detector_that_its_config_asks_for(tmp_path):
    options = {"gap_px": 1, "dead_fraction": 0.02, "background": 0.1, "flux_jitter": 0.2}
    config = config_file(tmp_path, source__detector=options)
    names = [f"results/tiny/data/dose_100000/seed_0/{split}.npz" for split in ("train", "test")]
    snakemake(tmp_path, "--cores", "1", "--configfile", config, "--", *names)
    train, test = (open_scan(tmp_path / name) for name in names)
    np.testing.assert_array_equal(train.detector.bad_pixels, test.detector.bad_pixels)
    assert train.detector.bad_pixels.mean() == pytest.approx(0.05, abs=0.002)
    scale = np.concatenate([train.detector.exposure_scale, test.detector.exposure_scale])
    assert scale.mean() == pytest.approx(1)
    assert scale.std() == pytest.approx(0.2, rel=0.3)
    assert np.isfinite(mean_counts(test.diffraction))
    assert mean_counts(test.diffraction) < 1.1 * 100_000
