"""A study's config: its files, and their merged result, checked against a closed schema before any job runs."""

import copy
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, cast

import jsonschema
import yaml

from ptycho.methods import METHODS
from ptycho.workflow.files import StrPath
from ptycho.workflow.retired import find_retired

CONFIG = Path(__file__).parents[2] / "config"
"""Folder of the study files."""
DEFAULTS = CONFIG / "defaults.yaml"
"""Every method's settings; a study file is laid over them."""
SCHEMA = CONFIG / "schema" / "config.schema.yaml"
"""Closed schema of the merged config."""

REPLACED = ("views", "objects")
"""Keys that `--config` replaces as a whole, where Snakemake would merge: the user chooses the names in them."""


class ConfigError(ValueError):
    """A config is invalid; the message names the key, what was found and what is allowed."""


def load_schema() -> dict[str, Any]:
    """Read the schema of a study's config; the allowed methods are those of `ptycho.methods`."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["methods"]["items"] = {"enum": list(METHODS)}
    return schema


class _StrictLoader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys and keys that are not text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(
                    f"line {line}: key {key!r} is not text; wanted a name, in quotes if it looks like {key!r}"
                )
            if key in seen:
                raise ConfigError(f"line {line}: duplicate key '{key}'")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_file(path: StrPath) -> dict[str, Any]:
    """Read one config file.

    Raises
    ------
    ConfigError
        If the file is missing, not YAML, not a mapping, or has a key that is duplicate or not text; the message names
        file and line.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_StrictLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds {type(content).__name__}; wanted a mapping of keys")
    return content


def load_config(path: StrPath) -> dict[str, Any]:
    """Read a study file and merge it into the defaults, as the workflow does."""
    from snakemake.utils import update_config

    config = copy.deepcopy(read_file(DEFAULTS))
    update_config(config, read_file(path))
    return config


def with_command_line(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a merged config with the values of `--config`: their numbers parsed, `REPLACED` keys replaced.

    Parameters
    ----------
    config : mapping
        As Snakemake merged it, `given` included.
    given : mapping
        Keys and values after `--config`.
    """
    return {
        key: with_numbers(given[key] if key in REPLACED and key in given else value) if key in given else value
        for key, value in config.items()
    }


def with_numbers(value: Any) -> Any:
    """Parse the numbers that `snakemake --config` leaves as text: all those inside lists and mappings."""
    if isinstance(value, dict):
        return {key: with_numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [with_numbers(part) for part in value]
    if isinstance(value, str):
        parsed = yaml.safe_load(value)
        return parsed if isinstance(parsed, int | float) and not isinstance(parsed, bool) else value
    return value


def in_schema_order(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with its keys, nested ones too, in the order of the schema; names of the user keep their own."""
    schema = load_schema()
    return _in_order(config, schema, schema["$defs"])


def _in_order(value: Any, schema: Any, definitions: Mapping[str, Any]) -> Any:
    if not isinstance(value, Mapping) or not isinstance(schema, Mapping):
        return value
    if "$ref" in schema:
        return _in_order(value, definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "oneOf" in schema:
        branch = next((part for part in schema["oneOf"] if value.get("kind") in _kinds(part)), None)
        return _in_order(value, branch, definitions)
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    keys = [*(key for key in properties if key in value), *(key for key in value if key not in properties)]
    return {key: _in_order(value[key], properties.get(key, others), definitions) for key in keys}


def check_config(config: dict[str, Any]) -> None:
    """Check a config against the closed schema, and its values against each other.

    Raises
    ------
    ConfigError
        Lists every invalid key, what was found and what is allowed.
    """
    if retired := find_retired(config):
        raise ConfigError(
            "this config was written for an older version of ptycho:\n" + "\n".join(f"  - {line}" for line in retired)
        )
    validator = jsonschema.Draft202012Validator(load_schema())
    problems = [_explain(error) for error in sorted(validator.iter_errors(config), key=lambda error: error.json_path)]
    if not problems:
        problems = _contradictions(config)
    if problems:
        raise ConfigError("the config of this study is invalid:\n" + "\n".join(f"  - {line}" for line in problems))


def _explain(error: jsonschema.ValidationError) -> str:
    """Return one line that names the invalid key and what is allowed."""
    if error.validator in ("oneOf", "anyOf") and error.context:
        kind = error.instance.get("kind") if isinstance(error.instance, dict) else None
        for branch in error.context:  # explain the branch of the kind that was written
            if kind is not None and branch.schema_path[0] == _branch_of(error, kind):
                return _explain(branch)
        kinds = [word for branch in _branches(error) for word in _kinds(branch)]
        if kind is not None and kinds:
            return f"{error.json_path.removeprefix('$.')}.kind: {kind!r}; wanted one of {', '.join(kinds)}"
    key = error.json_path.removeprefix("$").removeprefix(".") or "config"
    description = error.schema.get("description", "") if isinstance(error.schema, dict) else ""
    allowed = ""
    if error.validator == "additionalProperties" and isinstance(error.schema, dict):
        allowed = f"; allowed keys: {', '.join(sorted(error.schema['properties']))}"
    return f"{key}: {error.message}{allowed}" + (f" ({description})" if description else "")


def _branch_of(error: jsonschema.ValidationError, kind: str) -> int | None:
    return next((index for index, branch in enumerate(_branches(error)) if kind in _kinds(branch)), None)


def _branches(error: jsonschema.ValidationError) -> list[dict[str, Any]]:
    """Return the alternatives of a failed `oneOf` or `anyOf`."""
    return cast("list[dict[str, Any]]", error.validator_value)


def _kinds(branch: dict[str, Any]) -> list[str]:
    """Return the kinds that a branch of a schema describes."""
    allowed = branch.get("properties", {}).get("kind", {})
    return [allowed["const"]] if "const" in allowed else allowed.get("enum", [])


def _contradictions(config: dict[str, Any]) -> list[str]:
    """Return a message for every pair of values that are valid but exclude each other."""
    problems = []
    size, neighbors = config["grouping"]["gridsize"] ** 2, config["grouping"]["neighbors"]
    if size - 1 > neighbors:
        problems.append(
            f"grouping.neighbors: {neighbors} is too few for groups of {size} (gridsize²); wanted at least {size - 1}"
        )
    smallest, largest = config["tv"]["lambda_min"], config["tv"]["lambda_max"]
    if smallest > largest:
        problems.append(f"tv.lambda_min: {smallest} is more than tv.lambda_max, {largest}")
    source = config["source"]
    if source["kind"] == "measured" and "objects" in config:
        problems.append("objects: a measured scan has one object, its own; remove this key")
    elif source["kind"] == "simulated" and ("object" in source) == ("objects" in config):
        problems.append("source.object, objects: wanted exactly one of them")
    return problems
