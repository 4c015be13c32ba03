"""A headless browser without a network that records the requests and errors of a page."""

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """Path of an installed Chromium."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@dataclass
class Record:
    """Requests and errors of pages."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def of(self, page):
        """Record a page."""
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url[:100]}"))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        return self

    @property
    def outside(self) -> list[str]:
        """Requests that the page does not answer itself."""
        return [url for url in self.requests if not url.startswith(("data:", "blob:"))]


@contextmanager
def opened(path: Path, *, width: int = 1400, dark: bool = False):
    """Open a file; yield its page and a record of it and of every page that it opens."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # no sandbox: where tests are run as root there is none
        browser = driver.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", offline=True
        )
        record = Record()
        context.on("page", record.of)
        context.set_default_timeout(180_000)  # Snakemake's own report takes its time on a busy machine
        page = context.new_page()
        page.goto(path.resolve().as_uri(), wait_until="load")
        yield page, record
        browser.close()


def images_not_shown(page) -> list[str]:
    """Images that did not load or have no alternative text."""
    return page.evaluate(
        "[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).map(i => i.id || i.src)"
    )
