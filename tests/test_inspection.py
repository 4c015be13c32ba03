"""Faults of counts, pixels, positions and probe are named, with what mends them; right and masked scans are fine."""

import re
from dataclasses import replace

import numpy as np
import pytest

from ptycho.inspection.counts import check_counts, saturation_of, usable_exposures
from ptycho.inspection.findings import worst
from ptycho.inspection.flux import Jump, check_flux, confirm_jumps, find_jumps, flux_of
from ptycho.inspection.orientation import Orientation
from ptycho.inspection.pixels import check_pixels, find_pixels
from ptycho.inspection.positions import check_positions, connected_parts
from ptycho.inspection.probe import check_probe
from ptycho.inspection.statistics import common_divisor, frame_statistics
from ptycho.physics.forward import inverse_diffract
from ptycho.physics.probes import diameter_px
from tests.faulty_scans import N, errors, points_of, right, statistics_of, write


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("beam_dump", "7 of 104 exposures are dark: 40-46; ptycho convert … --leave-out 40-46"),
        ("nan_frames", "exposures 3, 17 hold values that are not finite; ptycho convert … --leave-out 3,17"),
        ("saturated", "pixels end at 65,535 counts in some exposures: saturated; ptycho convert … --mask-saturated"),
        ("clipped", "pixels end at 150 counts in some exposures: saturated"),
        ("adu", "every count is a multiple of 37.5: units of the detector, not photons; ptycho convert … --photons"),
        ("normalized", "units of the detector, not photons; ptycho convert … --photons-per-unit"),
        (
            "amplitudes",
            "counts were taken for amplitudes; ptycho convert … --quantity counts",
        ),
    ],
)
def test_faults_of_the_counts_are_named(scans, name, message):
    statistics, _ = statistics_of(scans(name))
    assert any(message in line for line in errors(check_counts(statistics))), errors(check_counts(statistics))


def test_a_study_of_background_subtracted_counts_is_warned_of_fractions(tmp_path):
    raw = right()
    frames = np.maximum(raw.counts - np.random.default_rng(0).uniform(0, 0.5, (N, N)), 0)
    statistics, _ = statistics_of(write(tmp_path / "scan.npz", raw.changed(counts=frames)))
    assert "not whole photons" in errors(check_counts(statistics))[0]


@pytest.mark.parametrize(
    ("name", "message", "expected"),
    [
        (
            "gaps",
            "64 pixels hold 4,294,967,295 in every",
            lambda mask: mask[14:16].all() and mask.sum() == 64,
        ),
        ("hot_pixel", "1 hot pixel: [5, 7]", lambda mask: mask[5, 7] and mask.sum() == 1),
        ("dead_pixels", "dead pixels: [", lambda mask: mask[14:16].mean() > 0.6 and mask.mean() < 0.08),
    ],
)
def test_pixels_that_count_no_photons_are_proposed_for_a_mask(scans, name, message, expected):
    scan = scans(name)
    statistics, valid = statistics_of(scan)
    pixels = find_pixels(statistics, valid, scan.probe)
    (line,) = errors(check_pixels(statistics, pixels, 0))
    assert message in line
    assert "--mask FILE" in line
    assert expected(pixels.mask)


def test_masked_pixels_are_not_suspicious_whatever_they_hold(scans):
    scan = scans("masked")
    statistics, valid = statistics_of(scan)
    pixels = find_pixels(statistics, valid, scan.probe)
    assert not pixels.mask.any()
    assert [finding.level for finding in check_pixels(statistics, pixels, int((~valid).sum()))] == ["fine", "fine"]
    assert statistics.photons.max() < 100_000


def test_the_highest_count_may_be_255_by_chance(scans):
    statistics, _ = statistics_of(scans("right"))
    at_limit, highest = np.zeros((N, N), int), np.full((N, N), 9.0)
    at_limit[3, 4], highest[3, 4] = 1, 255
    one = replace(statistics, limit=255.0, at_limit=at_limit, highest=highest)
    assert saturation_of(one) is None
    at_limit[3, :9] = 1
    assert saturation_of(one).pixels.sum() == 9


def test_a_dark_spot_of_the_beam_is_not_dead(scans):
    statistics, valid = statistics_of(scans("right"))
    wave = np.full((N, N), 1.0, complex)
    wave[10, 12] = 0
    spot = inverse_diffract(wave)[None]
    total = np.where(np.abs(wave) > 0, 5000.0, 3.0)
    assert not find_pixels(_with(statistics, total), valid, spot).mask.any()
    assert find_pixels(_with(statistics, total), valid, inverse_diffract(np.ones((N, N)))[None]).dead[10, 12]


