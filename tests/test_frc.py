"""Closed forms and laws of `ptycho.scoring.frc`, and of what is made of it: tables, figures, halves."""

import matplotlib.colors
import numpy as np
import pytest

from ptycho.data.object_files import Reconstruction, save_reconstruction
from ptycho.methods import METHODS
from ptycho.physics.samples import simulate_object
from ptycho.reporting.figures import save
from ptycho.reporting.frc_figures import plot_frc, plot_half_frc
from ptycho.scoring.evaluate import frc_table
from ptycho.scoring.frc import (
    HALF_BIT_SNR,
    ONE_BIT_SNR,
    frc,
    frc_crossing,
    half_thresholds,
    independent_values,
    information_threshold,
    ssnr_of_halves,
    ssnr_of_truth,
)
from ptycho.scoring.half_frc import WARNING, half_crossings, half_frc, load_halves
from ptycho.scoring.metrics import METRICS
from ptycho.scoring.region import shared_region
from ptycho.workflow.files import ContractError
from tests.conftest import view_of


@pytest.fixture(scope="module")
def truth():
    return simulate_object("dead_leaves", (90, 121), np.random.default_rng(1)).astype(np.complex128)


@pytest.fixture(scope="module")
def estimate(truth):
    return noisy(truth, 0.05, 2)


def noisy(obj, level, seed):
    rng = np.random.default_rng(seed)
    return obj + level * (rng.normal(size=obj.shape) + 1j * rng.normal(size=obj.shape))


def test_frc_of_two_copies_with_known_snr():
    """Same signal, independent white noise: FRC = SNR / (1 + SNR) at every frequency."""
    rng = np.random.default_rng(0)
    signal, first, second = rng.normal(size=(3, 256, 256))
    for snr in (0.5, 1, 4):
        frequency, correlation = frc(signal + first / np.sqrt(snr), signal + second / np.sqrt(snr))
        outer = frequency > 0.2
        assert correlation[outer].mean() == pytest.approx(snr / (1 + snr), abs=0.02)


def test_frc_against_the_truth_is_the_square_root_of_that():
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(2, 200, 256))
    _, correlation = frc(signal + noise, signal)
    assert correlation[20:].mean() == pytest.approx(np.sqrt(0.5), abs=0.02)


def test_the_crossing_is_where_a_low_passed_signal_falls_below_the_noise():
    """Power exp(-(f/w)²) in white noise of power 1, against the truth: FRC = 0.5 at SNR = 1/3, f = w sqrt(ln 3)."""
    rng, width, n = np.random.default_rng(0), 0.3, 128
    radius = np.hypot(np.fft.fftfreq(n, 0.5)[:, None], np.fft.fftfreq(n, 0.5))
    curves = []
    for white, noise in rng.normal(size=(25, 2, n, n)):
        signal = np.fft.ifft2(np.fft.fft2(white) * np.exp(-((radius / width) ** 2) / 2)).real
        frequency, correlation = frc(signal + noise, signal)
        curves.append(correlation)
    assert frc_crossing(frequency, np.mean(curves, axis=0)) == pytest.approx(width * np.sqrt(np.log(3)), abs=0.01)


def test_rings_are_fractions_of_nyquist_on_oblong_images():
    """A wave of three quarters of Nyquist along the long side lands in the ring that says so."""
    wave = np.cos(3 * np.pi / 4 * np.arange(160))[None, :] * np.ones((64, 1))
    rng = np.random.default_rng(0)
    frequency, correlation = frc(wave + 0.1 * rng.normal(size=wave.shape), wave + 0.1 * rng.normal(size=wave.shape))
    assert len(frequency) == 32
    assert frequency[-1] == 1
    assert frequency[correlation.argmax()] == 0.75
    assert correlation.max() > 0.99
    assert np.abs(correlation[8:20]).max() < 0.5


def test_frc_is_independent_of_the_mean(truth, estimate):
    first, second = np.abs(estimate), np.abs(truth)
    np.testing.assert_allclose(frc(first + 50, second)[1], frc(first, second)[1], atol=1e-9)


