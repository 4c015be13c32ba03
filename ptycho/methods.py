"""The methods that a study can name. To add one: a line here, a rule that writes its object, a module that makes it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """What rules, figures and tables know of a method.

    Colors are Okabe and Ito's; with marker and dash they are told apart without color, too.
    """

    label: str
    color: str
    marker: str
    linestyle: str
    trained: bool = False
    """On the train split, before it is applied in chunks; otherwise it reconstructs each scan by itself."""
    curve: bool = False
    """Its rule also writes history.csv, of which history.png is drawn."""

    @property
    def style(self) -> dict:
        """Return how Matplotlib draws its lines."""
        return {"label": self.label, "color": self.color, "marker": self.marker, "linestyle": self.linestyle}


METHODS = {
    "pinn": Method("PINN", "#0072B2", "o", "-", trained=True, curve=True),
    "baseline": Method("baseline", "#D55E00", "s", "--", trained=True, curve=True),
    "unrolled": Method("unrolled", "#56B4E9", "P", "-", trained=True, curve=True),
    "lsqml": Method("LSQML", "#009E73", "^", "-.", curve=True),
    "tv": Method("TV-MAP", "#CC79A7", "D", ":", curve=True),
    "refined": Method("refined", "#E69F00", "v", "--", curve=True),
}


def method_name(method: str) -> str:
    """Return what a method is called in figures and tables; one that is not listed by its own name."""
    return METHODS[method].label if method in METHODS else method
