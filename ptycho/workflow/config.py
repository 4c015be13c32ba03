"""A study's config: its files, and their merged result, checked against a closed schema before any job runs."""

import copy
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import jsonschema
import yaml

from ptycho.methods import METHODS
from ptycho.workflow.config_files import ConfigError, is_decimal, read_file
from ptycho.workflow.config_numbers import branch_of, kinds_of, misread, not_finite, with_integers
from ptycho.workflow.files import StrPath
from ptycho.workflow.knowledge import contradictions
from ptycho.workflow.retired import accept_old_kinds, find_retired

CONFIG = Path(__file__).parents[2] / "config"
"""Folder of the study files."""
DEFAULTS = CONFIG / "defaults.yaml"
"""Every method's settings; a study file is laid over them."""
SCHEMA = CONFIG / "schema" / "config.schema.yaml"
"""Closed schema of the merged config."""

REPLACED = ("views", "objects", "flaws")
"""Keys that `--config` replaces as a whole, where Snakemake would merge: the user chooses the names in them."""

INVALID = "the config of this study is invalid:"
"""Heading of what is wrong with a config."""
MOST_LINES = 20
"""Invalid keys that are listed."""
MOST_CHARACTERS = 600
"""Length of their lines; of a longer one the middle is left out."""
NO_BRACES = "^[^{}]+$"
"""Pattern of a path in the schema."""
NAMES = {
    r"^[A-Za-z0-9_-]+(?!\n)$": "letters (a-z, A-Z), digits, - and _ alone",
    r"^[A-Za-z0-9-]+(?!\n)$": "letters (a-z, A-Z), digits and - alone",
    r"^[A-Za-z0-9.-]+(?!\n)$": "letters (a-z, A-Z), digits, . and - alone",
}
"""Pattern of a name in the schema -> the characters that it allows."""


def load_schema() -> dict[str, Any]:
    """Read the schema of a study's config; the allowed methods are those of `ptycho.methods`."""
    return copy.deepcopy(_schema())


@cache
def _schema() -> dict[str, Any]:
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["methods"]["items"] = {"enum": list(METHODS)}
    return schema


def load_config(path: StrPath) -> dict[str, Any]:
    """Read a study file and merge it into the defaults, as the workflow does."""
    from snakemake.utils import update_config

    config = copy.deepcopy(read_file(DEFAULTS))
    update_config(config, read_file(path))
    return as_integers(config)


def as_integers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with whole numbers as int wherever the schema asks for integers: 1.0e+5 is 100000."""
    schema = load_schema()
    return cast("dict[str, Any]", with_integers(config, schema, schema["$defs"]))


def with_command_line(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a merged config with the values of `--config`, their numbers parsed; see `REPLACED` and `as_integers`.

    Parameters
    ----------
    config : mapping
        As Snakemake merged it, `given` included.
    given : mapping
        Keys and values after `--config`.
    """
    return as_integers(
        {
            key: with_numbers(given[key] if key in REPLACED and key in given else value) if key in given else value
            for key, value in config.items()
        }
    )


