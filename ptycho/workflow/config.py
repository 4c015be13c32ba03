"""What a study is: its config files, and their sum held against a closed schema before any job runs."""

import copy
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from ptycho.methods import METHODS
from ptycho.workflow.retired import find_retired

CONFIG = Path(__file__).parents[2] / "config"
DEFAULTS = CONFIG / "defaults.yaml"
SCHEMA = CONFIG / "schema" / "config.schema.yaml"

REPLACED = ("views", "objects")
"""Keys whose names are the study's own: `--config` replaces them, where Snakemake would merge."""


class ConfigError(ValueError):
    """A value that no study can have: the message names the key and what is allowed."""


def load_schema() -> dict[str, Any]:
    """Read the schema of a study's config; the methods are those that there are."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["methods"]["items"] = {"enum": list(METHODS)}
    return schema


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice or is no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(
                    f"line {line}: key {key!r} is no text; wanted a name, in quotes if it looks like {key!r}"
                )
            if key in seen:
                raise ConfigError(f"line {line}: key '{key}' is there twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_file(path) -> dict[str, Any]:
    """Read one config file.

    Raises
    ------
    ConfigError
        If it is missing, no YAML, no mapping, or has a key twice or one that is no text; the message names file and line.
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


def load_config(path) -> dict[str, Any]:
    """Read a study file laid over the defaults, as the workflow does."""
    from snakemake.utils import update_config

    config = copy.deepcopy(read_file(DEFAULTS))
    update_config(config, read_file(path))
    return config


def with_command_line(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Take a merged config with what `--config` said: its numbers read, and `REPLACED` keys replaced.

    Parameters
    ----------
    given : dict
        What stands behind `--config`: keys and their values.
    """
    return {
        key: with_numbers(given[key] if key in REPLACED and key in given else value) if key in given else value
        for key, value in config.items()
    }


def with_numbers(value: Any) -> Any:
    """Read the numbers in what `snakemake --config` has left as words: inside lists and mappings it reads none."""
    if isinstance(value, dict):
        return {key: with_numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [with_numbers(part) for part in value]
    if isinstance(value, str):
        read = yaml.safe_load(value)
        return read if isinstance(read, int | float) and not isinstance(read, bool) else value
    return value


def check_config(config: dict[str, Any]) -> None:
    """Hold a config against the closed schema and against itself.

    Raises
    ------
    ConfigError
        Lists every wrong key, what was found and what is allowed.
    """
    if retired := find_retired(config):
        raise ConfigError("the config of this study is of ptycho 0.1:\n" + "\n".join(f"  - {line}" for line in retired))
    validator = jsonschema.Draft202012Validator(load_schema())
    problems = [_explain(error) for error in sorted(validator.iter_errors(config), key=lambda error: error.json_path)]
    if not problems:
        problems = _contradictions(config)
    if problems:
        raise ConfigError("the config of this study is wrong:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _explain(error) -> str:
    """Say in one line which key is wrong and what is allowed."""
    if error.validator in ("oneOf", "anyOf") and error.context:
        kind = error.instance.get("kind") if isinstance(error.instance, dict) else None
        for branch in error.context:  # the branch that has the kind that was written
            if kind is not None and branch.schema_path[0] == _branch_of(error, kind):
                return _explain(branch)
        kinds = [word for branch in error.validator_value for word in _kinds(branch)]
        if kind is not None and kinds:
            return f"{error.json_path.removeprefix('$.')}.kind: {kind!r}; wanted one of {', '.join(kinds)}"
    key = error.json_path.removeprefix("$").removeprefix(".") or "config"
    description = error.schema.get("description", "") if isinstance(error.schema, dict) else ""
    allowed = ""
    if error.validator == "additionalProperties":
        allowed = f"; allowed keys: {', '.join(sorted(error.schema['properties']))}"
    return f"{key}: {error.message}{allowed}" + (f" ({description})" if description else "")


def _branch_of(error, kind: str) -> int | None:
    return next((index for index, branch in enumerate(error.validator_value) if kind in _kinds(branch)), None)


def _kinds(branch: dict) -> list[str]:
    """Kinds that a branch of a schema is for."""
    allowed = branch.get("properties", {}).get("kind", {})
    return [allowed["const"]] if "const" in allowed else allowed.get("enum", [])


def _contradictions(config: dict) -> list[str]:
    """Find values that are each allowed but do not go together."""
    found = []
    size, neighbors = config["grouping"]["gridsize"] ** 2, config["grouping"]["neighbors"]
    if size - 1 > neighbors:
        found.append(
            f"grouping.neighbors: {neighbors} is too few for groups of {size} (gridsize²); at least {size - 1}"
        )
    if config["tv"]["lambda_min"] > config["tv"]["lambda_max"]:
        found.append(
            f"tv.lambda_min: {config['tv']['lambda_min']} is more than tv.lambda_max, {config['tv']['lambda_max']}"
        )
    source = config["source"]
    if source["kind"] == "measured" and "objects" in config:
        found.append("objects: a measured scan has the one that it has; wanted no such key")
    elif source["kind"] == "simulated" and ("object" in source) == ("objects" in config):
        found.append("source.object, objects: wanted the one or the other")
    return found
