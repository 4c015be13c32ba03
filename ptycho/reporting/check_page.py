"""A check as text and as one page of HTML."""

from pathlib import Path
from typing import Any

from ptycho.inspection.check import Check
from ptycho.inspection.findings import TOPICS, Finding, Verdict
from ptycho.inspection.orientation_search import OrientationSearch
from ptycho.reporting.page import CaptionedFigure, render
from ptycho.workflow.code_digests import ROOT
from ptycho.workflow.files import StrPath

TEMPLATE = ROOT.parent / "report" / "check_page.html.jinja"
"""Template of the page."""
CAPTION = (
    "<p>Above: mean pattern (gray: masked; circles: suspicious pixels), pattern of the probe without a sample, probe. "
    "Below: counts in the order of the scan, positions, and the held-out misfit of quick reconstructions in all "
    "orientations: bars with a free probe, one for each turn of frames against positions; strokes with the probe as "
    "given, for the eight orientations that are the same turn. 1 is perfect.</p>"
)
"""Caption of the figure on the page."""
_HEADLINES = (
    "Nothing stands out that would ruin a study.",
    "A study of this scan would go wrong.",
    "The file could not be read.",
)


def verdict_text(verdict: Verdict) -> str:
    """Write a verdict as text: a line a finding, errors and warnings marked."""
    lines = [f"{verdict.source}: {_HEADLINES[verdict.status]}", ""]
    for finding in verdict.findings:
        mark = "" if finding.level in ("fine", "note") else f"{finding.level.upper()}: "
        lines.append(f"{finding.topic:<12} {mark}{finding.line}")
    return "\n".join(lines) + "\n"


def render_check(verdict: Verdict, check: Check | None, *, figure: StrPath, study: str, files: dict[str, str]) -> str:
    """Render the page of a check.

    Parameters
    ----------
    verdict : Verdict
    check : Check or None
        None if the file could not be read.
    figure : path
        PNG of `ptycho.reporting.check_figures`.
    study : str
        Study file that the scan supports; "" if none.
    files : dict of str
        What was written beside the page -> its name.
    """
    return render(
        TEMPLATE,
        verdict=verdict,
        headline=_HEADLINES[verdict.status],
        by_topic=_by_topic(verdict.findings),
        figure=CaptionedFigure(Path(figure), CAPTION if check else "<p>Nothing could be read.</p>", {}),
        facts={} if check is None else _facts(check),
        conversion=[] if check is None else check.scan.metadata.get("conversion", []),
        turns=[] if check is None or check.search is None else _turns(check.search),
        study=study,
        files=files,
    )


def _by_topic(findings: tuple[Finding, ...]) -> dict[str, list[Finding]]:
    arranged = {topic: [finding for finding in findings if finding.topic == topic] for topic in ("file", *TOPICS)}
    return {topic: rows for topic, rows in arranged.items() if rows}


def _facts(check: Check) -> dict[str, str]:
    scan = check.scan
    return {
        "exposures": f"{len(scan):,}, of which {int(check.usable.sum()):,} usable",
        "patterns": f"{scan.n_pixels} × {scan.n_pixels} px",
        "counts per exposure": f"{check.statistics.photons[check.usable].mean():,.0f}" if check.usable.any() else "0",
        "source": str(scan.metadata.get("source", scan.path)),
    }


def _turns(search: OrientationSearch) -> list[dict[str, Any]]:
    """Rows of the table of orientations: a turn each, with all that is the same for a free probe."""
    rows = []
    for trial in search.free:
        turn = trial.orientation.turn
        members = [other for other in search.quick if other.orientation.turn == turn]
        is_own = turn == search.as_is.turn
        shown = search.as_is if is_own else members[0].orientation
        rows.append(
            {
                "is_own": is_own,
                "free": trial.misfit,
                "given": next(other.misfit for other in members if other.orientation == shown),
                "shown": shown.options,
                "others": [other.orientation.options for other in members if other.orientation != shown],
            }
        )
    return rows
