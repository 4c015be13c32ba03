"""What a study is: its config, held against a closed schema before any job runs."""

from pathlib import Path

import jsonschema
import yaml

from ptycho.methods import METHODS

SCHEMA = Path(__file__).parent.parent / "config" / "schema" / "config.schema.yaml"


class ConfigError(ValueError):
    """A value that no study can have: the message names the key and what is allowed."""


def load_schema() -> dict:
    """Read the schema of a study's config; the methods are those that there are."""
    schema = yaml.safe_load(SCHEMA.read_text())
    schema["properties"]["methods"]["items"] = {"enum": list(METHODS)}
    return schema


def with_numbers(value):
    """Read the numbers in what `snakemake --config` has left as words: inside lists and mappings it reads none."""
    if isinstance(value, dict):
        return {key: with_numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [with_numbers(part) for part in value]
    if isinstance(value, str):
        read = yaml.safe_load(value)
        return read if isinstance(read, int | float) and not isinstance(read, bool) else value
    return value


def check_config(config: dict) -> None:
    """Hold a config against the closed schema and against itself.

    Raises
    ------
    ConfigError
        Lists every wrong key, what was found and what is allowed.
    """
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
    size, neighbours = config["grouping"]["gridsize"] ** 2, config["grouping"]["neighbours"]
    if size - 1 > neighbours:
        found.append(
            f"grouping.neighbours: {neighbours} is too few for groups of {size} (gridsize²); at least {size - 1}"
        )
    if config["tv"]["weakest"] > config["tv"]["strongest"]:
        found.append(f"tv.weakest: {config['tv']['weakest']} is more than tv.strongest, {config['tv']['strongest']}")
    source = config["source"]
    if source["kind"] == "measured" and "objects" in config:
        found.append("objects: a measured scan has the one that it has; wanted no such key")
    elif source["kind"] == "simulated" and ("object" in source) == ("objects" in config):
        found.append("source.object, objects: wanted the one or the other")
    return found
