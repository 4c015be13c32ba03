"""The documentation: it builds without a warning, opens offline, and tells nothing about the machine that built it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.ci]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built pages; .ci/run, which has just built them, says where."""
    if built := os.environ.get("PTYCHO_SITE"):
        return ROOT / built
    folder = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", ROOT / "docs", folder]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return folder


def pages(site):
    found = list(site.rglob("*.html"))
    assert len(found) > 30
    return found


def test_no_page_loads_anything_from_outside(site):
    tags = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)")
    outside = {page.name: tags.findall(page.read_text(encoding="utf-8")) for page in pages(site)}
    assert {name: links for name, links in outside.items() if links} == {}


def test_no_style_loads_anything_from_outside(site):
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_formulas_are_drawn_by_a_script_of_the_site(site):
    page = (site / "methods/tv.html").read_text(encoding="utf-8")
    scripts = [site / "methods" / src for src in re.findall(r"<script[^>]*src=\"([^\"?]*mathjax[^\"?]*)", page, re.I)]
    assert scripts
    assert all(script.is_file() for script in scripts)
    assert "math notranslate" in page


def test_pages_say_nothing_of_the_machine_that_built_them(site):
    for page in pages(site):
        text = page.read_text(encoding="utf-8")
        assert "environ(" not in text, page.name
        assert str(ROOT) not in text, page.name
