"""The study as one page: pictures with their captions, and the template that holds them and the tables together."""

import base64
import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml
from docutils.core import publish_parts

from ptycho.methods import method_name
from ptycho.reporting.study_tables import significant
from ptycho.workflow.paths import label, wildcards_of


@dataclass(frozen=True)
class Picture:
    """A PNG with what is said about it."""

    path: Path
    caption: str
    """As HTML."""
    place: dict[str, str]
    """The condition that it is of, see `ptycho.workflow.paths`."""

    @property
    def id(self) -> str:
        """Name on the page."""
        return re.sub(r"[^A-Za-z0-9]+", "-", str(self.path.with_suffix(""))).strip("-")

    @property
    def alt(self) -> str:
        """What is to be seen, in words."""
        said = " ".join(html.unescape(re.sub(r"<[^>]+>", "", self.caption)).split())
        where = label(self.place)
        return f"{said} ({where})" if where else said

    def encoded(self) -> str:
        """The file, base64."""
        return base64.b64encode(self.path.read_bytes()).decode()


def pictures(paths: Iterable, caption) -> list[Picture]:
    """Give pictures of one kind the caption that Snakemake's report gives them, its wildcards filled in.

    Parameters
    ----------
    paths : iterable of path
        PNGs.
    caption : path
        reStructuredText with `{{ snakemake.wildcards.… }}`.
    """
    text = jinja2.Template(Path(caption).read_text(), undefined=jinja2.StrictUndefined)
    made = []
    for path in map(Path, paths):
        place = wildcards_of(path)
        metric = re.fullmatch(r"quality_(train|test)_(\w+)", path.stem)
        wildcards = place | ({"split": metric[1], "metric": metric[2]} if metric else {})
        said = publish_parts(text.render(snakemake={"wildcards": wildcards}), writer="html5")["body"]
        made.append(Picture(path, said, wildcards))
    return made


def by_split(shown: Iterable[Picture]) -> dict[str, dict[str, Picture]]:
    """Arrange the pictures of quality: split -> metric -> picture."""
    arranged: dict[str, dict[str, Picture]] = {}
    for picture in shown:
        arranged.setdefault(picture.place["split"], {})[picture.place["metric"]] = picture
    return arranged


def by_condition(shown: Iterable[Picture]) -> list[dict]:
    """Put pictures of one condition together: `title`, `id` and `pictures` of each, ordered by split, view and dose."""
    order = ("split", "object", "view")
    shown = sorted(
        shown, key=lambda picture: [*(picture.place.get(key, "") for key in order), int(picture.place["dose"])]
    )
    several = len({picture.place["split"] for picture in shown}) > 1
    said = ["object", "view", "dose", *(["split"] if several else [])]
    arranged: dict[str, list[Picture]] = {}
    for picture in shown:
        arranged.setdefault(label(picture.place, *said), []).append(picture)
    return [{"title": title, "id": of[0].id, "pictures": of} for title, of in arranged.items()]


def config_text(config: Mapping, files: Iterable) -> str:
    """Write a config as YAML: as the file says it, with its comments, unless it was changed on the way."""
    for text in (Path(file).read_text() for file in files):
        if yaml.safe_load(text) == config:
            return text
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


def warnings_in(summary: str) -> list[str]:
    """Find the warnings in a study's summary."""
    return re.findall(r"^WARNING: (.*)$", summary, flags=re.MULTILINE)


def without_pictures(document: str, shown: Iterable[Picture]) -> str:
    """Leave pictures that the page shows out of another one; its script puts them back, so nothing is held twice."""
    for picture in shown:
        document = document.replace(picture.encoded(), f"@@{picture.id}@@")
    return document


def render(template, **content) -> str:
    """Fill in a template; everything is escaped that is not said to be HTML.

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


def join_words(values: Iterable, last: str = "and") -> str:
    """Write a list as a sentence does: a, b and c."""
    *most, end = map(str, values)
    return f"{', '.join(most)} {last} {end}" if most else end
