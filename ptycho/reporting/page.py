"""The study as one self-contained page: pictures with captions, tables, and the template that holds them."""

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
from ptycho.reporting.headlines import ReferenceName
from ptycho.reporting.study_tables import metric_tables, pairwise_wins, significant
from ptycho.reporting.tables import repeats, varied
from ptycho.workflow.files import StrPath
from ptycho.workflow.paths import label, wildcards_of


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption."""

    path: Path
    caption: str
    """HTML."""
    wildcards: dict[str, str]
    """Condition that it shows, see `ptycho.workflow.paths.wildcards_of`; of a quality plot split and metric."""

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
        return base64.b64encode(self.path.read_bytes()).decode()


def pictures(paths: Iterable[StrPath], caption: StrPath, reference_name: ReferenceName = "truth") -> list[Picture]:
    """Caption pictures of one kind as Snakemake's report does.

    Parameters
    ----------
    paths : iterable of path
        PNGs.
    caption : path
        reStructuredText with `{{ snakemake.wildcards.… }}` and `{{ snakemake.params.reference_name }}`.
    reference_name : {"truth", "reference"}
        What the study is scored against.

    Raises
    ------
    jinja2.UndefinedError
        If the caption asks for something that is not there.
    """
    template = jinja2.Template(Path(caption).read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    captioned = []
    for path in map(Path, paths):
        quality = re.fullmatch(r"quality_(train|test)_(\w+)", path.stem)
        wildcards = wildcards_of(path) | ({"split": quality[1], "metric": quality[2]} if quality else {})
        text = template.render(snakemake={"wildcards": wildcards, "params": {"reference_name": reference_name}})
        captioned.append(Picture(path, publish_parts(text, writer="html5")["body"], wildcards))
    return captioned


def by_split(quality: Iterable[Picture]) -> dict[str, dict[str, Picture]]:
    """Arrange quality plots: split -> metric -> picture."""
    arranged: dict[str, dict[str, Picture]] = {}
    for picture in quality:
        arranged.setdefault(picture.wildcards["split"], {})[picture.wildcards["metric"]] = picture
    return arranged


def by_condition(unsorted: Iterable[Picture]) -> list[dict[str, Any]]:
    """Group pictures by condition.

    Returns
    -------
    list of dict
        `title`, `id` and `pictures` of each condition, ordered by split, object, view and dose.
    """
    keys = ("split", "object", "view")
    ordered = sorted(
        unsorted,
        key=lambda picture: [*(picture.wildcards.get(key, "") for key in keys), int(picture.wildcards["dose"])],
    )
    several_splits = len({picture.wildcards["split"] for picture in ordered}) > 1
    in_title = ["object", "view", "dose", *(["split"] if several_splits else [])]
    arranged: dict[str, list[Picture]] = {}
    for picture in ordered:
        arranged.setdefault(label(picture.wildcards, *in_title), []).append(picture)
    return [{"title": title, "id": group[0].id, "pictures": group} for title, group in arranged.items()]


def study_content(
    config: Mapping[str, Any], metrics: pd.DataFrame, fluence: pd.DataFrame, answer: str
) -> dict[str, Any]:
    """Collect what the page's template says of a study in words and numbers.

    Parameters
    ----------
    config : dict
        Configuration of the study.
    metrics, fluence : DataFrame
        As for `ptycho.reporting.tables.summary_table`.
    answer : str
        Headline metric that answers the study's question.

    Returns
    -------
    dict
        `config` and `answer` as given; `objects` (configurations of the simulated objects; one None in a measured
        study), `overlaps` (texts), `repeats` (description of the repetitions, "" if nothing is repeated),
        `pairwise_wins` and `numbers` (by split, see `ptycho.reporting.study_tables`).
    """
    repeated = len(metrics[repeats(metrics)].drop_duplicates()) > 1
    return {
        "config": config,
        "answer": answer,
        "objects": list(config["objects"].values()) if "objects" in config else [config["source"].get("object")],
        "overlaps": [f"{overlap} ({view})" for view, overlap in config["views"].items()],
        "repeats": varied(metrics) if repeated else "",
        "pairwise_wins": {split: pairwise_wins(metrics, split, answer) for split in config["splits"]},
        "numbers": {split: metric_tables(metrics, fluence, split) for split in config["splits"]},
    }


def config_text(config: Mapping[str, Any], files: Iterable[StrPath]) -> str:
    """Write a configuration as YAML: the text of a file that says exactly this, comments included, or a dump."""
    for text in (Path(file).read_text(encoding="utf-8") for file in files):
        if yaml.safe_load(text) == config:
            return text
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


def warnings_in(summary: str) -> list[str]:
    """Find the warnings in the summary of a study, see `ptycho.reporting.summary.summary_text`."""
    return re.findall(r"^WARNING: (.*)$", summary, flags=re.MULTILINE)


def without_pictures(document: str, on_page: Iterable[Picture]) -> str:
    """Replace pictures of another page that this page holds by their identifiers; the page's script restores them."""
    for picture in on_page:
        document = document.replace(picture.encoded(), f"@@{picture.id}@@")
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
        If the template asks for something that is not there.
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