def with_numbers(value: Any) -> Any:
    """Parse the numbers that `snakemake --config` leaves as text: all those inside lists and mappings."""
    if isinstance(value, dict):
        return {key: with_numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [with_numbers(part) for part in value]
    if isinstance(value, str):
        try:
            parsed = yaml.safe_load(value)
        except (ValueError, yaml.YAMLError):
            return value
        number = isinstance(parsed, int | float) and not isinstance(parsed, bool)
        return parsed if number and is_decimal(value, parsed) else value
    return value


def in_schema_order(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with its keys, nested ones too, in the order of the schema; names of the user keep their own."""
    schema = load_schema()
    return _in_order(config, schema, schema["$defs"])


def _in_order(value: Any, schema: Any, definitions: Mapping[str, Any]) -> Any:
    if not isinstance(value, Mapping):
        return value
    schema = branch_of(value, schema, definitions)
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
        raise ConfigError(listed("this config was written for an older version of ptycho:", retired))
    if endless := list(not_finite(config)):
        raise ConfigError(listed(INVALID, endless))
    validator = jsonschema.Draft202012Validator(load_schema())
    problems = [_explain(error) for error in sorted(validator.iter_errors(config), key=lambda error: error.json_path)]
    if not problems:
        problems = _contradictions(config)
    if problems:
        raise ConfigError(listed(INVALID, problems))


def listed(heading: str, problems: Sequence[str]) -> str:
    """Return a heading and a line for each problem, which holds nothing that is not printed and is not too long."""
    lines = ["".join(part if part.isprintable() else repr(part)[1:-1] for part in line) for line in problems]
    half = MOST_CHARACTERS // 2
    short = [f"  - {line if len(line) <= MOST_CHARACTERS else f'{line[:half]} … {line[-half:]}'}" for line in lines]
    more = [f"  … and {len(short) - MOST_LINES} more"] if len(short) > MOST_LINES else []
    return "\n".join([heading, *short[:MOST_LINES], *more])


def _explain(error: jsonschema.ValidationError) -> str:
    """Return one line that names the invalid key and what is allowed."""
    if error.validator in ("oneOf", "anyOf") and error.context:
        kind = error.instance.get("kind") if isinstance(error.instance, dict) else None
        for branch in error.context:  # explain the branch of the kind that was written
            if kind is not None and branch.schema_path[0] == _branch_of(error, kind):
                return _explain(branch)
        kinds = [word for branch in _branches(error) for word in kinds_of(branch)]
        if kinds:
            key = error.json_path.removeprefix("$.")
            found = f"{key}.kind: {kind!r}" if kind is not None else f"{key}: {error.instance!r} has no `kind`"
            return f"{found}; wanted one of {', '.join(kinds)}"
    key = error.json_path.removeprefix("$").removeprefix(".") or "config"
    description = error.schema.get("description", "") if isinstance(error.schema, dict) else ""
    return f"{key}: {_message(error)}" + (f" ({description})" if description else "")


def _message(error: jsonschema.ValidationError) -> str:
    """Say what is wrong with a value and what is allowed."""
    value, limit = cast(Any, error.instance), cast(Any, error.validator_value)
    if error.validator == "type":
        return misread(error) or error.message
    if error.validator == "maxLength":
        return f"{value[:20]!r}… has {len(value)} characters; wanted at most {limit}"
    if error.validator == "pattern" and limit == NO_BRACES:
        return f"{value!r} has braces, which Snakemake takes for wildcards, or is empty; rename it"
    if error.validator == "pattern" and limit in NAMES:
        return f"{value!r} is no name; wanted {NAMES[limit]}"
    if error.validator == "additionalProperties" and isinstance(error.schema, dict):
        return f"{error.message}; allowed keys: {', '.join(sorted(error.schema['properties']))}"
    return error.message


def _branch_of(error: jsonschema.ValidationError, kind: str) -> int | None:
    return next((index for index, branch in enumerate(_branches(error)) if kind in kinds_of(branch)), None)


def _branches(error: jsonschema.ValidationError) -> list[dict[str, Any]]:
    """Return the alternatives of a failed `oneOf` or `anyOf`."""
    return cast("list[dict[str, Any]]", error.validator_value)


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
    if config["training"]["probe"] == "trained" and config["training"]["loss"] == "mae":
        problems.append("training.probe: trained, with training.loss mae; wanted poisson, the loss that moves a probe")
    if 0 < config["inference"]["tile_px"] < 1:
        problems.append(
            f"inference.tile_px: {config['inference']['tile_px']} is less than a pixel; wanted 0, or 1 at least"
        )
    source = config["source"]
    if source["kind"] == "measured" and "objects" in config:
        problems.append("objects: a measured scan has one object, its own; remove this key")
    elif source["kind"] == "simulated" and ("object" in source) == ("objects" in config):
        problems.append("source.object, objects: wanted exactly one of them")
    total = sum(source.get("probe", {}).get("modes", [1]))
    if not 0.999 < total < 1.001:
        problems.append(f"source.probe.modes: sum to {total:g}; wanted 1")
    return [*problems, *contradictions(config)]


def main() -> int:
    """Check study files without Snakemake, which reads them in its own way first; return 1 if one is refused."""
    refused = False
    for path in sys.argv[1:]:
        try:
            config = load_config(path)
            accept_old_kinds(config)
            check_config(config)
            print(f"{path}: a valid study file")
        except ConfigError as error:
            refused = True
            print(str(error) if str(error).startswith(path) else f"{path}: {error}", file=sys.stderr)
    return int(refused)


if __name__ == "__main__":
    sys.exit(main())
