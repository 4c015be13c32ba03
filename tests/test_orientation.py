"""Which way round a scan is: trials of all orientations, turns that are the same scan, the zero frequency."""

import re

import numpy as np
import pytest

from ptycho.inspection import orientation_search, quantity
from ptycho.inspection.counts import usable_exposures
from ptycho.inspection.orientation import Orientation
from ptycho.inspection.probe import PatternMatch, match_patterns
from ptycho.inspection.trials import Trial
from ptycho.scoring.misfit import Misfit
from tests.faulty_scans import errors, right, statistics_of, write


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mirrored", "--flip-x"),
        ("upside_down", "--flip-y"),
        ("transposed", "--transpose"),
        ("swapped_xy", "--swap-positions"),
        ("negated_x", "--negate-x"),
    ],
)
def test_a_scan_the_wrong_way_round_is_named_with_the_options_that_mend_it(scans, quick, name, options):
    scan = scans(name)
    statistics, valid = statistics_of(scan)
    match = match_patterns(statistics, valid, scan.probe)
    search = orientation_search.search_orientation(scan, usable_exposures(statistics), valid, match)
    (line,) = errors(orientation_search.check_orientation(search))
    assert line.endswith(f"; ptycho convert … {options}")
    assert search.fitting[0].options == options
    turned = scan_of(search.best, scan)
    np.testing.assert_array_equal(turned, scans("right").diffraction[:3])


def scan_of(orientation, scan):
    """The first frames, turned, if positions turn into those of the right scan; else the frames of none."""
    good = right()
    x, y = orientation.positions(scan.xcoords, scan.ycoords)
    for axis, wanted in ((x, good.xcoords), (y, good.ycoords)):
        np.testing.assert_allclose(axis - axis.min(), wanted - wanted.min(), atol=1e-9)
    return orientation.frames(scan.diffraction[:3])


def test_a_right_scan_is_the_right_way_round_and_its_turn_is_named_for_a_free_probe(scans, quick):
    scan = scans("right")
    statistics, valid = statistics_of(scan)
    match = match_patterns(statistics, valid, scan.probe)
    search = orientation_search.search_orientation(scan, usable_exposures(statistics), valid, match)
    (finding,) = orientation_search.check_orientation(search)
    assert finding.level == "fine"
    assert search.is_decided
    assert search.fitting == [Orientation()]
    assert {trial.orientation.turn for trial in search.given} == {Orientation().turn}
    assert len(search.given) == len(search.free) == 8
    assert len({trial.orientation.turn for trial in search.free}) == 8


def test_a_rough_probe_leaves_the_turn_to_a_free_one(tmp_path, quick):
    """A probe with a wrong phase, scan mirrored: which of the eight turns is found."""
    raw = right()
    rough = np.abs(raw.probe) * np.exp(0.8j * np.angle(raw.probe))
    scan = write(tmp_path / "scan.npz", raw.changed(probe=rough, counts=raw.counts[:, :, ::-1]))
    statistics, valid = statistics_of(scan)
    match = match_patterns(statistics, valid, scan.probe)
    search = orientation_search.search_orientation(scan, usable_exposures(statistics), valid, match)
    assert search.best.turn == Orientation(flip_x=True).turn


def test_the_zero_frequency_in_the_corner_is_named_and_moved_for_the_trials(scans, quick):
    scan = scans("corner")
    statistics, valid = statistics_of(scan)
    match = match_patterns(statistics, valid, scan.probe)
    search = orientation_search.search_orientation(scan, usable_exposures(statistics), valid, match)
    findings = orientation_search.check_orientation(search)
    assert [finding.level for finding in findings] == ["fine", "error"]
    assert findings[1].remedy == "ptycho convert … --zero-frequency corner"
    assert search.best == Orientation(corner=True)


def search_of(scan):
    """As the check of a scan does it."""
    statistics, valid = statistics_of(scan)
    match, is_open = match_patterns(statistics, valid, scan.probe), quantity.is_open(scan, statistics)
    usable = usable_exposures(statistics)
    return is_open, orientation_search.search_orientation(scan, usable, valid, match, quantity_is_open=is_open)


