"""The tiny study's report as people open it: one page, in a browser, without a network."""

import html
import re
import shutil
from importlib.metadata import version

import pytest
from snakemake.cli import parse_args

from ptycho.workflow.provenance import script_digest
from tests.browser import find_browser, images_not_shown, opened
from tests.workflow import ROOT, config_file, jobs, snakemake


def test_the_report_runs_what_is_missing_and_is_asked_for_alone(tmp_path):
    arguments = ("-n", "--cores", "1", "--configfile", config_file(tmp_path))
    found = jobs(snakemake(tmp_path, *arguments, "--", "report"))
    assert found["workflow_report"] == found["study_page"] == 1
    everything = jobs(snakemake(tmp_path, *arguments))
    assert {"workflow_report", "study_page", "report"} == set(found) - set(everything) - {"all"}
    assert everything["train"] == found["train_network"] == 4


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    """The tiny study's report, made once, in a copy of the study."""
    place = tmp_path_factory.mktemp("report")
    shutil.copytree(study[0], place, dirs_exist_ok=True)
    snakemake(place, "--cores", "2", "--configfile", study[1], "--", "report")
    return place / "results/tiny/report.html"


@pytest.mark.slow
def test_the_report_is_one_file_that_tells_how_to_do_it_again(study, report):
    text = report.read_text()
    assert study[1].read_text() in html.unescape(text)
    assert script_digest(ROOT / "scripts/train.py") in text
    assert f"<td>{version('tensorflow')}</td>" in text
    assert not list(report.parent.glob("workflow*"))
    (command,) = re.findall(r"<code>snakemake (.*)</code>", text)
    _, options = parse_args(command.split())
    assert list(options.targets) == ["report"]
    run = snakemake(report.parents[2], "--cores", "2", "--configfile", study[1], "--", "report")
    assert "Nothing to be done" in run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no browser: the report was not looked at (needs chromium)")
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (400, True)])
def test_the_report_opens_in_a_browser_and_asks_nobody_for_anything(report, width, dark):
    with opened(report, width=width, dark=dark) as (page, record):
        assert page.title() == "tiny: dose × overlap study"
        assert (
            page.locator("img").count() >= 2 * (1 + 2 + 1) + 3 + 1 + 1
        )  # comparisons, histories, views, quality, cost
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
        assert record.complaints == []
