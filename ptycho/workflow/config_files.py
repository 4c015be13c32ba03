"""Config files: YAML without its traps. What could be read otherwise than it looks is refused, with file and line."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from ptycho.workflow.files import StrPath

MAX_VALUES = 10_000
"""Largest number of values in a file, those of an alias counted wherever it stands."""
MERGE = "tag:yaml.org,2002:merge"
"""Tag of the key `<<`, which takes over the keys of another mapping."""


class ConfigError(ValueError):
    """A config is invalid; the message names the key, what was found and what is allowed."""


class _StrictLoader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys, keys that are not text, and aliases that unfold to a lot or for ever."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                written = key_node.value if isinstance(key_node, yaml.ScalarNode) else key
                raise ConfigError(f"line {line}: key {written} is read as {key!r}, not as text; quote it: '{written}'")
            if key in seen:
                raise ConfigError(f"line {line}: duplicate key '{key}'")
            seen.add(key)
        return super().construct_mapping(node, deep)


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
        If the file is missing, not YAML, not a mapping, has a key that is duplicate or not text, or aliases that unfold
        to more than `MAX_VALUES` values; the message names file and line.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_StrictLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: lists or mappings are nested too deeply") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds {type(content).__name__}; wanted a mapping of keys")
    return content
