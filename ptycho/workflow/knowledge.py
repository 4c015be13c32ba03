"""What a study's config says is known: the kind of each flaw and its size, and what is refined for which method."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ptycho.methods import METHODS

EXACT = "exact"
"""Kind of a flaw that tells nothing wrong."""
BY_THEMSELVES = ("probe", "positions")
"""What methods with `Method.refines` refine by themselves."""
SIZES = {
    "positions_px": "positions",
    "drift_px": "drift",
    "defocus": "defocus",
    "missing_modes": "modes",
    "flux": "flux",
    "background": "background",
}
"""Key of a flaw -> the kind that it is of."""
UNTOLD = {"flux": "flux_jitter", "background": "background"}
"""Key of a flaw that is not told at all -> the key of `source.detector` that has its size."""


class FlawKind(NamedTuple):
    """What a flaw is, in a table."""

    kind: str
    """`EXACT`, one of the kinds in `SIZES`, or several of them, joined by +."""
    size: float
    """In the unit of its key; 0 if exact, NaN of several kinds and where the size is unknown."""


def unknown_of(config: Mapping[str, Any], flaw: str | None = None, method: str | None = None) -> list[str]:
    """List what is refined: probe, positions, flux, background, or some of them.

    Parameters
    ----------
    config : dict
        Configuration of the study.
    flaw : str, optional
        One of its flaws, whose `knowledge` overrides that of the study.
    method : str, optional
        For this method alone: nothing, if `knowledge.methods` says that it takes everything for exact; of a method that
        refines by itself, what it can.
    """
    study, own = config["knowledge"], {} if flaw is None else config["flaws"][flaw].get("knowledge", {})
    methods = study.get("methods", {}) | own.get("methods", {})
    if methods.get(method) == EXACT:
        return []
    can = BY_THEMSELVES if method in METHODS and METHODS[method].refines else (*BY_THEMSELVES, "flux", "background")
    return [name for name in can if {**study, **own}.get(name) == "refined"]


def flaw_kind(config: Mapping[str, Any], flaw: str) -> FlawKind:
    """Return kind and size of one of a study's flaws."""
    detector = config["source"].get("detector", {})
    sizes = {
        kind: float(detector.get(UNTOLD[key], "nan")) if key in UNTOLD else abs(float(value))
        for key, kind in SIZES.items()
        if (value := config["flaws"][flaw].get(key, 0)) not in (0, "told")
    }
    if len(sizes) == 1:
        return FlawKind(*sizes.popitem())
    return FlawKind("+".join(sizes), float("nan")) if sizes else FlawKind(EXACT, 0.0)


def contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """Say what a study's flaws and its knowledge ask for that its source, or its methods, cannot have."""
    parts = {"knowledge": config["knowledge"]}
    for name, flaw in config.get("flaws", {}).items():
        parts[f"flaws.{name}.knowledge"] = flaw.get("knowledge", {})
        yield from (f"flaws.{name}.{problem}" for problem in _of_flaw(config, flaw))
    for where, part in parts.items():
        for method in part.get("methods", {}):
            if method not in config["methods"]:
                yield f"{where}.methods: {method} is not one of this study's methods, {', '.join(config['methods'])}"


def _of_flaw(config: Mapping[str, Any], flaw: Mapping[str, Any]) -> Iterator[str]:
    source = config["source"]
    simulated, probe = source["kind"] == "simulated", source.get("probe", {})
    if defocus := flaw.get("defocus"):
        if probe.get("kind") != "zone_plate":
            found = f"a {probe['kind']} probe" if simulated else "a measured scan"
            yield f"defocus: {found} has no defocus to be wrong; wanted source.probe.kind: zone_plate"
        elif not 0 < probe["defocus_px"] * (1 + defocus) <= probe["n_pixels"]:
            opened = probe["defocus_px"] * (1 + defocus)
            yield f"defocus: {defocus} opens the beam to {opened:g} px; wanted up to {probe['n_pixels']} px"
    if probe.get("kind") != "file" and (missing := flaw.get("missing_modes", 0)):
        modes = len(probe.get("modes", [1])) if simulated else config["reference"]["modes"]
        if missing >= modes:
            yield f"missing_modes: {missing} of {modes} of the probe; wanted fewer"
    for key, size in UNTOLD.items():
        if simulated and flaw.get(key) == "unknown" and not source.get("detector", {}).get(size):
            yield f"{key}: nothing is untold without source.detector.{size}"
