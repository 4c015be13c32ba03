"""The numbers of a config: whole where the schema asks for it, finite everywhere, and not text by accident."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import yaml


def with_integers(value: Any, schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a config with int in place of whole floats, such as 1.0e+5, wherever its schema asks for an integer.

    Parameters
    ----------
    value : object
        Config, or a part of it.
    schema : dict
        JSON schema of that part.
    definitions : dict
        `$defs` of the schema.
    """
    schema = branch_of(value, schema, definitions)
    if isinstance(value, Mapping):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        return {key: with_integers(part, properties.get(key, others), definitions) for key, part in value.items()}
    if isinstance(value, list):
        return [with_integers(part, schema.get("items"), definitions) for part in value]
    if isinstance(value, float) and value.is_integer() and "integer" in _types(schema):
        return int(value)
    return value


def branch_of(value: Any, schema: Any, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of a value itself: `$ref` followed, and of `oneOf` the branch of its `kind`; {} if unknown."""
    if not isinstance(schema, Mapping):
        return {}
    if "$ref" in schema:
        return branch_of(value, definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "oneOf" in schema:
        kind = value.get("kind") if isinstance(value, Mapping) else None
        return next((part for part in schema["oneOf"] if kind in kinds_of(part)), {})
    return schema


def kinds_of(branch: Mapping[str, Any]) -> list[str]:
    """Return the kinds that a branch of a schema describes."""
    allowed = branch.get("properties", {}).get("kind", {})
    return [allowed["const"]] if "const" in allowed else allowed.get("enum", [])


def not_finite(value: Any, key: str = "") -> Iterator[str]:
    """Yield a line for every number that is infinite or not a number, with its key."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from not_finite(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from not_finite(part, f"{key}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{key}: {value}; wanted a finite number"


def misread(error: jsonschema.ValidationError) -> str | None:
    """Say how a value of a wrong type came to be: a number that YAML reads as text, or text that it reads otherwise.

    Parameters
    ----------
    error : ValidationError
        Of the keyword `type`.

    Returns
    -------
    str or None
        What was found and how to write it; None if it is neither.
    """
    value, wanted = error.instance, _types(error.schema)
    if value in (None, "") and error.path and re.search(r"\w:\S", str(error.path[-1])):
        return "has no value: YAML wants a blank after the colon"
    if isinstance(value, str) and {"integer", "number"} & set(wanted):
        try:
            number = float(value)
        except ValueError:
            return None
        if not math.isfinite(number):
            return f"{value!r} is text; wanted a finite number"
        written = str(int(number)) if number.is_integer() else yaml.safe_dump(number).split()[0]
        return f"{value!r} is text, as YAML reads it; write {written}"
    if isinstance(value, str) and "object" in wanted and re.search(r"\w:\S", value):
        return f"{value!r} is text: a blank is missing after the colon"
    if "string" in wanted and value is not None and not isinstance(value, str | list | dict):
        return f"{value} is read as {type(value).__name__}, not as text; quote it"
    return None


def _types(schema: Any) -> list[str]:
    kinds = schema.get("type", []) if isinstance(schema, Mapping) else []
    return [kinds] if isinstance(kinds, str) else kinds
