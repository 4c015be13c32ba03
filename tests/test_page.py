"""The page of a whole study as people open it: one file, in a browser, without a network."""

import base64
import html
import json
import re
import shutil
from importlib.metadata import version

import pytest
import yaml
from snakemake.cli import parse_args

from ptycho.reporting.study_tables import significant
from ptycho.workflow.code_digests import script_digest
from ptycho.workflow.config import load_config
from tests.browser import find_browser, images_not_shown, opened
from tests.workflow import ASCII, ROOT, config_file, jobs, output_of, snakemake


def test_the_report_runs_what_is_missing_and_only_where_it_is_asked_for(tmp_path):
    arguments = ("-n", "--cores", "1", "--configfile", config_file(tmp_path))
    counts = jobs(snakemake(tmp_path, *arguments, "--", "report"))
    assert counts["workflow_report"] == counts["study_page"] == 1
    everything = jobs(snakemake(tmp_path, *arguments))
    assert set(counts) - set(everything) == {"workflow_report", "study_page", "report"}
    assert everything["train_network"] == counts["train_network"] == 1


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    """The tiny study's report, made once, in a copy of the study."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(study[0], folder, dirs_exist_ok=True)
    snakemake(folder, "--cores", "2", "--configfile", study[1], "--", "report")
    return folder / "results/tiny/report.html"


@pytest.mark.slow
def test_the_report_is_one_file_that_says_how_to_reproduce_the_study(study, report):
    text = report.read_text(encoding="utf-8")
    (encoded,) = re.findall(r'href="data:application/yaml;base64,([^"]+)"', text)
    config = base64.b64decode(encoded).decode()
    assert yaml.safe_load(config) == load_config(study[1])  # with all defaults
    assert config in html.unescape(text)
    assert script_digest(ROOT / "scripts/train_network.py") in text
    assert f"<td>{version('tensorflow')}</td>" in text
    numbers = json.loads((report.parent / "dose_100000/dense/seed_0/test_tiles.json").read_text(encoding="utf-8"))
    assert f'<td class="number">4</td><td class="number">{significant(numbers["redundancy"])}</td>' in text
    assert not list(report.parent.glob("workflow*"))
    (command,) = re.findall(r"<code>snakemake (.*)</code>", text)
    _, options = parse_args(command.split())
    assert list(options.targets) == ["report"]
    run = snakemake(report.parents[2], "--cores", "2", "--configfile", study[1], "--", "report")
    assert "Nothing to be done" in output_of(run)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.skipif(find_browser() is None, reason="no browser: the report was not looked at (needs chromium)")
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (400, True)])
def test_the_report_opens_in_a_browser_without_a_request_to_anywhere(report, width, dark):
    with opened(report, width=width, dark=dark) as (page, record):
        assert page.title() == "tiny: dose × overlap study"
        # comparison, FRC, view, sample, two learning curves, five of quality, price, cost
        assert page.locator("img").count() == 1 + 1 + 1 + 1 + 2 + 5 + 1 + 1
        assert images_not_shown(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for link in page.locator("nav a").all():
            assert page.locator(link.get_attribute("href")).count() == 1
        page.locator("#images .zoom").first.click()
        assert page.evaluate("(i => i.clientWidth >= i.naturalWidth - 1)(document.querySelector('#images .zoom img'))")
        if width > 1000:  # Snakemake's own report is not made for narrow windows
            with page.expect_popup() as popup:
                page.locator("#open-workflow").click()
            inner = popup.value
            inner.get_by_text("G comparison").click()
            inner.get_by_text("side by side").click()
            inner.locator("a", has=inner.locator("svg")).nth(-2).click()
            inner.locator("#app img[src^='data:image/png']").wait_for()
            assert inner.evaluate("[...document.images].every(i => i.naturalWidth)")
        assert record.outside == [report.as_uri()]
        assert record.errors == []


@pytest.mark.slow
def test_the_report_does_not_depend_on_the_locale(study, report, tmp_path):
    shutil.copytree(report.parents[2], tmp_path, dirs_exist_ok=True)
    copy = tmp_path / report.relative_to(report.parents[2])
    target = ("--force", copy.relative_to(tmp_path))
    snakemake(tmp_path, "--cores", "2", "--configfile", study[1], *target, **ASCII)
    assert "tiny: dose × overlap study" in copy.read_text(encoding="utf-8")
