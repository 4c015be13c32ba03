"""Config keys of ptycho 0.1 and their present names: the only module that knows old names."""

from collections.abc import Iterator, Mapping
from typing import Any

KEYS = {
    "iterative": "lsqml",
    "iterative.patience": "lsqml.early_stopping_patience",
    "iterative.compact_below": "lsqml.compact_batching_below_overlap",
    "grouping.neighbours": "grouping.neighbors",
    "grouping.held_share": "grouping.holdout_fraction",
    "training.halve_after": "training.lr_patience",
    "training.patience": "training.early_stopping_patience",
    "lsqml.patience": "lsqml.early_stopping_patience",
    "lsqml.compact_below": "lsqml.compact_batching_below_overlap",
    "tv.strongest": "tv.lambda_max",
    "tv.weakest": "tv.lambda_min",
    "tv.fit_share": "tv.fit_fraction",
    "unrolled.rounds": "unrolled.stages",
    "unrolled.sweeps": "unrolled.minibatch_epochs",
    "unrolled.closing_iterations": "unrolled.post_iterations",
    "unrolled.fit_share": "unrolled.fit_fraction",
    "refined.deals": "refined.n_splits",
    "refined.fit_share": "refined.fit_fraction",
    "source.reference": "reference",
}
"""Old key -> new key, as dotted paths."""

DROPPED = {"network.bfloat16": "it was never measured"}
"""Keys without a successor, and the reason."""

OBJECT_KINDS = {"leaves": "dead_leaves"}
"""Old kind of object -> new kind; the old one is still accepted."""


def find_retired(config: Mapping[str, Any]) -> list[str]:
    """Return a message for every old key in a config: its present name, or why it was dropped."""
    messages = [f"`{old}` is called `{new}` now" for old, new in KEYS.items() if _has(config, old)]
    return messages + [f"`{old}` is gone: {reason}" for old, reason in DROPPED.items() if _has(config, old)]


def _has(config: Any, path: str) -> bool:
    key, _, rest = path.partition(".")
    if not isinstance(config, Mapping) or key not in config:
        return False
    return _has(config[key], rest) if rest else True


def accept_old_kinds(config: dict[str, Any]) -> list[str]:
    """Replace old kinds of objects in a config, in place; return a note for each."""
    notes = []
    for sample in _samples(config):
        for key in ("kind", "test_kind"):
            if (old := sample.get(key)) in OBJECT_KINDS:
                sample[key] = OBJECT_KINDS[old]
                notes.append(f"object kind `{old}` is called `{sample[key]}` now; both names are accepted")
    return list(dict.fromkeys(notes))


def _samples(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    source, objects = config.get("source"), config.get("objects")
    if isinstance(source, dict) and isinstance(source.get("object"), dict):
        yield source["object"]
    if isinstance(objects, dict):
        yield from (sample for sample in objects.values() if isinstance(sample, dict))