@pytest.mark.parametrize(
    ("power", "message"),
    [
        (
            0.5,
            "amplitudes were taken for counts: .* as well .*; convert the file that this scan was made of again, with",
        ),
        (2.0, "counts were taken for amplitudes: .* as well .*; ptycho convert … --quantity counts$"),
    ],
)
def test_another_quantity_than_counts_is_named_and_the_orientation_is_told_nevertheless(
    tmp_path, quick, power, message
):
    """Frames upside down, and of a quantity that whole numbers do not show: they were scaled and rounded."""
    raw = right()
    values = raw.counts.astype(float)[:, ::-1] ** power
    counts = np.rint(values * raw.counts.sum() / values.sum())
    is_open, search = search_of(write(tmp_path / "scan.npz", raw.changed(counts=counts)))
    assert not is_open
    found, turned = errors(orientation_search.check_orientation(search))
    assert re.match(message, found)
    assert turned.endswith("; ptycho convert … --flip-y")


def test_counts_in_other_units_are_counts_and_hold_no_other_quantity(scans, quick):
    for name in ("adu", "normalized"):
        is_open, search = search_of(scans(name))
        assert is_open
        assert search.holds_counts
        assert search.quantity.margin < 0.7
        assert search.best == Orientation()


def test_nothing_but_counts_is_tried_where_the_scan_is_clearly_right(scans, quick):
    is_open, search = search_of(scans("right"))
    assert not is_open
    assert search.quantity is None


def test_orientations_with_one_turn_differ_by_a_joint_flip():
    same = [Orientation(flip_x=True, negate_x=True), Orientation(transpose=True, swap=True), Orientation()]
    assert len({orientation.turn for orientation in same}) == 1
    assert Orientation(flip_x=True).turn == Orientation(negate_x=True).turn != Orientation(negate_y=True).turn
    frames = np.arange(16).reshape(1, 4, 4)
    np.testing.assert_array_equal(Orientation(transpose=True, flip_x=True).frames(frames)[0, 0], frames[0, ::-1, 0])
    assert Orientation(negate_x=True, negate_y=True).options == "--negate-positions"
    assert Orientation().options == "(as it is)"


def trial(orientation, *deviance):
    held, ones = np.array(deviance), np.ones(len(deviance))
    plane = np.ones((2, 2))
    return Trial(
        orientation=orientation,
        held=Misfit(
            deviance=held,
            expected=ones,
            photons=ones,
            predicted=ones,
            variance=1.0,
            pixel_deviance=plane,
            pixel_expected=plane,
            n_valid=4,
        ),
    )


def test_a_turn_that_beats_the_next_but_not_that_of_the_scan_decides_nothing():
    """The scan's own turn has the larger misfit, but such scatter that it cannot be ruled out."""
    flipped, other = Orientation(flip_x=True), Orientation(flip_y=True, transpose=True)
    best, second = trial(flipped, 1.0, 1.0, 1.0, 1.0), trial(other, 1.2, 1.2, 1.2, 1.2)
    own = trial(Orientation(), 0.8, 0.9, 1.0, 2.5)
    assert orientation_search.clearly_better(best, second)
    assert not orientation_search.clearly_better(best, own)
    search = orientation_search.OrientationSearch(
        match=PatternMatch(as_is=1.0, moved=0.0), quick=[], free=[best, second, own], given=[best]
    )
    assert not search.is_decided
    assert search.best == Orientation()
    (finding,) = orientation_search.check_orientation(search, unit_is_open=True)  # no margin is claimed
    assert finding.text == (
        "the orientation cannot be told: 2 of 8 turns differ by less than exposures scatter (misfit 1 to 1.3)"
    )


@pytest.mark.parametrize(
    ("misfit", "unit_is_open", "is_assumed"),
    [(1.3, False, False), (1.3, True, True), (0.3, False, True), (7.0, False, True)],
)
def test_a_misfit_of_counts_that_are_no_photons_says_what_it_assumes(misfit, unit_is_open, is_assumed):
    """Ratios of misfits do not depend on the unit of the counts; that 1 is perfect, for photons alone."""
    right, flipped, worse = Orientation(), Orientation(flip_x=True), 4 * misfit
    for best, other, text in (
        (right, flipped, f"the right way round: misfit {misfit:g}, the next turn {worse:g}"),
        (flipped, right, f"not the right way round: misfit {worse:g} as it is, {misfit:g} with --flip-x"),
    ):
        free = [trial(best, *[misfit] * 4), trial(other, *[worse] * 4)]
        search = orientation_search.OrientationSearch(
            match=PatternMatch(as_is=1.0, moved=0.0), quick=[], free=free, given=free[:1]
        )
        findings = orientation_search.check_orientation(search, unit_is_open=unit_is_open)
        (finding,) = (part for part in findings if "way round" in part.text)
        assumed = ", taking every count for a photon: of the misfits, only the ratio tells" if is_assumed else ""
        assert finding.text == text + assumed
