"""Faults that a reconstruction takes up, so that no deviance shows them: where `ptycho check` does nevertheless."""

import re

import numpy as np
import pytest

from ptycho.inspection.check import check_scan
from ptycho.inspection.counts import check_counts, usable_exposures
from ptycho.inspection.orientation_search import check_orientation, search_orientation
from ptycho.inspection.pedestal import find_pedestal
from ptycho.inspection.probe import check_probe, match_patterns
from ptycho.inspection.quantity import is_open
from ptycho.workflow.config import DEFAULTS, read_file
from tests.faulty_scans import errors, right, statistics_of, write

GROUPING = read_file(DEFAULTS)["grouping"]


@pytest.mark.parametrize(("axis", "moved"), [(1, "+1 rows, +0 columns"), (2, "+0 rows, +1 columns")])
def test_a_center_of_the_detector_that_is_off_by_a_pixel_is_noted(tmp_path, axis, moved):
    raw = right()
    for counts, shown in ((raw.counts, False), (np.roll(raw.counts, 1, axis=axis), True)):
        scan = write(tmp_path / "scan.npz", raw.changed(counts=counts))
        findings = check_probe(statistics_of(scan)[0], np.ones(len(scan), bool), scan.detector, scan.probe)
        (found,) = [part.line for part in findings if f"the zero frequency seems {moved} from" in part.text] or [None]
        assert (found is not None) == shown
        assert not shown or "--crop N --center ROW,COLUMN" in found


def test_a_probe_around_the_corner_is_named_and_one_that_fills_its_window_is_not(tmp_path):
    scan = write(tmp_path / "scan.npz", right())
    wide = np.ones_like(scan.probe)
    for probe, named in ((scan.probe, False), (np.fft.fftshift(scan.probe, axes=(-2, -1)), True), (wide, False)):
        findings = check_probe(statistics_of(scan)[0], np.ones(len(scan), bool), scan.detector, probe)
        assert any("the middle of the probe is in the corner" in line for line in errors(findings)) == named


def test_a_gain_of_seven_is_an_error_and_a_note_says_its_option(tmp_path):
    raw = right()
    scan = write(tmp_path / "scan.npz", raw.changed(counts=7 * raw.counts))
    (error,) = errors(check_counts(statistics_of(scan)[0]))
    assert error.startswith("every count is a multiple of 7: units of the detector, not photons")
    assert "--photons-per-unit 0.1429" in error


@pytest.mark.parametrize(
    ("gain", "readout", "topic", "message"),
    [
        (7.0, 5.0, "orientation", "even the best of the quick trials leaves a misfit of [6-9]"),
        (1 / 7, 0.0, "counts", r"exposures are predicted better than photons scatter: a misfit of 0\.[2-4]"),
    ],
    ids=["with noise", "rounded"],
)
def test_a_gain_without_a_divisor_shows_in_the_misfit(tmp_path, quick, gain, readout, topic, message):
    """Counts that are whole again: noise was added, or they were rounded."""
    raw = right()
    counts = np.rint(gain * raw.counts + readout * np.random.default_rng(0).normal(size=raw.counts.shape))
    scan = write(tmp_path / "scan.npz", raw.changed(counts=np.maximum(counts, 0)))
    statistics, valid = statistics_of(scan)
    assert errors(check_counts(statistics)) == []
    match, usable = match_patterns(statistics, valid, scan.probe), usable_exposures(statistics)
    search = search_orientation(scan, usable, valid, match, quantity_is_open=is_open(scan, statistics))
    (found,) = (part for part in check_orientation(search) if part.level == "warning")
    assert found.topic == topic
    assert re.match(message, found.text), found.text
    assert "photons" in found.remedy


def test_dark_frames_are_an_error_and_are_named(tmp_path):
    raw = right()
    counts = raw.counts.copy()
    counts[[20, 21, 60]] = 0
    scan = write(tmp_path / "scan.npz", raw.changed(counts=counts))
    (error,) = errors(check_counts(statistics_of(scan)[0]))
    assert "--leave-out 20-21,60" in error


@pytest.mark.parametrize("pedestal", [100, 2**25])
def test_a_pedestal_is_named_and_nothing_else_is_said_of_the_counts(tmp_path, quick, pedestal):
    """Without it the scan is right; with it, its counts would be predicted better as amplitudes."""
    raw = right()
    scan = write(tmp_path / "scan.npz", raw.changed(counts=raw.counts + pedestal))
    found = [finding for finding in check_scan(scan, GROUPING).verdict.findings if finding.topic == "counts"]
    (error,) = errors(found)
    named = re.match(r"a constant background of about ([\d,]+) counts in every pixel and exposure", error)
    assert int(named[1].replace(",", "")) == pytest.approx(pedestal, rel=1e-4)
    assert "subtract it from the frames" in error
    assert not any("amplitudes" in finding.line for finding in found)


@pytest.mark.parametrize(
    "change",
    [
        lambda counts, rng: counts,
        lambda counts, rng: counts + rng.poisson(100, counts.shape),
        lambda counts, rng: np.sqrt(rng.poisson(20 * counts + 400)),
        lambda counts, rng: 20 * counts,
    ],
    ids=["right", "background of photons", "amplitudes", "gain"],
)
def test_other_counts_have_no_pedestal(tmp_path, change):
    raw = right()
    scan = write(tmp_path / "scan.npz", raw.changed(counts=change(raw.counts, np.random.default_rng(2))))
    assert find_pedestal(statistics_of(scan)[0], scan) is None


def test_a_known_background_is_no_pedestal(tmp_path):
    raw = right()
    detector = {"background": np.full(raw.counts.shape[1:], 100, np.float32)}
    scan = write(tmp_path / "scan.npz", raw.changed(counts=raw.counts + 100, detector=detector))
    assert find_pedestal(statistics_of(scan)[0], scan) is None
