"""Config keys of older versions and their present names: the only module that knows old names."""

from collections.abc import Iterator, Mapping
from typing import Any

KEYS = {
    "iterative": "lsqml",
    "iterative.patience": "lsqml.early_stopping_patience",
    "iterative.compact_below": "lsqml.compact_batching_below_overlap",
    "grouping.neighbours": "grouping.neighbors",
    "grouping.held_share": "grouping.holdout_fraction",
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
    "grouping.max_spread_px": "grouping.max_spread",
    "grouping.n_groups.train": "grouping.n_groups",
    "grouping.n_groups.test": "grouping.n_groups",
    "training.epochs": "training.steps",
}
"""Old key -> new key, as dotted paths."""

MEANINGS = {
    "grouping.max_spread": "in units of the median distance of neighboring exposures, not in pixels",
    "grouping.n_groups": "one number: only the train split is grouped",
    "training.steps": "steps of one group, not passes over all groups",
}
"""New key -> what its value means now, where that has changed with the name."""

DROPPED = {
    "network.bfloat16": "it was never measured",
    "inference.tile_chunks": "`inference.chunks` applies to every trained network",
    "network.amplitude_max": "the transmittance that a network can return has no limit",
    "training.batch_size": "a step of Adam is one group",
    "training.trainable_probe": "`training.probe: trained` moves the probe with the weights, fixed does not",
    **dict.fromkeys(
        ("training.halve_after", "training.lr_patience", "training.patience", "training.early_stopping_patience"),
        "a training has ten rounds; it stops after three without a lower validation deviance",
    ),
}
"""Keys without a successor, and the reason."""

OBJECT_KINDS = {"leaves": "dead_leaves"}
"""Old kind of object -> new kind; the old one is still accepted."""


def find_retired(config: Mapping[str, Any]) -> list[str]:
    """Return a message for every old key in a config: its present name, or why it was dropped."""
    meanings = {new: f", {meaning}" for new, meaning in MEANINGS.items()}
    messages = [
        f"`{old}` is called `{new}` now{meanings.get(new, '')}" for old, new in KEYS.items() if _has(config, old)
    ]
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
            if isinstance(old := sample.get(key), str) and old in OBJECT_KINDS:
                sample[key] = OBJECT_KINDS[old]
                notes.append(f"object kind `{old}` is called `{sample[key]}` now; both names are accepted")
    return list(dict.fromkeys(notes))


def _samples(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    source, objects = config.get("source"), config.get("objects")
    if isinstance(source, dict) and isinstance(source.get("object"), dict):
        yield source["object"]
    if isinstance(objects, dict):
        yield from (sample for sample in objects.values() if isinstance(sample, dict))
