"""The reference of config keys, made of the schema's descriptions and the defaults: `make reference` writes it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptycho.workflow.config import CONFIG, DEFAULTS, load_schema, read_file

INTRODUCTION = """\
# Configuration

<!-- Made from config/schema/config.schema.yaml and config/defaults.yaml by `make reference`: change those. -->

`config/defaults.yaml` holds every method's settings. A study file is laid over it: it says what is asked (`study`,
`doses`, `views`, `methods`, `source`, `objects` in place of `source.object`, and `flaws`) and what differs. Without
`--configfile` the study is `config/config.yaml`. A whole study is ten lines:

```yaml
study: mine                         # results go to results/mine
doses: [1000, 10000]
methods: [pinn, lsqml, tv]
views: {dense: 0.7, sparse: 0.2}
source:
  kind: simulated
  seed: 1
  object: {kind: lines}
  probe: {kind: gaussian, n_pixels: 64, fwhm_px: 11.8}
  raster: {columns: 22, train_rows: 16, test_rows: 14, spacing_px: 6.2, jitter_px: 1.0}
```

On the command line `--config key=value` changes single keys, nested ones too: `--config study=longer 'training={steps:
900}'`. It replaces `views`, `objects` and `flaws` and merges everything else. Before any job runs, each file is checked
for duplicate keys, keys that YAML does not read as text (`70`, `on`: quote them) and aliases that unfold to a lot, and
the merged result is validated against the closed schema: a misspelled key stops `snakemake -n` with the key's name.
Numbers are finite; where a whole number is wanted, `1.0e+5` is one, but YAML reads `1e5` and `1.0e5` as text. Names
have letters, digits and `-` (a study's also `_`), up to 100; paths have no braces. The report shows the merged result
whole.

## Studies
"""

OUTRO = """\
## Keys

Keys without a default belong to the study file. A number in parentheses is a bound; a unit of *photon* or *px* is per
exposure and object pixel.
"""


def write_reference() -> str:
    """Write the reference as Markdown: the studies that ship, then a table of keys for every section."""
    return "\n".join([INTRODUCTION, *_studies(), "", OUTRO, *_sections()]).rstrip() + "\n"


def _studies() -> Iterator[str]:
    """A row for every study file, from the comment at its top."""
    yield "| file | study |"
    yield "|---|---|"
    for path in sorted(CONFIG.glob("*.yaml")):
        if path != DEFAULTS:
            lines = path.read_text(encoding="utf-8").splitlines()
            comment = [line.removeprefix("#").strip() for line in lines[: _first_key(lines)]]
            yield f"| `{path.name}` | {' '.join(comment)} |"


def _first_key(lines: list[str]) -> int:
    return next(number for number, line in enumerate(lines) if not line.startswith("#"))


def _sections() -> Iterator[str]:
    schema, defaults = load_schema(), read_file(DEFAULTS)
    properties = _resolved(schema["properties"], schema["$defs"])
    flaws = properties["flaws"]
    properties["flaws"] = {"description": flaws["description"], "properties": {"{name}": flaws["additionalProperties"]}}
    simple = {key: part for key, part in properties.items() if "properties" not in part and "oneOf" not in part}
    yield from _table(simple, defaults, "", set(simple) - {"objects"})
    for key, part in properties.items():
        if key not in simple:
            yield f"\n### `{key}`\n"
            yield _sentence(part.get("description", ""))
            yield from _nested(part, defaults.get(key, {}), f"{key}.")


def _resolved(part: Any, definitions: dict[str, Any]) -> Any:
    """Return a part of the schema with every `$ref` replaced by what it refers to."""
    if isinstance(part, dict) and "$ref" in part:
        part = definitions[part["$ref"].rpartition("/")[2]]
    if isinstance(part, dict):
        return {key: _resolved(value, definitions) for key, value in part.items()}
    return [_resolved(value, definitions) for value in part] if isinstance(part, list) else part


def _nested(part: dict[str, Any], defaults: dict[str, Any], prefix: str) -> Iterator[str]:
    """Tables of an object, and of each kind of one that has several."""
    for branch in part.get("oneOf", [part]):
        if "oneOf" in part:
            yield f"\n**{branch['description']}**"
        inner = {key: value for key, value in branch["properties"].items() if _is_leaf(value)}
        if inner:
            yield ""
            yield from _table(inner, defaults, prefix, set(branch.get("required", [])))
        for key, value in branch["properties"].items():
            if key not in inner:
                yield f"\n`{prefix}{key}`: {value.get('description', '')}"
                yield from _nested(value, defaults.get(key, {}), f"{prefix}{key}.")


def _is_leaf(part: dict[str, Any]) -> bool:
    return "properties" not in part and "oneOf" not in part


def _table(properties: dict[str, Any], defaults: dict[str, Any], prefix: str, required: set[str]) -> Iterator[str]:
    yield "| key | allowed | unit | default | meaning |"
    yield "|---|---|---|---|---|"
    for key, part in properties.items():
        default = f"`{_yaml(defaults[key])}`" if key in defaults else "" if key in required else "optional"
        cells = (f"`{prefix}{key}`", _allowed(part), part.get("unit", ""), default, part.get("description", ""))
        yield f"| {' | '.join(cells)} |"


def _allowed(part: dict[str, Any]) -> str:
    """Say in a few words which values a key takes."""
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{_yaml(value)}`" for value in part["enum"])
    if part["type"] == "array":
        return f"list: {_allowed(part['items'])}"
    if part["type"] == "object":
        values = part["additionalProperties"]
        return "names: " + (_allowed(values) if {"type", "enum"} & set(values) else "as `source.object`")
    if isinstance(part["type"], list):
        return " or ".join(_allowed(part | {"type": kind}) for kind in part["type"] if kind != "null") + " or `null`"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = ", ".join(f"{sign} {part[key]}" for key, sign in bounds.items() if key in part)
    return words[part["type"]] + (f" ({limits})" if limits else "")


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def main() -> None:
    """Write the reference where it belongs, or to the path that is given."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else CONFIG / "README.md"
    path.write_text(write_reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
