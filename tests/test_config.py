"""Config files and the closed schema: complete, short, and refused with the name of the key."""

import copy
import re
from dataclasses import fields
from pathlib import Path

import pytest

from ptycho.data.tiles import TilingOptions
from ptycho.data.views import GroupingOptions
from ptycho.physics.detector import DetectorOptions
from ptycho.physics.simulate import RasterOptions
from ptycho.reconstruction.lsqml import LSQMLOptions
from ptycho.reconstruction.tv import TVOptions
from ptycho.workflow.config import (
    DEFAULTS,
    ConfigError,
    check_config,
    load_config,
    load_schema,
    read_file,
    with_command_line,
    with_numbers,
)
from ptycho.workflow.config_reference import write_reference
from tests.workflow import config_file, output_of, snakemake

ROOT = Path(__file__).parent.parent
STUDIES = sorted(path for path in (ROOT / "config").glob("*.yaml") if path != DEFAULTS)
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


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_file_over_the_defaults_is_valid(path):
    check_config(load_config(path))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_file_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 30


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_file_repeats_no_default(path):
    def repeated(own, defaults, where=""):
        for key, value in own.items():
            if isinstance(value, dict) and isinstance(defaults.get(key), dict):
                yield from repeated(value, defaults[key], f"{where}{key}.")
            elif key in defaults and defaults[key] == value:
                yield where + key

    assert list(repeated(read_file(path), read_file(DEFAULTS))) == []


def test_what_a_study_asks_has_no_default():
    asked = {"study", "doses", "views", "objects", "source", "methods"}
    schema = load_schema()
    assert not asked & set(read_file(DEFAULTS))
    assert set(read_file(DEFAULTS)) == set(schema["properties"]) - asked
    assert set(schema["required"]) == set(schema["properties"]) - {"objects"}


def test_studies_have_different_names():
    names = [read_file(path)["study"] for path in STUDIES]
    assert len(set(names)) == len(names) >= 3


def changed(path, value):
    """The default study with one value changed."""
    config = copy.deepcopy(DEFAULT)
    *parents, key = path.split(".")
    part = config
    for parent in parents:
        part = part.setdefault(parent, {})
    part[key] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "training.stepps",
            3,
            r"training: .*'stepps'.*allowed keys: exposures, fit_fraction, learning_rate, loss, steps, target",
        ),
        ("doses", [-5], r"doses\[0\]: -5 .*minimum of 1"),
        ("doses", ["1e3"], r"doses\[0\]: '1e3' is not of type 'integer'"),
        ("views.dense", 1.2, r"views\.dense: 1\.2 .*maximum of 1"),
        ("grouping.max_spread", 0, r"grouping\.max_spread: 0 .*minimum of 0"),
        ("grouping.neighbors", 65, r"grouping\.neighbors: 65 .*maximum of 64"),
        ("inference.halo_px", -1, r"inference\.halo_px: -1 .*minimum of 0"),
        ("inference.chunks", 0, r"inference\.chunks: 0 .*minimum of 1"),
        ("methods", ["pinn", "magic"], r"methods\[1\]: 'magic' is not one of .*'lsqml'"),
        ("splits", [], "splits"),
        (
            "source.object.kind",
            "cheese",
            r"source\.object\.kind: 'cheese'; wanted one of dead_leaves, lines, siemens, file",
        ),
        ("source.raster.spacing", 3, r"source\.raster: .*'spacing'"),
        ("source.detector.gap_px", 16, r"source\.detector\.gap_px: 16 .*maximum of 15"),
        (
            "source.detector.gaps",
            1,
            r"source\.detector: .*'gaps'.*allowed keys: background, dead_fraction, flux",
        ),
        ("grouping.gridsize", 5, r"grouping\.neighbors: 20 is too few for groups of 25"),
        ("tv.lambda_min", 2000, r"tv\.lambda_min: 2000 is more than tv\.lambda_max, 1024"),
        ("study", "../up", "study: '../up' does not match"),
    ],
)
def test_an_invalid_value_is_named_with_what_is_allowed(path, value, message):
    with pytest.raises(ConfigError, match=message):
        check_config(changed(path, value))


def test_a_missing_key_is_named():
    config = copy.deepcopy(DEFAULT)
    del config["training"]["steps"]
    with pytest.raises(ConfigError, match="'steps' is a required property"):
        check_config(config)


@pytest.mark.parametrize(
    ("section", "options"), [("grouping", GroupingOptions), ("lsqml", LSQMLOptions), ("tv", TVOptions)]
)
def test_options_and_schema_have_the_same_names(section, options):
    assert set(load_schema()["properties"][section]["properties"]) == {field.name for field in fields(options)}


