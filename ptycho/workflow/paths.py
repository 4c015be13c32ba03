"""The condition that a file of a study belongs to, read from its path."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptycho.methods import METHODS, method_name
from ptycho.workflow.files import StrPath

CONDITION = re.compile(
    r"(?:^|/)(?:results/|(?!results/))[^/]+/(?:object_(?P<object>[A-Za-z0-9-]+)/)?"
    r"(?:flaw_(?P<flaw>[A-Za-z0-9.-]+)/)?(?:data/)?"
    r"dose_(?P<dose>\d+)/(?:(?P<view>[A-Za-z0-9-]+)/)?"
    r"seed_(?P<seed>\d+)(?:/(?P<split>train|test)(?=[/._]))?(?:/?(?P<method>[a-z]+)(?=[/._]))?"
)
"""Where a path names a condition, or a part of one."""
BOUND = re.compile(
    r"(?:^|/)photon_bound/(?:object_(?P<object>[A-Za-z0-9-]+)/)?(?P<view>[A-Za-z0-9-]+)/(?P<split>train|test)\."
)
"""Where the path of a photon limit's cost or log names what it is of: it serves all doses and seeds."""
OBJECT = re.compile(r"results/[^/]+/object_(?P<object>[A-Za-z0-9-]+)/")
"""Where a path names an object alone."""


def wildcards_of(path: StrPath) -> dict[str, str]:
    """Read Snakemake's wildcards from a path: object, flaw, dose, view, seed, split, method, as far as it has them."""
    text = Path(path).as_posix()
    match = CONDITION.search(text) or BOUND.search(text) or OBJECT.search(text)
    wildcards = {key: value for key, value in match.groupdict().items() if value} if match else {}
    if wildcards.get("method", "") not in METHODS:
        wildcards.pop("method", None)
    return wildcards


def label(wildcards: Mapping[str, Any], *keys: str) -> str:
    """Describe a condition in words.

    Parameters
    ----------
    wildcards : mapping
        Values of object, flaw, dose, view, seed, split and method, or of some of them.
    *keys : str
        The wildcards to name; default: all.
    """
    words = {
        "method": method_name(wildcards.get("method", "")),
        "object": f"object {wildcards.get('object')}",
        "flaw": f"flaw {wildcards.get('flaw')}",
        "view": f"{wildcards.get('view')} view",
        "dose": f"{int(wildcards.get('dose', 0)):,} photons per exposure",
        "split": f"{wildcards.get('split')} split",
        "seed": f"seed {wildcards.get('seed')}",
    }
    return ", ".join(word for key, word in words.items() if key in wildcards and (not keys or key in keys))


def condition_of(path: StrPath) -> dict[str, Any]:
    """Read the condition of a file from its path.

    Returns
    -------
    dict
        object (if the study has several), flaw (if it has any), dose (int), view, seed (int).

    Raises
    ------
    ValueError
        If the path names no dose, view or seed.
    """
    wildcards = wildcards_of(path)
    if not {"dose", "view", "seed"} <= set(wildcards):
        raise ValueError(f"{path}: wanted a file under [object_*/][flaw_*/]dose_*/*/seed_*/")
    numbers = {"dose": int(wildcards["dose"]), "seed": int(wildcards["seed"])}
    names = [name for name in ("object", "flaw", "dose", "view", "seed") if name in wildcards]
    return {name: numbers.get(name, wildcards[name]) for name in names}
