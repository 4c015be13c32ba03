"""The table of reconstruction methods. A new method is a line here, a rule that writes its object, and a module."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """What rules, figures and tables need to know about a method.

    Colors are those of Okabe and Ito; marker and line style distinguish the methods without color, too.
    """

    label: str
    """Name in figures and tables."""
    color: str
    marker: str
    linestyle: str
    trained: bool = False
    """Trained on the train split, then applied in chunks; otherwise it reconstructs each scan by itself."""
    curve: bool = False
    """Its rule also writes history.csv, which history.png shows."""
    refines: bool = False
    """Where probe and positions are not exact, it refines them by itself."""
    parts: tuple[str, ...] = ()
    """Parts of its ablation: each is a reconstruction with some of the method left out."""

    @property
    def style(self) -> dict[str, str]:
        """Matplotlib's keyword arguments for its lines."""
        return {"label": self.label, "color": self.color, "marker": self.marker, "linestyle": self.linestyle}


METHODS = {
    "pinn": Method("PINN", "#0072B2", "o", "-", trained=True, curve=True),
    "baseline": Method("Baseline", "#D55E00", "s", "--", trained=True, curve=True),
    "unrolled": Method(
        "unrolled",
        "#56B4E9",
        "P",
        "-",
        trained=True,
        curve=True,
        parts=(
            "steps",
            "no-slow-phase",
            "no-background",
            "no-minibatch-epochs",
            "prior",
            "more-iterations",
            "no-post-iterations",
        ),
    ),
    "lsqml": Method("LSQML", "#009E73", "^", "-.", curve=True, refines=True),
    "tv": Method("TV-MAP", "#CC79A7", "D", ":", curve=True),
    "refined": Method("refined", "#E69F00", "v", "--", curve=True, parts=("whole", "splits")),
}
"""Name in config and paths -> method."""


def method_name(method: str) -> str:
    """Return the label of a method in figures and tables; an unknown method is its own label."""
    return METHODS[method].label if method in METHODS else method
