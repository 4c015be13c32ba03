"""`ptycho check`: every fault of a scan is named, with what mends it; a right scan and a masked one are fine."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ptycho.cli.main import main
from ptycho.data.npz import load_arrays
from ptycho.inspection import orientation_search
from ptycho.inspection.check import check_scan
from ptycho.inspection.counts import check_counts, saturation_of, usable_exposures
from ptycho.inspection.findings import TOPICS, Finding, Verdict, named, worst
from ptycho.inspection.flux import confirm_jumps, find_jumps, flux_of
from ptycho.inspection.orientation import Orientation
from ptycho.inspection.pixels import check_pixels, find_pixels
from ptycho.inspection.positions import check_positions, connected_parts
from ptycho.inspection.probe import check_probe, match_patterns
from ptycho.inspection.statistics import common_divisor, frame_statistics
from ptycho.inspection.support import Request, check_request, find_support, study_file
from ptycho.physics.forward import inverse_diffract
from ptycho.physics.probes import diameter_px
from ptycho.workflow.config import DEFAULTS, check_config, load_config, load_schema, read_file
from ptycho.workflow.files import ContractError
from ptycho.workflow.refusal import refusal
from tests.faulty_scans import COLUMNS, N, faults, right, write

GROUPING = read_file(DEFAULTS)["grouping"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A function: name of a fault -> scan that has it."""
    folder, known, written = tmp_path_factory.mktemp("faults"), faults(), {}

    def scan(name):
        if name not in written:
            written[name] = write(folder / f"{name}.npz", known[name])
        return written[name]

    return scan


@pytest.fixture
def quick(monkeypatch):
    """Fewer exposures and iterations of the trials than `ptycho check` takes."""
    monkeypatch.setattr(orientation_search, "QUICK_EXPOSURES", (16, 16))
    monkeypatch.setattr(orientation_search, "LONG_EXPOSURES", (24, 24))
    monkeypatch.setattr(orientation_search, "LONG_ITERATIONS", 25)


def statistics_of(scan):
    valid = np.ones((N, N), bool) if scan.detector.valid is None else scan.detector.valid
    return frame_statistics(scan, valid), valid


def errors(findings):
    return [finding.line for finding in findings if finding.level == "error"]


def points_of(scan):
    return np.stack([scan.ycoords, scan.xcoords], axis=1)


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


def test_orientations_with_one_turn_differ_by_a_joint_flip():
    same = [Orientation(flip_x=True, negate_x=True), Orientation(transpose=True, swap=True), Orientation()]
    assert len({orientation.turn for orientation in same}) == 1
    assert Orientation(flip_x=True).turn == Orientation(negate_x=True).turn != Orientation(negate_y=True).turn
    frames = np.arange(16).reshape(1, 4, 4)
    np.testing.assert_array_equal(Orientation(transpose=True, flip_x=True).frames(frames)[0, 0], frames[0, ::-1, 0])
    assert Orientation(negate_x=True, negate_y=True).options == "--negate-positions"
    assert Orientation().options == "(as it is)"


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


def test_what_a_scan_supports_is_a_study_that_passes_the_schema(tmp_path):
    scan = write(tmp_path / "scan.npz", right(rows=44))
    photons = np.full(len(scan), 50_000.0)
    support = find_support(scan, photons, np.ones(len(scan), bool), GROUPING)
    assert support.max_dose == 25_000
    assert support.doses == (100, 1000, 10_000)
    assert support.views["dense"] > support.views["sparse"] >= 0.4
    (tmp_path / "study.yaml").write_text(study_file("scan.npz", "mine", support, read_file(DEFAULTS)), encoding="utf-8")
    config = load_config(tmp_path / "study.yaml")
    check_config(config)
    assert config["source"]["scan"] == "scan.npz"


def test_more_than_a_scan_holds_is_refused_before_it_is_reconstructed(tmp_path):
    scan = write(tmp_path / "scan.npz", right(rows=44))
    support = find_support(scan, np.full(len(scan), 50_000.0), np.ones(len(scan), bool), GROUPING)
    findings = check_request(Request(doses=(1000, 30_000), views={"dense": 0.7, "denser": 0.95}), support)
    assert [finding.level for finding in findings] == ["error", "warning"]
    assert findings[0].line == (
        "doses: 30,000 photons per exposure asked for; half of the scan holds 25,000; lower doses"
    )
    assert "views: denser 0.95 asked for" in findings[1].text
    assert check_request(Request(doses=(1000,), views={"dense": 0.7}), support) == []