def test_options_of_tiles_have_the_names_of_the_schema():
    inference = load_schema()["properties"]["inference"]["properties"]
    assert {field.name for field in fields(TilingOptions)} == set(inference) - {"chunks", "batch_size"}
    check_config(changed("inference.halo_px", 12.5))


def test_options_of_networks_and_raster_have_the_names_of_the_schema():
    from ptycho.model.networks import NetworkOptions
    from ptycho.model.refined import RefinedOptions
    from ptycho.model.training import TrainingOptions
    from ptycho.model.unrolled import UnrolledOptions

    schema = load_schema()["properties"]
    sections = {
        "network": NetworkOptions,
        "training": TrainingOptions,
        "unrolled": UnrolledOptions,
        "refined": RefinedOptions,
    }
    for section, options in sections.items():
        assert set(schema[section]["properties"]) == {field.name for field in fields(options)}
    raster = schema["source"]["oneOf"][0]["properties"]["raster"]["properties"]
    assert set(raster) == {field.name for field in fields(RasterOptions)}
    detector = schema["source"]["oneOf"][0]["properties"]["detector"]["properties"]
    assert set(detector) == {field.name for field in fields(DetectorOptions)}


def assert_closed(schema):
    """Every object of the schema that names its properties is closed."""
    if isinstance(schema, dict):
        assert "properties" not in schema or schema.get("additionalProperties") is False, schema
        for part in schema.values():
            assert_closed(part)
    elif isinstance(schema, list):
        for part in schema:
            assert_closed(part)


def test_the_schema_is_closed_everywhere():
    assert_closed(load_schema())


def test_numbers_that_snakemake_left_as_text_are_parsed():
    given = {"doses": ["1000", "10000"], "views": {"dense": "0.7"}, "methods": ["pinn"], "note": "yes"}
    wanted = {"doses": [1000, 10000], "views": {"dense": 0.7}, "methods": ["pinn"], "note": "yes"}
    assert with_numbers(given) == wanted


def test_the_command_line_replaces_views_and_changes_single_settings():
    given = {"views": {"mid": "0.5"}, "training": {"steps": "7"}}
    merged = copy.deepcopy(DEFAULT)
    merged["views"] |= given["views"]  # as Snakemake merges
    merged["training"] |= given["training"]
    config = with_command_line(merged, given)
    assert config["views"] == {"mid": 0.5}
    assert config["training"] == {**DEFAULT["training"], "steps": 7}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("study: x\ndoses: [1000]\ndoses: [10]\n", 3, "'doses'"),
        ("study: x\nviews:\n  0.7: 0.7\n", 3, "0.7"),
        ("study: x\nviews: {dense: 0.7\ndoses: [10]\n", 3, "expected"),
        ("study: x\n\tdoses: [10]\n", 2, "cannot start any token"),
    ],
    ids=["duplicate key", "number as key", "unbalanced bracket", "tab"],
)
def test_a_broken_file_is_refused_in_one_line_with_its_name_and_the_line(tmp_path, text, line, reason):
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{path}\b.*\bline {line}\b") as error:
        read_file(path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_no_mapping_is_named(tmp_path):
    (tmp_path / "list.yaml").write_text("- a\n", encoding="utf-8")
    (tmp_path / "latin1.yaml").write_bytes("study: café\n".encode("latin-1"))
    for name, reason in (("list", "wanted a mapping"), ("latin1", "utf-8"), ("none", "No such file")):
        with pytest.raises(ConfigError, match=rf"{name}\.yaml: .*{reason}"):
            read_file(tmp_path / f"{name}.yaml")


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
    ],
    ids=["duplicate key", "number as key", "broken YAML"],
)
def test_a_broken_file_stops_the_dry_run_without_a_traceback(tmp_path, text, message):
    run = dry_run(tmp_path, text)
    assert run.returncode
    assert len(re.findall(message, output_of(run))) == 1
    assert "Traceback" not in output_of(run)


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


def studies_in_the_documentation():
    """Study files that README and documentation show: (file and number, content)."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        blocks = re.findall(r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for number, text in enumerate(blocks):
            if text.startswith("study:"):
                yield pytest.param(text, id=f"{path.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("text", list(studies_in_the_documentation()))
def test_a_study_of_the_documentation_is_valid(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    check_config(load_config(tmp_path / "study.yaml"))


def test_the_reference_of_keys_is_up_to_date():
    written = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert write_reference() == written, "make reference writes it anew"
