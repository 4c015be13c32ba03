"""Config files and the command line: what is broken is refused by name, what is right is read as it was meant."""

import copy
import re
from pathlib import Path

import pytest
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import ConfigSettings

from ptycho.workflow.config import (
    ConfigError,
    load_config,
    main,
    read_file,
    with_command_line,
    with_numbers,
)
from tests.workflow import config_file, copy_of_code, output_of, snakemake

ROOT = Path(__file__).parent.parent
DEFAULT = load_config(ROOT / "config/config.yaml")
TEN_LINES = """\
study: mine
doses: [1000]
methods: [lsqml]
views: {only: 0.6}
source:
  kind: simulated
  seed: 1
  object: {kind: lines}
  probe: {kind: gaussian, n_pixels: 64, fwhm_px: 11.8}
  raster: {columns: 22, train_rows: 16, test_rows: 14, spacing_px: 6.2, jitter_px: 1.0}
"""


def test_numbers_that_snakemake_left_as_text_are_parsed():
    given = {"doses": ["1000", "10000"], "views": {"dense": "0.7"}, "methods": ["pinn"], "note": "yes"}
    wanted = {"doses": [1000, 10000], "views": {"dense": 0.7}, "methods": ["pinn"], "note": "yes"}
    assert with_numbers(given) == wanted


@pytest.mark.parametrize("text", ["{", "a: b: c", "[", "!!int x", "&a"])
def test_text_of_the_command_line_that_is_no_yaml_stays_text(text):
    assert with_numbers([text]) == [text]


@pytest.mark.parametrize("text", ["010", "1:30"])
def test_text_of_the_command_line_that_yaml_reads_in_another_base_stays_text(text):
    assert with_numbers([text]) == [text]


