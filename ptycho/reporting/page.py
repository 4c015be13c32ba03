"""The study as one self-contained page: figures with captions, tables, and the template that holds them."""

import base64
import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from docutils.core import publish_parts

from ptycho.methods import method_name
from ptycho.reporting.figure_files import read_figure
from ptycho.reporting.headlines import ReferenceName
from ptycho.reporting.study_tables import metric_tables, pairwise_wins, significant
from ptycho.reporting.tables import varied
from ptycho.scoring.metric_tables import of_flaw, repeats
from ptycho.workflow.config import in_schema_order
from ptycho.workflow.files import StrPath
from ptycho.workflow.paths import label, wildcards_of


@dataclass(frozen=True)
class CaptionedFigure:
    """A PNG with its caption."""

    path: Path
    caption: str
    """HTML."""
    wildcards: dict[str, str]
    """Condition that it shows, see `ptycho.workflow.paths.wildcards_of`; split and metric of quality and flaws."""

    @property
    def id(self) -> str:
        """Identifier on the page."""
        return re.sub(r"[^A-Za-z0-9]+", "-", str(self.path.with_suffix(""))).strip("-")

    @property
    def alt(self) -> str:
        """Description for readers who cannot see it: caption and condition."""
        text = " ".join(html.unescape(re.sub(r"<[^>]+>", "", self.caption)).split())
        condition = label(self.wildcards)
        return f"{text} ({condition})" if condition else text

    def encoded(self) -> str:
        """Return the file in base64."""
        return base64.b64encode(read_figure(self.path)).decode()


def figures(
    paths: Iterable[StrPath], caption: StrPath, reference_name: ReferenceName = "truth"
) -> list[CaptionedFigure]:
    """Caption figures of one kind as Snakemake's report does.

    Parameters
    ----------
    paths : iterable of path
        PNG files.
    caption : path
        reStructuredText with `{{ snakemake.wildcards.… }}` and `{{ snakemake.params.reference_name }}`.
    reference_name : {"truth", "reference"}
        What the study is scored against.

    Raises
    ------
    jinja2.UndefinedError
        If the caption uses an unknown variable.
    """
    template = jinja2.Template(Path(caption).read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    captioned = []
    for path in map(Path, paths):
        quality = re.fullmatch(r"(?:quality|flaws)_(train|test)_(\w+)", path.stem)
        wildcards = wildcards_of(path) | ({"split": quality[1], "metric": quality[2]} if quality else {})
        text = template.render(snakemake={"wildcards": wildcards, "params": {"reference_name": reference_name}})
        captioned.append(CaptionedFigure(path, publish_parts(text, writer="html5")["body"], wildcards))
    return captioned


def by_split(quality: Iterable[CaptionedFigure]) -> dict[str, dict[str, CaptionedFigure]]:
    """Arrange quality plots: split -> metric -> figure."""
    arranged: dict[str, dict[str, CaptionedFigure]] = {}
    for figure in quality:
        arranged.setdefault(figure.wildcards["split"], {})[figure.wildcards["metric"]] = figure
    return arranged


def by_condition(unsorted: Iterable[CaptionedFigure]) -> list[dict[str, Any]]:
    """Group figures by condition.

    Returns
    -------
    list of dict
        `title`, `id` and `figures` of each condition, ordered by split, object, flaw, view and dose.
    """
    keys = ("split", "object", "flaw", "view")
    ordered = sorted(
        unsorted,
        key=lambda figure: [*(figure.wildcards.get(key, "") for key in keys), int(figure.wildcards["dose"])],
    )
    several_splits = len({figure.wildcards["split"] for figure in ordered}) > 1
    in_title = ["object", "flaw", "view", "dose", *(["split"] if several_splits else [])]
    arranged: dict[str, list[CaptionedFigure]] = {}
    for figure in ordered:
        arranged.setdefault(label(figure.wildcards, *in_title), []).append(figure)
    return [{"title": title, "id": group[0].id, "figures": group} for title, group in arranged.items()]


def study_content(
    config: Mapping[str, Any], metrics: pd.DataFrame, fluence: pd.DataFrame, answer: str
) -> dict[str, Any]:
    """Collect what the page's template says of a study in words and numbers.

    Parameters
    ----------
    config : dict
        Configuration of the study.
    metrics, fluence : DataFrame
        As for `ptycho.reporting.tables.summary_table`; of several flaws, the first is shown.
    answer : str
        Headline metric that answers the study's question.

    Returns
    -------
    dict
        `config` and `answer` as given; `flaw` (the name of the first; None without flaws); `objects` (configurations of
        the simulated objects; one None in a measured study), `overlaps` (texts), `repeats` (description of the
        repetitions, "" if nothing is repeated), `pairwise_wins` and `numbers` (by split, see
        `ptycho.reporting.study_tables`).
    """
    metrics = of_flaw(metrics)
    repeated = len(metrics[repeats(metrics)].drop_duplicates()) > 1
    return {
        "config": config,
        "answer": answer,
        "flaw": next(iter(config.get("flaws", {})), None),
        "objects": list(config["objects"].values()) if "objects" in config else [config["source"].get("object")],
        "overlaps": [f"{overlap} ({view})" for view, overlap in config["views"].items()],
        "repeats": varied(metrics) if repeated else "",
        "pairwise_wins": {split: pairwise_wins(metrics, split, answer) for split in config["splits"]},
        "numbers": {split: metric_tables(metrics, fluence, split) for split in config["splits"]},
    }


def config_text(config: Mapping[str, Any]) -> str:
    """Write a study's merged config as YAML, with its keys in the order of the schema."""
    return yaml.safe_dump(in_schema_order(config), sort_keys=False, allow_unicode=True)


def warnings_in(summary: str) -> list[str]:
    """Find the warnings in the summary of a study, see `ptycho.reporting.summary.summary_text`."""
    return re.findall(r"^WARNING: (.*)$", summary, flags=re.MULTILINE)


def without_figures(document: str, on_page: Iterable[CaptionedFigure]) -> str:
    """Replace figures of another page that this page holds, too, by their identifiers; its script restores them."""
    for figure in on_page:
        document = document.replace(figure.encoded(), f"@@{figure.id}@@")
    return document


def render(template: StrPath, **content: Any) -> str:
    """Fill in a template; everything that is not marked as HTML is escaped.

    Parameters
    ----------
    template : path
        Jinja template; it may include files of its folder.
    **content
        Its variables. `report/study_page.html.jinja` lists those of the study page.

    Raises
    ------
    jinja2.UndefinedError
        If the template uses a variable that `content` lacks.
    """
    template = Path(template)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"significant": significant, "label": label, "method": method_name}
    environment.filters |= {"thousands": "{:,}".format, "join_words": join_words}
    return environment.get_template(template.name).render(**content)


def join_words(values: Iterable[Any], last: str = "and") -> str:
    """Join values as a sentence does: a, b and c."""
    *most, end = map(str, values)
    return f"{', '.join(most)} {last} {end}" if most else end
