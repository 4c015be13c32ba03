import copy
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from ptycho.data.views import GroupingOptions
from ptycho.physics.simulate import RasterOptions
from ptycho.reconstruction.lsqml import LSQMLOptions
from ptycho.reconstruction.tv import TVOptions
from ptycho.workflow.config import ConfigError, check_config, load_schema, with_numbers

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "config").glob("*.yaml"))
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_configs_are_complete_and_right(path):
    check_config(yaml.safe_load(path.read_text()))


def test_studies_have_names_of_their_own():
    names = [yaml.safe_load(path.read_text())["study"] for path in FILES]
    assert len(set(names)) == len(names)
    assert len(names) >= 3


def changed(place, value):
    config = copy.deepcopy(DEFAULT)
    *parents, key = place.split(".")
    part = config
    for parent in parents:
        part = part[parent]
    part[key] = value
    return config


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("training.epocs", 3, r"training: .*'epocs'.*allowed keys: batch_size, epochs, lr_patience, learning_rate"),
        ("doses", [-5], r"doses\[0\]: -5 .*minimum of 1"),
        ("doses", ["1e3"], r"doses\[0\]: '1e3' is not of type 'integer'"),
        ("views.dense", 1.2, r"views\.dense: 1\.2 .*maximum of 1"),
        ("inference.chunks", 0, r"inference\.chunks: 0 .*minimum of 1"),
        ("methods", ["pinn", "magic"], r"methods\[1\]: 'magic' is not one of .*'lsqml'"),
        ("splits", [], "splits"),
        ("source.object.kind", "cheese", r"source\.object\.kind: 'cheese'; wanted one of leaves, lines, siemens, file"),
        ("source.raster.spacing", 3, r"source\.raster: .*'spacing'"),
        ("grouping.gridsize", 3, r"grouping\.neighbors: 7 is too few for groups of 9"),
        ("tv.lambda_min", 2000, r"tv\.lambda_min: 2000 is more than tv\.lambda_max, 1024"),
        ("study", "../up", "study: '../up' does not match"),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(place, value, says):
    with pytest.raises(ConfigError, match=says):
        check_config(changed(place, value))


def test_a_missing_key_is_named():
    config = copy.deepcopy(DEFAULT)
    del config["training"]["epochs"]
    with pytest.raises(ConfigError, match="'epochs' is a required property"):
        check_config(config)


@pytest.mark.parametrize(
    ("section", "kind"), [("grouping", GroupingOptions), ("lsqml", LSQMLOptions), ("tv", TVOptions)]
)
def test_names_agree(section, kind):
    assert set(load_schema()["properties"][section]["properties"]) == {field.name for field in fields(kind)}


def test_network_and_raster_names_agree():
    from ptycho.model.networks import NetworkOptions
    from ptycho.model.refined import RefinedOptions
    from ptycho.model.training import TrainingOptions
    from ptycho.model.unrolled import UnrolledOptions

    schema = load_schema()["properties"]
    assert set(schema["network"]["properties"]) == {field.name for field in fields(NetworkOptions)}
    for section, kind in (("training", TrainingOptions), ("unrolled", UnrolledOptions), ("refined", RefinedOptions)):
        assert set(schema[section]["properties"]) == {field.name for field in fields(kind)}
    raster = schema["source"]["oneOf"][0]["properties"]["raster"]["properties"]
    assert set(raster) == {field.name for field in fields(RasterOptions)}


def closed(schema):
    """Every object of the schema that names its properties is closed."""
    if isinstance(schema, dict):
        assert "properties" not in schema or schema.get("additionalProperties") is False, schema
        for part in schema.values():
            closed(part)
    elif isinstance(schema, list):
        for part in schema:
            closed(part)


def test_the_schema_is_closed_everywhere():
    closed(load_schema())


def test_numbers_that_snakemake_left_as_words_are_read():
    given = {"doses": ["1000", "10000"], "views": {"dense": "0.7"}, "methods": ["pinn"], "note": "yes"}
    wanted = {"doses": [1000, 10000], "views": {"dense": 0.7}, "methods": ["pinn"], "note": "yes"}
    assert with_numbers(given) == wanted
