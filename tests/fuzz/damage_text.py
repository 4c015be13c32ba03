"""Damage to texts: values of JSON and YAML, cells, rows and columns of tables."""

import json

import yaml

VALUES = (None, True, False, 0, 1, -1, 2, 7, 0.5, 10**30, -(10**30), 1e308, float("nan"), float("inf"))
VALUES += ("", "x", "NA", "1e5", "0", "é\n", "../..", [], {}, [[]], [1], [None], {"x": 1}, "a" * 300, [0] * 50)
"""What a value of JSON or YAML becomes."""
CELLS = ("", " ", "x", "nan", "NA", "inf", "1e999", "-1", "0", "1,2", '"', "'", "\\", "é", "#", "1" * 400, "\0", "=1+1")
"""What a cell of a table becomes."""


def edit_json(content, rng):
    """Replace, remove or add a value somewhere, or repeat a key."""
    try:
        value = json.loads(content)
    except ValueError:
        return content, "no JSON"
    if rng.random() < 0.05:
        other = VALUES[rng.integers(len(VALUES))]
        return json.dumps(other).encode(), f"all of it {other!r}"
    if rng.random() < 0.03:
        return b"[" * 100_000, "deeply nested"
    how = _edit_value(value, rng)
    return json.dumps(value).encode(), how


def edit_yaml(content, rng):
    """Replace, remove or add a value somewhere."""
    value = yaml.safe_load(content)
    how = _edit_value(value, rng)
    return yaml.safe_dump(value, sort_keys=False).encode(), how


def _edit_value(value, rng):
    """Edit a nested value in place; say what was done."""
    places = list(_places(value))
    if not places:
        return "nothing to edit"
    container, key = places[rng.integers(len(places))]
    kind = ["replace"] * 6 + ["remove", "add"]
    kind = kind[rng.integers(len(kind))]
    if kind == "remove":
        del container[key]
        return f"{key!r} removed"
    other = VALUES[rng.integers(len(VALUES))]
    if kind == "add" and isinstance(container, list):
        container.insert(key, other)
    elif kind == "add":
        container["added"] = other
    else:
        container[key] = other
    return f"{key!r}: {kind} {repr(other)[:40]}"


def _places(value):
    """Yield the containers and keys of all values."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def edit_table(content, rng):
    """Replace a cell, remove, repeat or exchange rows, remove or rename a column."""
    separator = "\t" if b"\t" in content else "," if b"," in content else " "
    rows = [line.split(separator) for line in content.decode().splitlines()]
    kind = [_cell, _cell, _cell, _column_name, _row, _column, _short_row][rng.integers(7)]
    how = kind(rows, rng)
    return ("\n".join(separator.join(row) for row in rows) + "\n").encode(), how


def _cell(rows, rng):
    row = rows[rng.integers(len(rows))]
    column, cell = int(rng.integers(len(row))), CELLS[rng.integers(len(CELLS))]
    row[column] = cell
    return f"cell {cell[:20]!r}"


def _column_name(rows, rng):
    column = int(rng.integers(len(rows[0])))
    name = ["", "x", rows[0][0], rows[0][column].upper()][rng.integers(4)]
    rows[0][column] = name
    return f"column {column} named {name!r}"


def _row(rows, rng):
    start = int(rng.integers(len(rows)))
    if rng.random() < 0.5:
        del rows[start : start + int(rng.integers(1, len(rows) + 1))]
        return "rows removed"
    rows.insert(int(rng.integers(len(rows))), list(rows[start]))
    return "a row repeated"


def _column(rows, rng):
    column = int(rng.integers(len(rows[0])))
    for row in rows:
        del row[column : column + 1]
    return f"column {column} removed"


def _short_row(rows, rng):
    row = rows[rng.integers(len(rows))]
    if rng.random() < 0.5:
        row += ["1", "2"]
    else:
        del row[1:]
    return "a row of another length"