def test_a_beam_stop_is_dead_and_the_dark_middle_of_an_annulus_is_not(scans):
    scan = scans("right")
    statistics, valid = statistics_of(scan)
    assert not find_pixels(statistics, valid, scan.probe).mask.any()
    wide = np.zeros((N, N), complex)
    wide[N // 2 - 1 : N // 2 + 2, N // 2 - 1 : N // 2 + 2] = 1  # its pattern fills the detector
    stop = np.hypot(*(np.indices((N, N)) - N // 2)) < 5
    total = np.where(stop, 0, 1000.0)
    stopped = find_pixels(_with(statistics, total), valid, wide[None])
    np.testing.assert_array_equal(stopped.dead, stop)


def _with(statistics, total):
    return replace(statistics, total=total, highest=total, at_limit=np.zeros_like(statistics.at_limit), limit=None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runaway", "exposures lie far from all others: 5 (5 at y"),
        ("island", "2 islands that no overlap connects; outside the largest: exposures 6-7, 14-15"),
        ("nanometers", "neighboring beams do not touch: step 66.7 px, beam 16 px"),
    ],
)
def test_faults_of_the_positions_are_named(scans, name, message):
    scan = scans(name)
    lines = errors(check_positions(points_of(scan), diameter_px(scan.probe)))
    assert any(message in line for line in lines), lines


def test_doubled_positions_are_named_and_do_not_pass_for_a_step(scans):
    findings = check_positions(points_of(scans("doubled")), diameter_px(scans("doubled").probe))
    assert worst(findings) == "warning"
    assert "share their position with another: 0-103" in findings[-1].text


def test_positions_that_hardly_move_are_an_error():
    points = np.random.default_rng(0).uniform(0, 1, (50, 2))
    assert "positions hardly move" in errors(check_positions(points, 30.0))[0]


def test_parts_are_connected_by_chains_of_steps():
    line = np.stack([np.zeros(30), np.arange(30.0)], axis=1)
    assert connected_parts(line, 1.1).max() == 0
    assert connected_parts(np.delete(line, 10, axis=0), 1.1).max() == 1


def test_jumps_that_cannot_be_told_from_edges_are_named_all_the_same():
    (finding,) = check_flux([], 50, [Jump(30, 0.4), Jump(20, -0.4)])
    assert finding.level == "note"
    assert finding.text.startswith("the counts jump before exposures 20, 30: by the flux or the sample")
    assert check_flux([], 50)[0].level == "fine"


def test_jumps_of_the_flux_are_told_from_edges_of_the_sample(scans):
    for name, expected in (("right", []), ("flux_70_percent", [40, 64])):
        scan = scans(name)
        statistics, valid = statistics_of(scan)
        usable = usable_exposures(statistics)
        jumps = confirm_jumps(
            scan, find_jumps(statistics.photons, points_of(scan), usable), usable, valid, Orientation()
        )
        assert [jump.start for jump in jumps] == expected
    scale = flux_of(jumps, len(scan))
    assert scale[50] / scale[10] == pytest.approx(0.7, abs=0.05)
    assert scale.mean() == pytest.approx(1)


def test_the_power_of_the_probe_and_its_window_are_checked(scans, tmp_path):
    scan = scans("right")
    statistics, _ = statistics_of(scan)
    usable = usable_exposures(statistics)
    assert worst(check_probe(statistics, usable, scan.detector, scan.probe)) == "fine"
    texts = [finding.text for finding in check_probe(statistics, usable, scan.detector, scan.probe / 9)]
    assert re.search(r"\d{4} % of them are detected|e\+03 % of them", texts[0])
    wide = np.ones((1, N, N), complex)
    warned = [
        finding.text for finding in check_probe(statistics, usable, scan.detector, wide) if finding.level == "warning"
    ]
    assert any("edge of its window" in text for text in warned)
    assert any("correlates with the mean pattern by" in text for text in warned)


def test_the_common_divisor_of_counts_is_their_unit():
    rng = np.random.default_rng(0)
    photons = rng.poisson(4.0, 5000)[rng.poisson(4.0, 5000) > 0].astype(float)
    photons = photons[photons > 0]
    assert common_divisor(photons) is None
    for unit in (0.25, 37.5, 200.0):
        assert common_divisor(unit * photons) == pytest.approx(unit)
    assert common_divisor(rng.uniform(1, 50, 1000)) is None


def test_memory_and_blocks_do_not_show_in_the_statistics(scans):
    scan, valid = scans("gaps"), np.ones((N, N), bool)
    whole, blocks = frame_statistics(scan, valid, block_size=1000), frame_statistics(scan, valid, block_size=7)
    for name in ("photons", "total", "at_limit", "highest", "not_whole"):
        np.testing.assert_allclose(getattr(whole, name), getattr(blocks, name))
