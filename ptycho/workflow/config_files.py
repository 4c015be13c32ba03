"""Config files: YAML without its traps. What could be read otherwise than it looks is refused, with file and line."""

import re
from collections.abc import Hashable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from ptycho.workflow.files import StrPath

MAX_VALUES = 10_000
"""Largest number of values in a file, those of an alias counted wherever it stands."""
MERGE = "tag:yaml.org,2002:merge"
"""Tag of the key `<<`, which takes over the keys of another mapping."""
TEMPLATE = "__use_yte__"
"""Key with which Snakemake takes a file for a template and executes the expressions in it."""


class ConfigError(ValueError):
    """A config is invalid; the message names the key, what was found and what is allowed."""


class _StrictLoader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys, keys that are not text, and aliases that unfold to a lot or for ever.

    It also refuses templates, and numbers that are no decimals.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = "<<" if key_node.tag == MERGE else self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                written = key_node.value if isinstance(key_node, yaml.ScalarNode) else key
                raise ConfigError(f"line {line}: key {written} is read as {key!r}, not as text; quote it: '{written}'")
            if ":" in key and isinstance(value_node, yaml.ScalarNode) and not value_node.value:
                raise ConfigError(f"line {line}: {key!r} has no value: a blank is missing after the colon")
            if key in seen:
                raise ConfigError(f"line {line}: duplicate key {key!r}")
            if key == TEMPLATE:
                raise ConfigError(f"line {line}: key '{key}': templates are not supported; write the values themselves")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_sequence(self, node: yaml.SequenceNode, deep: bool = False) -> list[Any]:
        for before, part in pairwise(node.value):
            if all(isinstance(each, yaml.ScalarNode) for each in (before, part)) and (
                re.fullmatch(r"[-+]?\d{1,3}", before.value) and re.fullmatch(r"0\d\d", part.value)
            ):
                line, written = part.start_mark.line + 1, f"{before.value},{part.value}"
                raise ConfigError(f"line {line}: {written} is read as two numbers; write thousands without commas")
        return super().construct_sequence(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int | float:
        """Construct a number; what is written in base 8 or 60 is refused: nobody means it."""
        construct = self.construct_yaml_int if node.tag.endswith(":int") else self.construct_yaml_float
        value = construct(node)
        if not is_decimal(node.value, value):
            line = node.start_mark.line + 1
            raise ConfigError(f"line {line}: {node.value} is read as {value}; write {value} or what else is meant")
        return value

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ConfigError:
            raise
        except ValueError as error:  # a date that no calendar has, an integer of thousands of digits
            raise ConfigError(f"line {node.start_mark.line + 1}: {str(node.value)[:20]!r}: {error}") from None


for _kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.construct_decimal)


def is_decimal(written: str, value: int | float) -> bool:
    """Whether YAML reads a number as people do: 010 is 8 to it, and 1:30 is 90."""
    return ":" not in written and not (isinstance(value, int) and re.fullmatch(r"[-+]?0[0-9_]+", written))


def _count_values(node: yaml.Node, counted: dict[int, int]) -> int:
    """Count the values below a node, those of an alias wherever it stands; `counted` holds nodes seen, 0: not yet."""
    if (number := counted.get(id(node))) is not None:
        if not number:
            raise ConfigError(f"line {node.start_mark.line + 1}: an alias that holds itself")
        return number
    counted[id(node)] = 0
    number = 1 + sum(_count_values(child, counted) for child in _children(node))
    if number > MAX_VALUES:
        line = node.start_mark.line + 1
        raise ConfigError(f"line {line}: {number:,} values, aliases (&, *) unfolded; wanted at most {MAX_VALUES:,}")
    counted[id(node)] = number
    return number


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from child if isinstance(child, tuple) else (child,)


def read_file(path: StrPath) -> dict[str, Any]:
    """Read one config file.

    Raises
    ------
    ConfigError
        If the file is missing, not YAML, not a mapping, a template, has a key that is duplicate or not text, a number
        of base 8 or 60, or aliases that unfold to more than `MAX_VALUES` values; the message names file and line.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_StrictLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: lists or mappings are nested too deeply") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise ConfigError(f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}" if mark else ""
        what = ": ".join(" ".join(part.split()) for part in (error.context, error.problem) if part)
        raise ConfigError(f"{path}{place}: {what}") from None
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds {type(content).__name__}; wanted a mapping of keys")
    return content
