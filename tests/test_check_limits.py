"""Faults that a reconstruction takes up, so that no deviance shows them: where `ptycho check` does nevertheless."""

import numpy as np
import pytest

from ptycho.inspection.counts import check_counts
from ptycho.inspection.probe import check_probe
from tests.faulty_scans import errors, right, statistics_of, write


@pytest.mark.parametrize(("axis", "moved"), [(1, "+1 rows, +0 columns"), (2, "+0 rows, +1 columns")])
def test_a_center_of_the_detector_that_is_off_by_a_pixel_is_noted(tmp_path, axis, moved):
    raw = right()
    for counts, shown in ((raw.counts, False), (np.roll(raw.counts, 1, axis=axis), True)):
        scan = write(tmp_path / "scan.npz", raw.changed(counts=counts))
        findings = check_probe(statistics_of(scan)[0], np.ones(len(scan), bool), scan.detector, scan.probe)
        assert any(f"the zero frequency seems {moved} from pixel" in part.text for part in findings) == shown


def test_a_gain_of_seven_is_an_error_and_a_note_says_its_option(tmp_path):
    raw = right()
    scan = write(tmp_path / "scan.npz", raw.changed(counts=7 * raw.counts))
    (error,) = errors(check_counts(statistics_of(scan)[0]))
    assert error.startswith("every count is a multiple of 7: units of the detector, not photons")
    assert "--photons-per-unit 0.1429" in error


def test_dark_frames_are_an_error_and_are_named(tmp_path):
    raw = right()
    counts = raw.counts.copy()
    counts[[20, 21, 60]] = 0
    scan = write(tmp_path / "scan.npz", raw.changed(counts=counts))
    (error,) = errors(check_counts(statistics_of(scan)[0]))
    assert "--leave-out 20-21,60" in error
