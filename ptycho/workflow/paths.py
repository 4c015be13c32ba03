"""Of which condition a file of a study is, told from its path, and how that is said."""

import re
from collections.abc import Mapping
from pathlib import Path

from ptycho.methods import METHODS, method_name

CONDITION = re.compile(
    r"(?:^|/)(?:results/|(?!results/))[^/]+/(?:object_(?P<object>[A-Za-z0-9-]+)/)?(?:data/)?"
    r"dose_(?P<dose>\d+)/(?:(?P<view>[A-Za-z0-9-]+)/)?"
    r"seed_(?P<seed>\d+)(?:/(?P<split>train|test)(?=[/._]))?(?:/?(?P<method>[a-z]+)(?=[/._]))?"
)
OBJECT = re.compile(r"results/[^/]+/object_(?P<object>[A-Za-z0-9-]+)/")


def wildcards_of(path) -> dict[str, str]:
    """Say of which condition a file is: object, dose, view, seed, split and method, as far as its path names them."""
    path = Path(path).as_posix()
    found = CONDITION.search(path) or OBJECT.search(path)
    place = {key: value for key, value in found.groupdict().items() if value} if found else {}
    if place.get("method", "") not in METHODS:
        place.pop("method", None)
    return place


def label(place: Mapping, *keys: str) -> str:
    """Write a condition out, for people; only what `keys` name, or all of it."""
    words = {
        "method": method_name(place.get("method", "")),
        "object": f"object {place.get('object')}",
        "view": f"{place.get('view')} view",
        "dose": f"{int(place.get('dose', 0)):,} photons per exposure",
        "split": f"{place.get('split')} split",
        "seed": f"seed {place.get('seed')}",
    }
    return ", ".join(word for key, word in words.items() if key in place and (not keys or key in keys))


def condition_of(path) -> dict:
    """Tell dose, view, seed and, where there are several, object from the path of a file under one condition.

    Raises
    ------
    ValueError
        If it is under none.
    """
    place = wildcards_of(path)
    if not {"dose", "view", "seed"} <= set(place):
        raise ValueError(f"{path}: wanted a file under [object_*/]dose_*/*/seed_*/")
    condition = {name: place[name] for name in ("object", "dose", "view", "seed") if name in place}
    return {**condition, "dose": int(place["dose"]), "seed": int(place["seed"])}
