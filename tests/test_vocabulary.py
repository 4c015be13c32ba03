"""One vocabulary: no retired identifier and no British spelling in code, config and documentation."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXEMPT = {
    ROOT / "CHANGELOG.md",  # says what was renamed
    ROOT / "ptycho/workflow/retired.py",  # knows old keys
    Path(__file__),
}
FOLDERS = ("ptycho", "rules", "scripts", "config", "report", "docs", "envs", "profiles", "benchmarks", "tests")
SUFFIXES = {".py", ".smk", ".yaml", ".rst", ".md", ".jinja", ".css", ".sh", ".svg"}
FILES = sorted(
    path
    for path in [
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")),
        *ROOT.glob("*.md"),
        *(ROOT / name for name in ("Snakefile", "Makefile", "pyproject.toml", "CITATION.cff", ".ci/run")),
        *ROOT.glob(".github/**/*"),
    ]
    if path.is_file()
    and (path.suffix in SUFFIXES or path.parent == ROOT or path.name == "run")
    and not {"_build", "__pycache__"} & set(path.parts)
    and path not in EXEMPT
)

IDENTIFIERS = [
    # methods
    *("Fitting", "TotalVariation", "Refinement", "not-closed", "regularise", "take_apart", "tabulate_ingredients"),
    *("score_ingredients", "iterate_half", "regularise_half", "multiplies_bfloat16", "BFLOAT16"),
    # validation
    *("HeldOut", "stop_deviance", "held_share", "fit_share", "judge_of", "deviance_apart", "JUDGES", "JUDGE_SHARE"),
    # photons
    *("thinned", "thin_counts", "thin_positions", "halve_counts", "undiffract", "light_on", "transmission_of"),
    # optimization
    *("descend_phase", "pull_back", "choose_strength", "strength_curve", "softened", "WARM", "SOFT", "SOFTEST"),
    *("TYPICAL", "SWEEPS_GAIN", "halve_after", "compact_below", "closing_iterations", "Backpropagation"),
    # objects and canvases
    *("SharedCanvas", "place_of", "save_object", "load_object"),
    # figures and tables
    *("comparison_picture", "cost_picture", "frc_picture", "quality_picture", "sample_picture", "view_picture"),
    *("learning_curve", "stopping_curve", "against_truth", "between_halves", "duels", "summarise"),
    # jobs
    *("take_charge", "hushed", "share_out", "TimeToGo"),
    # constants
    *("GAIN", "CORRECTIONS", "EDGE", "NEAR", "MAGNIFIED", "ALLOWED", "LOST"),
]
"""Names of 0.1 that have another one now."""

RULES = ["expose", "halve", "ingredients", "iterate", "overview", "refine", "regularise", "summarise", "thin"]
"""Rules and scripts of 0.1 whose names are English words."""

KEYS = ["deals", "sweeps", "strongest", "weakest", "held_share", "fit_share", "closing_iterations"]
"""Config keys and parameters of 0.1; the other keys are known to `ptycho.workflow.retired`."""

MODULES = [
    *("align", "compare", "config", "descent", "fetch", "files", "frc", "frc_curves", "grouped", "grouping"),
    *("halves", "images", "iterative", "likelihood", "log", "metrics", "npz", "objects", "overview", "parent"),
    *("places", "plots", "probes", "progress", "provenance", "scan", "simulate", "stitch", "tables", "tiles", "tv"),
    "views",
]
"""Modules of 0.1 at the root of the package: each is in a subpackage now, or gone (`formats` is a package again)."""

BRITISH = r"""
neighbour \w* | colour \w* | centre (s|d)? | centring | grey (s|scale|ed)? | behaviour \w* | favour \w* | honour \w*
| fibre s? | artefact s? | catalogue \w* | analys (e|ed|es|er|ing) | licence \w* | defence \w* | whilst | judgement \w*
| (label|model|travel|cancel|signal) l (ed|ing) | programme s? | (kilo|milli|micro|nano)? metre s?
| (
    character|categor|central|custom|diagonal|digit|discret|emphas|equal|factor|final|fourier|general|initial|ital
    |linear|local|maxim|memor|minim|modern|normal|optim|organ|parametr|penal|polar|prior|quant|random|real|recogn
    |regular|serial|special|stabil|standard|summar|symbol|synchron|util|vector|visual
  ) is (e|ed|es|er|ers|ing|ation|ations)
"""


def hits(pattern, flags=0):
    """Lines that match: file:line: match."""
    compiled = re.compile(pattern, flags)
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for match in compiled.finditer(line):
                yield f"{path.relative_to(ROOT)}:{number}: {match[0]}"


def any_of(names):
    """A pattern of whole words; a hyphen belongs to a word."""
    return rf"(?<![\w-])({'|'.join(map(re.escape, names))})(?![\w-])"


def test_the_files_of_the_repository_are_searched():
    names = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"README.md", "Snakefile", "rules/common.smk", "config/defaults.yaml", "ptycho/physics/forward.py"} < names
    assert {"scripts/tv.py", "docs/index.md", "report/study_page.html.jinja", "tests/conftest.py"} < names
    assert len(names) > 150


PATTERNS = {
    "identifier": any_of(IDENTIFIERS),
    "rule or script": (
        r"(\brules?[ .]|scripts/|cost/|logs/\w+/|code\(\")" + rf"({'|'.join(RULES)})" + r"(\.py\b|[/\":]|\b)"
    ),
    "key or parameter": rf"{any_of(KEYS)}\"?[:=]",
    "module": r"\b(from|import) ptycho(\.| import )" + any_of(MODULES),
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_no_retired_name_is_left(kind):
    assert list(hits(PATTERNS[kind])) == []


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("identifier", "layer = Backpropagation(probe)"),
        ("identifier", 'history["stop_deviance"].min()'),
        ("rule or script", "rule iterate:"),
        ("rule or script", '        code=code("expose"),'),
        ("rule or script", "see scripts/thin.py"),
        ("key or parameter", "refined: {deals: 6}"),
        ("key or parameter", "options = RefinedOptions(deals=6)"),
        ("module", "from ptycho.stitch import Canvas"),
        ("module", "from ptycho import plots"),
    ],
)
def test_a_retired_name_would_be_found(kind, line):
    assert re.search(PATTERNS[kind], line)


def test_spelling_is_american():
    assert list(hits(rf"\b({BRITISH})\b", re.IGNORECASE | re.VERBOSE)) == []


@pytest.mark.parametrize(
    "word", ["Neighbouring", "colours", "centre", "greyscale", "optimisation", "modelling", "metres"]
)
def test_the_pattern_knows_british_words(word):
    assert re.fullmatch(BRITISH, word, re.IGNORECASE | re.VERBOSE)


@pytest.mark.parametrize(
    "word", ["precise", "raised", "otherwise", "noise", "labelleft", "supervised", "center", "metric"]
)
def test_the_pattern_knows_american_words(word):
    assert not re.fullmatch(BRITISH, word, re.IGNORECASE | re.VERBOSE)
