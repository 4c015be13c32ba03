"""Of which condition a file of a study is, told from its path, and how that is said."""

from collections.abc import Mapping
from pathlib import Path

from ptycho.methods import METHODS, method_name


def place_of(path) -> dict[str, str]:
    """Say of which condition a file is: object, dose, view, seed, split and method, as far as its path names them."""
    parts = Path(path).with_suffix("").parts
    found = {
        key: value for key, _, value in (part.partition("_") for part in parts) if key in ("object", "dose", "seed")
    }
    doses = [index for index, part in enumerate(parts) if part.startswith("dose_")]
    if doses and not parts[doses[-1] + 1].startswith("seed_"):
        found["view"] = parts[doses[-1] + 1]
    for key, values in (("split", ("train", "test")), ("method", METHODS)):
        for part in set(parts).intersection(values):
            found[key] = part
    return found


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