def test_the_command_line_replaces_views_and_changes_single_settings():
    given = {"views": {"mid": "0.5"}, "training": {"steps": "7"}}
    merged = copy.deepcopy(DEFAULT)
    merged["views"] |= given["views"]  # as Snakemake merges
    merged["training"] |= given["training"]
    config = with_command_line(merged, given)
    assert config["views"] == {"mid": 0.5}
    assert config["training"] == {**DEFAULT["training"], "steps": 7}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
)
"""A few lines that unfold to a thousand million values."""
BOMB_OF_MAPPINGS = "a0: &a0 {" + ", ".join(f"k{key}: x" for key in range(10)) + "}\n"
BOMB_OF_MAPPINGS += "".join(
    f"a{level}: &a{level} {{{', '.join(f'k{key}: *a{level - 1}' for key in range(10))}}}\n" for level in range(1, 9)
)
"""The same of mappings."""


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("study: x\ndoses: [1000]\ndoses: [10]\n", 3, "'doses'"),
        ("study: x\nviews:\n  0.7: 0.7\n", 3, "0.7"),
        ("study: x\nviews: {dense: 0.7\ndoses: [10]\n", 3, "expected"),
        ("study: x\n\tdoses: [10]\n", 2, "cannot start any token"),
        ("study: x\nviews:\n  on: 0.7\n", 3, "key on is read as True, not as text; quote it: 'on'"),
        ("study: x\n1: 2\n", 2, "key 1 is read as 1, not as text; quote it: '1'"),
        ("study: x\nviews: {70: 0.7}\n", 2, "quote it: '70'"),
        ("study: x\nviews: {~: 0.7}\n", 2, "key ~ is read as None"),
        ("study: x\n? [a, b]\n: 3\n", 2, "key ['a', 'b'] is read as"),
        ("study: x\nhalves: &a [tv, *a]\n", 2, "an alias that holds itself"),
        ("study: x\ntv: &a {b: *a}\n", 2, "an alias that holds itself"),
        (BOMB, 4, "11,111 values, aliases (&, *) unfolded; wanted at most 10,000"),
        (BOMB_OF_MAPPINGS, 4, "22,221 values"),
        ("study: x\n---\nstudy: y\n", 2, "expected a single document"),
        ("study: !!python/object:os.system {}\n", 1, "could not determine a constructor"),
        ("study: x\ntv: {<<: {a: 1}, <<: {a: 2}}\n", 2, "duplicate key '<<'"),
        ("__use_yte__: true\nstudy: ?1 + 1\n", 1, "templates are not supported"),
        ("study: x\nseeds: [010]\n", 2, "010 is read as 8; write 8"),
        ("study: x\ndoses: [1,000]\n", 2, "1,000 is read as two numbers; write thousands without commas"),
        ("study: x\nviews: {dense:0.75}\n", 2, "'dense:0.75' has no value: a blank is missing after the colon"),
        ("study: x\nseeds: [1:30]\n", 2, "1:30 is read as 90"),
        ("study: x\nseeds: [1:30.5]\n", 2, "1:30.5 is read as 90.5"),
        ("study: x\nseeds: [2020-13-45]\n", 2, "'2020-13-45': month must be in 1..12"),
        ("study: x\nseeds: [" + "9" * 5000 + "]\n", 2, "'99999999999999999999': Exceeds the limit"),
    ],
    ids=[
        *("duplicate key", "number as key", "unbalanced bracket", "tab", "on", "1", "70", "null", "list as key"),
        *("endless alias", "endless mapping", "alias bomb", "bomb of mappings", "two documents", "Python object"),
        *(
            "duplicate merge",
            "template",
            "octal",
            "thousands",
            "no blank",
            "sexagesimal",
            "sexagesimal float",
            "no date",
            "too many digits",
        ),
    ],
)
def test_a_broken_file_is_refused_in_one_line_with_its_name_and_the_line(tmp_path, text, line, reason):
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{path}\b.*\bline {line}\b") as error:
        read_file(path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_of_base_ten_and_sixteen_are_read(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("seeds: [0, 10, -7, 1_000, 0x10, 0.5, 00.5, 1.0e-3]\n", encoding="utf-8")
    assert read_file(path) == {"seeds": [0, 10, -7, 1000, 16, 0.5, 0.5, 0.001]}


def test_a_mapping_takes_over_another_one_without_being_called_duplicate(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("views: &base {a: 0.5, b: 0.6}\nobjects: {<<: *base, b: 0.7}\n", encoding="utf-8")
    assert read_file(path) == {"views": {"a": 0.5, "b": 0.6}, "objects": {"a": 0.5, "b": 0.7}}


def test_what_is_nested_too_deeply_is_refused(tmp_path):
    path = tmp_path / "deep.yaml"
    path.write_text("halves: " + "[" * 5000 + "]" * 5000, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{path}: lists or mappings are nested too deeply"):
        read_file(path)


def test_a_file_that_is_missing_or_no_mapping_is_named(tmp_path):
    (tmp_path / "list.yaml").write_text("- a\n", encoding="utf-8")
    (tmp_path / "latin1.yaml").write_bytes("study: café\n".encode("latin-1"))
    for name, reason in (
        ("list", ": holds list; wanted a mapping"),
        ("latin1", ", line 1: byte 0xe9 is not UTF-8"),
        ("none", ": .*No such file"),
    ):
        with pytest.raises(ConfigError, match=rf"{name}\.yaml{reason}"):
            read_file(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        ("study: x\nviews: {a: 0.5}  # 1 \xb5m\n".encode("latin-1"), UnicodeDecodeError, r", line 2: byte 0xb5"),
        (b"study: x\ntv: &a {b: *a}\n", RecursionError, r", line 2: an alias that holds itself"),
        (b"halves: " + b"[" * 5000 + b"]" * 5000, RecursionError, r": .* nested too deeply"),
        (b"study: 2020-13-45\n", ValueError, r", line 1: '2020-13-45'"),
        (b"study: [x\n", WorkflowError, r", line 2: while parsing a flow sequence"),
    ],
    ids=["Latin-1", "endless alias", "nested", "no date", "broken YAML"],
)
def test_what_snakemake_fails_on_before_the_workflow_is_named_by_the_check_of_study_files(
    tmp_path, monkeypatch, capsys, content, error, reason
):
    """As docs/how-to/own-study.md says: Snakemake reads the files of --configfile before it reads the Snakefile."""
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(error):
        ConfigSettings(configfiles=[path])
    monkeypatch.setattr("sys.argv", ["config", str(path)])
    assert main() == 1
    assert re.fullmatch(rf"{path}{reason}[^\n]*\n", capsys.readouterr().err)


def test_a_folder_in_place_of_a_study_file_is_named(tmp_path, monkeypatch, capsys):
    """By Snakemake in a traceback, as docs/how-to/own-study.md says."""
    with pytest.raises(IsADirectoryError):
        ConfigSettings(configfiles=[tmp_path])
    monkeypatch.setattr("sys.argv", ["config", str(tmp_path)])
    assert main() == 1
    assert re.fullmatch(rf"{tmp_path}: [^\n]*Is a directory[^\n]*\n", capsys.readouterr().err)


def test_the_check_of_study_files_takes_what_the_workflow_takes(tmp_path, monkeypatch, capsys):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(TEN_LINES.replace("lines}", "leaves}"), encoding="utf-8")  # an old name that is still accepted
    bad.write_text(TEN_LINES + "nonsense: 1\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["config", str(good), str(bad)])
    assert main() == 1
    said = capsys.readouterr()
    assert said.out == f"{good}: a valid study file\n"
    assert re.match(rf"{bad}: .*invalid:\n  - config: .*'nonsense' was unexpected.*\n$", said.err)


def dry_run(folder, text, *arguments, check=False, **options):
    """A dry run with a study file of this text."""
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return snakemake(folder, "-n", "--configfile", path, *arguments, check=check, **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEN_LINES + "doses: [10]\n", r"study\.yaml, line 11: .*'doses'"),
        (TEN_LINES.replace("only: 0.6", "0.6: 0.6"), r"study\.yaml, line 4: .*0\.6"),
        (TEN_LINES.replace("[1000]", "[1000"), "Config file is not valid JSON or YAML"),  # Snakemake's own
        (TEN_LINES.replace("[1000]", "[1.0e5]"), r"doses\[0\]: '1\.0e5' is text, as YAML reads it; write 100000"),
        (TEN_LINES + BOMB, r"study\.yaml, line 14: 11,111 values"),
        (TEN_LINES + "halves: &a [tv, *a]\n", r"study\.yaml, line 11: an alias that holds itself"),
        (
            TEN_LINES.partition("source:")[0]
            + "source: {kind: measured, scan: none.npz, seed: 1, train_fraction: 0.5}\n",
            r"source\.scan: none\.npz: no such file; wanted a scan that `ptycho convert` made",
        ),
        (TEN_LINES.replace("only:", "'a{b}':"), r"views: 'a\{b\}' is no name; wanted letters"),
        (TEN_LINES.replace("11.8", "1300"), r"source\.probe: fwhm_px 1300 must lie in \(0, 16\.0\]"),
    ],
    ids=[
        *("duplicate key", "number as key", "broken YAML", "text as number", "alias bomb", "endless alias"),
        *("missing scan", "braces", "beam"),
    ],
)
def test_a_broken_file_stops_the_dry_run_without_a_traceback(tmp_path, text, message):
    run = dry_run(tmp_path, text)
    assert run.returncode
    assert len(re.findall(message, output_of(run))) == 1
    assert "Traceback" not in output_of(run)


def test_whole_numbers_that_are_written_as_floats_are_planned_as_integers(tmp_path):
    text = TEN_LINES.replace("[1000]", "[1.0e+5]").replace("seed: 1", "seed: 1.0") + "seeds: [2.0]\n"
    run = dry_run(tmp_path, text, "--", "phase_d", check=True)
    assert "results/mine/dose_100000/only/seed_2/test.npz" in output_of(run)


def views_of(run):
    """Views that a dry run would make."""
    return set(
        re.findall(r"^    output: results/\w+/dose_\d+/(\w+)/seed_0/test\.npz,", output_of(run), flags=re.MULTILINE)
    )


def test_a_relative_configfile_is_found_from_where_the_command_is_given(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    config = config_file(here, study="relative")
    run = snakemake(there, "-n", "--configfile", config.name, "--", "phase_d", cwd=here)
    assert "results/relative/dose_100000/dense/seed_0/test.npz" in output_of(run)


@pytest.mark.parametrize(
    ("arguments", "views"),
    [
        ((), {"dense", "sparse"}),  # without --configfile: the default study
        (("--configfile", "own"), {"only"}),  # with it none of the default study's views
        (("--configfile", "own", "--config", "views={mid: 0.5}"), {"mid"}),
        (("--config", "views={mid: 0.5}"), {"mid"}),
    ],
)
def test_views_are_those_that_were_asked_for_last(tmp_path, arguments, views):
    path = tmp_path / "own.yaml"
    path.write_text(TEN_LINES, encoding="utf-8")
    arguments = [path if argument == "own" else argument for argument in arguments]
    run = snakemake(tmp_path, "-n", *arguments, "--", "phase_d")
    assert views_of(run) == views


def test_a_workflow_in_a_folder_with_braces_is_refused_before_it_looks_for_files(tmp_path):
    """In names of files, Snakemake takes braces for wildcards; the folder of a study may have them."""
    code = copy_of_code(tmp_path / "a{b}")
    run = snakemake(tmp_path / "a{b}", "-n", "--snakefile", code / "Snakefile", check=False)
    assert run.returncode
    assert f"{code}: has braces in its name; move the workflow elsewhere" in output_of(run)
    assert "Traceback" not in output_of(run)
