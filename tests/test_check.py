"""`ptycho check`: what a scan supports, verdict, page and files; what stops a study."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ptycho.cli.main import main
from ptycho.data.npz import load_arrays
from ptycho.data.scan import open_scan
from ptycho.inspection.check import check_scan
from ptycho.inspection.findings import TOPICS, Finding, Verdict, named
from ptycho.inspection.support import Request, check_request, find_support, study_file
from ptycho.reporting.check_files import check_file, write_check
from ptycho.workflow.config import DEFAULTS, check_config, load_config, load_schema, read_file
from ptycho.workflow.files import ContractError
from ptycho.workflow.refusal import refusal
from tests.faulty_scans import COLUMNS, right, write

GROUPING = read_file(DEFAULTS)["grouping"]


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
    for status in (np.inf, 3, True, 1.0, "1"):
        path.write_text(json.dumps(verdict.as_dict() | {"status": status}), encoding="utf-8")
        with pytest.raises(
            ContractError, match=r"check\.json: not the verdict of a check: 'status' is .*; wanted one of"
        ):
            Verdict.load(path)
    path.write_text("{}", encoding="utf-8")
    for read in (Verdict.load, refusal):
        with pytest.raises(ContractError, match="not the verdict of a check"):
            read(path)


def test_the_command_writes_page_figure_text_mask_and_study_and_says_it_by_its_exit_code(
    scans, quick, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(scans("masked").path)]) == 0
    assert "Nothing stands out" in Path("masked_check.txt").read_text(encoding="utf-8")
    assert not Path("masked_check.npz").exists()
    assert main(["check", str(scans("gaps").path), "--output", "out/gaps"]) == 1
    printed = capsys.readouterr().out
    assert "ERROR: 64 pixels hold 4,294,967,295" in printed
    assert printed.splitlines()[-1] == f"ptycho convert {scans('gaps').path} gaps_mended.npz --mask out/gaps.npz"
    page = Path("out/gaps.html").read_text(encoding="utf-8")
    assert "A study of this scan would go wrong." in page
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=\"https?:", page)
    assert np.asarray(Image.open("out/gaps.png").convert("RGB")).std() > 5
    (mask,) = load_arrays("out/gaps.npz", "bad_pixels")
    assert mask.sum() == 64
    check_config(load_config("out/gaps.yaml"))
    assert yaml.safe_load(Path("out/gaps.yaml").read_text(encoding="utf-8"))["source"]["scan"].endswith("gaps.npz")


def test_the_command_that_is_printed_mends_the_scan(scans, quick, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dark = right()
    dark.counts[40:47], dark.counts[:, 5, 7] = 0, 100_000
    write(tmp_path / "scan.npz", dark)
    assert main(["check", "scan.npz"]) == 1
    command = capsys.readouterr().out.splitlines()[-1]
    assert command == "ptycho convert scan.npz scan_mended.npz --leave-out 40-46 --mask scan_check.npz"
    assert main(shlex.split(command)[1:]) == 0
    scan = open_scan("scan_mended.npz")
    assert (len(scan), scan.detector.bad_pixels.sum()) == (len(dark.counts) - 7, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.npz", "none.npz: no such file"),
        ("text.npz", "text.npz: not an NPZ"),
        ("folder", "folder: a folder"),
        ("raw.npz", "raw.npz: no key 'diffraction'"),
        ("scan.cxi", "scan.cxi: an HDF5 file; wanted a scan, such as `ptycho convert` makes of it"),
    ],
)
def test_what_cannot_be_read_has_the_exit_code_2_and_no_files(tmp_path, monkeypatch, capsys, name, message):
    monkeypatch.chdir(tmp_path)
    Path("text.npz").write_text("no scan", encoding="utf-8")
    Path("folder").mkdir()
    np.savez("raw.npz", intensity=np.ones((4, 8, 8)), xcoords=np.arange(4.0), ycoords=np.arange(4.0))
    Path("scan.cxi").write_bytes(b"\x89HDF\r\n\x1a\n")
    before = sorted(Path.cwd().iterdir())
    assert main(["check", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ptycho: {message}")
    assert sorted(Path.cwd().iterdir()) == before


def test_a_study_has_a_page_of_a_scan_that_cannot_be_read(tmp_path):
    verdict, check = check_file(tmp_path / "none.npz")
    assert check is None
    assert [finding.topic for finding in verdict.findings] == ["file"]
    write_check(tmp_path / "check", verdict, check)
    page = (tmp_path / "check.html").read_text(encoding="utf-8")
    assert "could not be read" in page
    assert "none.npz: no such file" in page
    assert refusal(tmp_path / "check.json").endswith(f"  file: {verdict.findings[0].line}")
    assert Verdict.load(tmp_path / "check.json").status == 2


@pytest.mark.parametrize(
    ("stem", "suffix"),
    [("scan", "npz"), ("out", "npz"), *(("out", suffix) for suffix in ("html", "png", "txt", "json", "yaml"))],
)
def test_a_check_touches_nothing_that_no_check_has_written(tmp_path, monkeypatch, capsys, stem, suffix):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "scan.npz", right(rows=1))
    taken = Path(f"{stem}.{suffix}")
    if stem != "scan":
        taken.write_bytes(b"precious")
    content = taken.read_bytes()
    before = sorted(tmp_path.iterdir())
    assert main(["check", "scan.npz", "--output", stem]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ptycho: {taken}: ")
    assert line.endswith(("wanted another --output", "wanted another --output, or move it"))
    assert sorted(tmp_path.iterdir()) == before
    assert taken.read_bytes() == content


def test_a_check_replaces_and_removes_its_own_files_unless_they_were_edited(tmp_path, monkeypatch, capsys, quick):
    monkeypatch.chdir(tmp_path)
    raw = right()
    counts = raw.counts.copy()
    counts[:, 5, 7] = 100_000
    write(tmp_path / "hot.npz", raw.changed(counts=counts))
    write(tmp_path / "few.npz", right(rows=1))
    main(["check", "hot.npz", "--output", "out"])
    assert Path("out.npz").exists()
    assert Path("out.yaml").exists()
    study = Path("out.yaml").read_text(encoding="utf-8")
    Path("out.yaml").write_text(study + "# mine\n", encoding="utf-8")
    assert main(["check", "few.npz", "--output", "out"]) == 2
    assert "out.yaml: in the way" in capsys.readouterr().err
    assert Path("out.yaml").read_text(encoding="utf-8") == study + "# mine\n"
    Path("out.yaml").write_text(study, encoding="utf-8")
    main(["check", "few.npz", "--output", "out"])
    assert "few.npz: " in Path("out.txt").read_text(encoding="utf-8")
    assert not Path("out.npz").exists()
    assert not Path("out.yaml").exists()


def test_a_check_that_fails_while_it_writes_leaves_no_file(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> str:
        raise OSError("no page")

    check = check_scan(write(tmp_path / "scan.npz", right(rows=1)), GROUPING)
    monkeypatch.setattr("ptycho.reporting.check_files.render_check", fail)
    with pytest.raises(OSError, match="no page"):
        write_check(tmp_path / "out", check.verdict, check)
    with pytest.raises(ContractError, match="the scan itself"):
        write_check(tmp_path / "scan", check.verdict, check)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npz"]


def test_all_exposures_dark_is_an_error_and_no_traceback(tmp_path, quick):
    raw = right()
    check = check_scan(write(tmp_path / "scan.npz", raw.changed(counts=0 * raw.counts)), GROUPING)
    assert check.verdict.status == 1
    assert "none of the 104 exposures has photons" in check.verdict.findings[0].text


def test_flux_that_hides_the_orientation_of_a_small_scan_is_found_with_it(tmp_path):
    """With so few exposures, those of less flux are among all that are tried: no turn is better beyond scatter."""
    raw = right(rows=8, columns=6)
    counts = raw.counts.copy()
    counts[20:30] = np.random.default_rng(2).binomial(counts[20:30], 0.7)
    check = check_scan(write(tmp_path / "scan.npz", raw.changed(counts=counts[:, :, ::-1])), GROUPING)
    assert [jump.start for jump in check.jumps] == [20, 30]
    assert check.search.best.options == "--flip-x"
    low = check.proposals["exposure_scale"][20:30].mean() / check.proposals["exposure_scale"][:20].mean()
    assert low == pytest.approx(0.7, abs=0.08)


def test_few_exposures_are_checked_without_trials(tmp_path):
    raw = right(rows=1)
    check = check_scan(write(tmp_path / "scan.npz", raw), GROUPING)
    assert check.search is None
    assert any(f"fewer than {COLUMNS + 1} usable" in finding.text for finding in check.verdict.findings)