def test_crossings_are_interpolated():
    frequency = np.array([0.25, 0.5, 0.75, 1.0])
    assert frc_crossing(frequency, np.array([0.9, 0.7, 0.4, 0.9])) == pytest.approx(0.5 + 0.25 * 2 / 3)
    assert frc_crossing(frequency, np.array([0.9, 0.7, 0.6, 0.5])) == 1.0
    assert frc_crossing(frequency, np.array([0.25, 0.9, 0.9, 0.9])) == pytest.approx(0.25 * 2 / 3)
    assert frc_crossing(frequency, np.array([0.9, 0.2, 0.1, 0.0]), 1 / 7) == pytest.approx(
        0.5 + 0.25 * (0.2 - 1 / 7) / 0.1
    )


def test_both_kinds_of_curve_give_the_signal_to_noise_ratio():
    """White signal of power 4, noise of power 1 in the whole, so of power 2 in either half."""
    signal, first, second = np.random.default_rng(0).normal(size=(3, 256, 256))
    halves = [2 * signal + np.sqrt(2) * noise for noise in (first, second)]
    outer = frc(*halves)[0] > 0.2
    assert ssnr_of_halves(frc(*halves)[1])[outer].mean() == pytest.approx(4, rel=0.05)
    assert ssnr_of_truth(frc(sum(halves) / 2, signal)[1])[outer].mean() == pytest.approx(4, rel=0.05)
    assert list(ssnr_of_truth(np.array([-0.5, 0, 0.5, 1]))) == pytest.approx([0, 0, 1 / 3, np.inf])
    assert list(ssnr_of_halves(np.array([-0.5, 0, 0.5, 1]))) == pytest.approx([0, 0, 2, np.inf])


@pytest.mark.parametrize("n", [1, 2.5, 10, 1e3, 1e12])
def test_thresholds_have_the_coefficients_of_van_heel_and_schatz(n):
    root = 1 / np.sqrt(n)
    half_bit, one_bit = (information_threshold(snr, n) for snr in (HALF_BIT_SNR, ONE_BIT_SNR))
    assert half_bit == pytest.approx((0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root), abs=1e-4)
    assert one_bit == pytest.approx((0.5 + 2.4142 * root) / (1.5 + 1.4142 * root), abs=1e-4)
    assert np.log2(1 + 2 * HALF_BIT_SNR) == pytest.approx(0.5)
    assert np.log2(1 + 2 * ONE_BIT_SNR) == pytest.approx(1)


def test_thresholds_fall_from_one_to_their_limits_and_keep_their_order():
    thresholds = half_thresholds((600, 700))
    assert information_threshold(HALF_BIT_SNR, 0.1) == pytest.approx(1)
    assert np.all(thresholds["1/7"] == 1 / 7)
    assert np.all(thresholds["half-bit"] < thresholds["1-bit"])
    assert np.all(np.diff(thresholds["half-bit"][5:]) < 0.01)
    assert information_threshold(HALF_BIT_SNR, 1e12) == pytest.approx(0.2071 / 1.2071, abs=1e-4)
    assert information_threshold(ONE_BIT_SNR, 1e12) == pytest.approx(1 / 3, abs=1e-4)


def test_the_variance_of_noise_gives_the_number_of_independent_values():
    """FRC of two images of nothing but noise has the variance 1 / (2 n): n complex values, two numbers each.

    The variance found is a fifth smaller: in a ring one pixel wide, most neighbors of a value, on which it depends, are
    in other rings. The thresholds are on the safe side.
    """
    rng, shape = np.random.default_rng(0), (64, 80)
    curves = np.array([frc(*rng.normal(size=(2, *shape)))[1] for _ in range(300)])
    expected = 1 / (2 * independent_values(shape))
    assert np.mean(curves.var(axis=0)[5:] / expected[5:]) == pytest.approx(0.8, abs=0.05)


def test_a_falling_threshold_is_crossed_by_interpolation():
    frequency, threshold = np.array([0.25, 0.5, 0.75, 1.0]), np.array([0.8, 0.6, 0.5, 0.4])
    assert frc_crossing(frequency, np.array([0.9, 0.7, 0.4, 0.3]), threshold) == pytest.approx(0.625)
    assert frc_crossing(frequency, threshold + 0.01, threshold) == 1.0


