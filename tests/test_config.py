"""Study files and the closed schema: complete, short, and refused with the name of the key."""

import copy
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from ptycho.data.tiles import TilingOptions
from ptycho.data.views import GroupingOptions
from ptycho.physics.detector import DetectorOptions
from ptycho.physics.simulate import RasterOptions
from ptycho.reconstruction.lsqml import LSQMLOptions
from ptycho.reconstruction.tv import TVOptions
from ptycho.workflow.config import (
    DEFAULTS,
    NAMES,
    NO_BRACES,
    SCHEMA,
    ConfigError,
    as_integers,
    check_config,
    load_config,
    load_schema,
    read_file,
)
from ptycho.workflow.config_reference import write_reference
from ptycho.workflow.retired import accept_old_kinds

ROOT = Path(__file__).parent.parent
STUDIES = sorted(path for path in (ROOT / "config").glob("*.yaml") if path != DEFAULTS)
DEFAULT = load_config(ROOT / "config/config.yaml")


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
    asked = {"study", "doses", "views", "objects", "flaws", "source", "methods"}
    schema = load_schema()
    assert not asked & set(read_file(DEFAULTS))
    assert set(read_file(DEFAULTS)) == set(schema["properties"]) - asked
    assert set(schema["required"]) == set(schema["properties"]) - {"objects", "flaws"}


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
            r"training: .*'stepps'.*allowed keys: exposures, fit_fraction, learning_rate, loss, probe, steps, target",
        ),
        ("doses", [-5], r"doses\[0\]: -5 .*minimum of 1"),
        ("doses", ["1e3"], r"doses\[0\]: '1e3' is text, as YAML reads it; write 1000"),
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
        ("source", "siemens", r"source: 'siemens' has no `kind`; wanted one of simulated, measured"),
        ("source.object.kind", ["lines"], r"source\.object\.kind: \['lines'\]; wanted one of dead_leaves"),
        ("source.raster.spacing", 3, r"source\.raster: .*'spacing'"),
        ("source.detector.gap_px", 16, r"source\.detector\.gap_px: 16 .*maximum of 15"),
        (
            "source.detector.gaps",
            1,
            r"source\.detector: .*'gaps'.*allowed keys: background, dead_fraction, flux",
        ),
        ("grouping.gridsize", 5, r"grouping\.neighbors: 20 is too few for groups of 25"),
        ("tv.lambda_min", 2000, r"tv\.lambda_min: 2000 is more than tv\.lambda_max, 1024"),
        ("study", "../up", r"study: '\.\./up' is no name; wanted letters \(a-z, A-Z\), digits, - and _ alone"),
        ("study", "tiny\n", r"study: 'tiny\\n' is no name"),
        ("study", 70, r"study: 70 is read as int, not as text; quote it"),
        ("study", True, r"study: True is read as bool, not as text; quote it"),
        ("study", "x" * 101, r"study: 'x{20}'… has 101 characters; wanted at most 100"),
        ("views", {"x" * 101: 0.5}, r"views: 'x{20}'… has 101 characters; wanted at most 100"),
        ("views", {"a\n": 0.5}, r"views: 'a\\n' is no name; wanted letters \(a-z, A-Z\), digits and - alone"),
        ("views", "dense:0.75", r"views: 'dense:0\.75' is text: a blank is missing after the colon"),
        ("views", {"70:0.7": ""}, r"views\['70:0\.7'\]: has no value: YAML wants a blank after the colon"),
        ("views", {"70:0.7": None}, r"views\['70:0\.7'\]: has no value: YAML wants a blank after the colon"),
        ("network.filters", 1_000_000, r"network\.filters: 1000000 .*maximum of 1024"),
        ("training.steps", 10**11, r"training\.steps: 100000000000 .*maximum of 100000000"),
        ("inference.tile_px", 0.5, r"inference\.tile_px: 0\.5 is less than a pixel; wanted 0, or 1 at least"),
        ("tv.tile_px", 1e-9, r"tv\.tile_px: 1e-09 .*minimum of 1"),
        ("views.dense", float("nan"), r"views\.dense: nan; wanted a finite number"),
        ("tv.lambda_max", float("inf"), r"tv\.lambda_max: inf; wanted a finite number"),
        ("doses", [1000, float("-inf")], r"doses\[1\]: -inf; wanted a finite number"),
        ("doses", [10**13], r"doses\[0\]: 10000000000000 .*maximum of 1000000000000"),
        ("doses", ["1.0e5"], r"doses\[0\]: '1\.0e5' is text, as YAML reads it; write 100000"),
        ("doses", ["1.0e+5"], r"doses\[0\]: '1\.0e\+5' is text, .*write 100000"),
        ("doses", [1000.5], r"doses\[0\]: 1000\.5 is not of type 'integer'"),
        ("seeds", [2**32], r"seeds\[0\]: 4294967296 .*maximum of 4294967295"),
        ("seeds", [True], r"seeds\[0\]: True is not of type 'integer'"),
        (
            "training.learning_rate",
            "1e-5",
            r"training\.learning_rate: '1e-5' is text, as YAML reads it; write 1\.0e-05",
        ),
        ("training.learning_rate", "nan", r"training\.learning_rate: 'nan' is text; wanted a finite number"),
        ("source.object", {"kind": "file", "path": "a{b}.npz"}, r"source\.object\.path: 'a\{b\}\.npz' has braces"),
        ("source.object", {"kind": "file", "path": ""}, r"source\.object\.path: '' has braces, .* or is empty"),
    ],
)
def test_an_invalid_value_is_named_with_what_is_allowed(path, value, message):
    config = changed(path, value)
    accept_old_kinds(config)
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_every_pattern_of_the_schema_is_said_in_words():
    patterns = re.findall(r"pattern: (\"[^\"]*\")", SCHEMA.read_text(encoding="utf-8"))
    assert {yaml.safe_load(pattern) for pattern in patterns} == {NO_BRACES, *NAMES}