def test_a_scan_that_cannot_be_split_supports_no_study(scans):
    scan = scans("swapped_xy")
    support = find_support(scan, np.full(len(scan), 5e4), np.ones(len(scan), bool), GROUPING)
    assert "guard band" in support.problem
    assert not support.is_enough


def test_a_config_can_accept_every_topic():
    (measured,) = (part for part in load_schema()["properties"]["source"]["oneOf"] if "accept" in part["properties"])
    assert measured["properties"]["accept"]["items"]["enum"] == list(TOPICS)


def test_exposures_are_named_with_ranges():
    assert named([3, 100, 101, 102, 7]) == "3, 7, 100-102"
    assert named(range(0, 40, 2), most=2) == "0, 2 and 18 more"


def test_errors_of_accepted_topics_are_not_refused(tmp_path):
    findings = [Finding("pixels", "error", "gaps"), Finding("counts", "warning", "few")]
    verdict = Verdict.of("scan.npz", findings)
    assert verdict.status == 1
    path = tmp_path / "check.json"
    path.write_text(json.dumps(verdict.as_dict()), encoding="utf-8")
    assert Verdict.load(path) == verdict
    page = tmp_path / "check.html"
    assert refusal(path) == (
        f"scan.npz: not fit for a study, see {page}; `source.accept: [pixels]` in the config goes on nevertheless\n"
        "  pixels: gaps"
    )
    assert refusal(path, ["pixels"]) == ""
    path.write_text(json.dumps(replace(verdict, status=2).as_dict()), encoding="utf-8")
    assert refusal(path, ["pixels"]).startswith(f"scan.npz: not fit for a study, see {page}\n")
    path.write_text("{}", encoding="utf-8")
    for read in (Verdict.load, refusal):
        with pytest.raises(ContractError, match="not the verdict of a check"):
            read(path)


def test_memory_and_blocks_do_not_show_in_the_statistics(scans):
    scan, valid = scans("gaps"), np.ones((N, N), bool)
    whole, blocks = frame_statistics(scan, valid, block_size=1000), frame_statistics(scan, valid, block_size=7)
    for name in ("photons", "total", "at_limit", "highest", "not_whole"):
        np.testing.assert_allclose(getattr(whole, name), getattr(blocks, name))


def test_the_command_writes_page_figure_text_mask_and_study_and_says_it_by_its_exit_code(
    scans, quick, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(scans("masked").path)]) == 0
    assert "Nothing stands out" in Path("masked_check.txt").read_text(encoding="utf-8")
    assert not Path("masked_check.npz").exists()
    assert main(["check", str(scans("gaps").path), "--output", "out/gaps"]) == 1
    assert "ERROR: 64 pixels hold 4,294,967,295" in capsys.readouterr().out
    page = Path("out/gaps.html").read_text(encoding="utf-8")
    assert "A study of this scan would go wrong." in page
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=\"https?:", page)
    assert np.asarray(Image.open("out/gaps.png").convert("RGB")).std() > 5
    (mask,) = load_arrays("out/gaps.npz", "bad_pixels")
    assert mask.sum() == 64
    check_config(load_config("out/gaps.yaml"))
    assert yaml.safe_load(Path("out/gaps.yaml").read_text(encoding="utf-8"))["source"]["scan"].endswith("gaps.npz")


@pytest.mark.parametrize("name", ["none.npz", "text.npz", "folder"])
def test_what_cannot_be_read_has_the_exit_code_2_and_a_page(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    Path("text.npz").write_text("no scan", encoding="utf-8")
    Path("folder").mkdir()
    assert main(["check", name, "--output", "out"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert "could not be read" in Path("out.html").read_text(encoding="utf-8")
    assert json.loads(Path("out.json").read_text(encoding="utf-8"))["status"] == 2


def test_all_exposures_dark_is_an_error_and_no_traceback(tmp_path, quick):
    raw = right()
    check = check_scan(write(tmp_path / "scan.npz", raw.changed(counts=0 * raw.counts)), GROUPING)
    assert check.verdict.status == 1
    assert "none of the 104 exposures has photons" in check.verdict.findings[0].text


def test_few_exposures_are_checked_without_trials(tmp_path):
    raw = right(rows=1)
    check = check_scan(write(tmp_path / "scan.npz", raw), GROUPING)
    assert check.search is None
    assert any(f"fewer than {COLUMNS + 1} usable" in finding.text for finding in check.verdict.findings)