def test_the_table_holds_the_curves_behind_the_metrics(truth, estimate):
    table = frc_table({"truth": truth, "tv": estimate, "lsqml": noisy(truth, 0.2, 3)})
    assert list(table.columns) == ["method", "part", "frequency", "frc", "ssnr"]
    assert list(table["method"].unique()) == ["tv", "lsqml"]
    assert len(table) == 2 * 2 * 45
    for part in ("amplitude", "phase"):
        curve = table.query("method == 'tv' and part == @part")
        crossing = frc_crossing(curve["frequency"].to_numpy(), curve["frc"].to_numpy())
        assert crossing == METRICS[f"frc50_{part}"](estimate, truth)
    flat = frc_table({"truth": np.exp(1j * np.angle(truth)), "tv": estimate})
    assert flat.query("part == 'amplitude'")["frc"].isna().all()
    assert flat.query("part == 'phase'")["frc"].notna().all()


def test_the_figure_has_a_line_per_method_and_names_its_crossing(truth, estimate, tmp_path):
    table = frc_table({"truth": truth, "tv": estimate, "pinn": noisy(truth, 0.2, 3)})
    figure = plot_frc(table, "dense view")
    save(figure, tmp_path / "frc.png")
    colors = [matplotlib.colors.to_hex(line.get_color()).upper() for line in figure.axes[0].lines]
    assert {METHODS["tv"].color, METHODS["pinn"].color} <= set(colors)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    crossing = METRICS["frc50_amplitude"](noisy(truth, 0.2, 3), truth)
    assert [text.partition(":")[0] for text in labels] == ["TV-MAP", "PINN"]
    assert f"{crossing:.2f}" in labels[1]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["amplitude", "phase"]


def test_noisier_halves_agree_to_a_lower_resolution(truth, tmp_path):
    curves = [
        half_frc(noisy(truth, level, 4), noisy(truth, level, 5)).assign(method=method)
        for method, level in (("tv", 0.1), ("lsqml", 0.4))
    ]
    both = [half_crossings(curve).set_index(["part", "threshold"])["frequency"] for curve in curves]
    assert (both[0] > both[1]).all()
    for crossings in both:
        for part in ("amplitude", "phase"):
            assert crossings[part, "1-bit"] <= crossings[part, "half-bit"]
            assert crossings[part, "1-bit"] <= crossings[part, "1/7"]
    figure = plot_half_frc(curves[0], "dense view", WARNING)
    save(figure, tmp_path / "half_frc.png")
    assert "prior repeats itself in both halves" in figure.get_suptitle()
    assert [line.get_label() for line in figure.axes[0].lines[-3:]] == [
        f"threshold {name}" for name in ("1/7", "½ bit", "1 bit")
    ]


def test_halves_are_registered_to_each_other_without_the_truth(blind_scan, tmp_path):
    """Two files with different phase and origin are returned on the scored rectangle in one gauge."""
    view, obj = view_of(blind_scan), simulate_object("dead_leaves", blind_scan.object.shape, np.random.default_rng(1))
    paths = [tmp_path / "1.npz", tmp_path / "2.npz"]
    for path, factor, cut in zip(paths, (1, -1j), (0, 3), strict=True):
        part = factor * noisy(obj, 0.05, cut)[cut:, cut:]
        result = Reconstruction(object=part, illumination=np.ones(part.shape), origin_px=(cut, cut))
        save_reconstruction(path, result, method="tv")
    region = shared_region(blind_scan, [view])
    first, second = load_halves(paths, blind_scan, view, region)
    assert first.shape == second.shape == (region.y1 - region.y0, region.x1 - region.x0)
    assert np.linalg.norm(first - second) < 0.15 * np.linalg.norm(second)
    assert abs(np.angle(second.sum())) < 1e-6
    obj[region.y0, region.x0] = np.nan
    result = Reconstruction(object=obj, illumination=np.ones(obj.shape), origin_px=(0, 0))
    save_reconstruction(paths[1], result, method="tv")
    with pytest.raises(ContractError, match=r"2\.npz: 'object' holds 1 values that are not finite"):
        load_halves(paths, blind_scan, view, region)


def test_an_artifact_common_to_both_halves_counts_as_agreement(truth):
    """The reason for the warning: the same wrong detail in both halves crosses nowhere."""
    habit = noisy(truth, 0.3, 6)
    assert (half_crossings(half_frc(habit, habit).assign(method="tv"))["frequency"] == 1).all()
    assert METRICS["frc50_amplitude"](habit, truth) < 0.7