def test_the_refusal_of_a_value_is_one_line():
    with pytest.raises(ConfigError) as error:
        check_config(changed("study", "a\nb\n"))
    assert len(str(error.value).splitlines()) == 2  # a heading, and the key


def test_refusals_are_short_and_of_one_line_each_whatever_a_config_holds():
    deep = ["x"]
    for _ in range(300):
        deep = [deep]
    names = {f"a\n{number}": float("nan") for number in range(50)}
    for path, value, lines in (("halves", deep, 2), ("views", names, 22), ("study", 5 * 10**999, 2)):
        with pytest.raises(ConfigError) as error:
            check_config(changed(path, value))
        found = str(error.value).split("\n")
        assert len(found) == lines
        assert max(map(len, found)) < 700
        assert str(error.value).replace("\n", "").isprintable()
    assert found[-1].startswith("  - study: 5000")


@pytest.mark.parametrize(
    ("path", "value", "integer"),
    [
        ("doses", [1.0e5, 2000], [100000, 2000]),
        ("seeds", [0.0, 1.0], [0, 1]),
        ("source.seed", 3.0, 3),
        ("source.raster.columns", 9.0, 9),
        ("training.exposures", 64.0, 64),
        ("training.exposures", None, None),
        ("objects", {"a": {"kind": "lines", "seed": 5.0}}, {"a": {"kind": "lines", "seed": 5}}),
    ],
)
def test_a_whole_number_is_an_integer_where_one_is_wanted(path, value, integer):
    config = as_integers(changed(path, value))
    expected = changed(path, integer)
    assert config == expected
    assert repr(config) == repr(expected)  # 5.0 == 5, but not as part of a path


def test_a_number_stays_a_float_where_any_number_may_stand():
    assert repr(as_integers(DEFAULT)) == repr(DEFAULT)
    config = as_integers(changed("source.raster.spacing_px", 6.0))
    assert repr(config["source"]["raster"]["spacing_px"]) == "6.0"


def test_numbers_that_the_message_proposes_are_read_as_numbers(tmp_path):
    for text in ("1e-5", "1e3", "2.5e-3", "1.0e5", "1e22", "-1e-3"):
        with pytest.raises(ConfigError) as error:
            check_config(changed("training.learning_rate", text))
        proposed = re.search(r"write (\S+)", str(error.value))[1]
        (tmp_path / "x.yaml").write_text(f"a: {proposed}", encoding="utf-8")
        assert read_file(tmp_path / "x.yaml")["a"] == float(text)


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
