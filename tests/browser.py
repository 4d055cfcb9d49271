"""A real headless Chromium for tests that look at pages: Debian's package, driven by Playwright.

Where either is missing, tests that ask for it are skipped, and the end of the run says how many and what installs it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
MISSING: Final = "a browser's page needs"  # how every reason begins
NO_CHROMIUM: Final = "Chromium, which this machine lacks: run `make browser` (apt-get install -y chromium)"
NO_PLAYWRIGHT: Final = "Playwright, which this environment lacks: run `make setup` (pip install -e '.[dev]')"
LAPTOP, PHONE = (1366, 900), (390, 844)  # px, width and height
LOCAL: Final = ("127.0.0.1", "localhost", "")  # "" is of data: and blob: addresses
# Root has no sandbox in containers; Chromium's own services must not reach for the network.
OPTIONS: Final = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


@dataclass
class Seen:
    """What a page did besides showing itself: hosts that it asked for, and what its console called an error."""

    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def executable() -> str | None:
    """Path of Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def missing() -> str:
    """What a test of a page lacks here and what installs it, or ""."""
    lacks = [] if executable() else [NO_CHROMIUM]
    lacks += [] if find_spec("playwright") else [NO_PLAYWRIGHT]
    return f"{MISSING} {'; and '.join(lacks)}" if lacks else ""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running Chromium (playwright.sync_api.Browser); skips where there is none.

    One for each file: while Playwright's driver runs, its loop counts as this thread's running one, and nothing that
    comes after it in this process could call `asyncio.run`.
    """
    path = executable()
    lacks = missing()
    if path is None or lacks:
        pytest.skip(lacks)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(OPTIONS))
        yield browser
        browser.close()


@contextmanager
def window(browser: Any, size: tuple[int, int] = LAPTOP, **options: Any) -> Iterator[tuple[Any, Seen]]:
    """A fresh page of `size`, and what is seen on it. Requests to other hosts are written down, and find none.

    `options` are those of Playwright's `new_context`, such as `color_scheme="dark"`.
    """
    seen = Seen()
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)

    page = context.new_page()
    page.on("request", lambda request: None if _local(request.url) else seen.foreign.append(request.url))
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    try:
        yield page, seen
    finally:
        context.close()


def _local(url: str) -> bool:
    return (urlsplit(url).hostname or "") in LOCAL


def scrolls_sideways(page: Any) -> bool:
    """Whether a page is wider than its window."""
    wide: bool = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return wide


def say_skipped(terminal: Any) -> None:
    """One line at the end of a run that left tests out for want of a browser."""
    skipped = [report for report in terminal.stats.get("skipped", []) if MISSING in str(report.longrepr)]
    if skipped:
        terminal.write_line(f"NOT RUN: {len(skipped)} tests of pages in a browser: {missing()}", yellow=True, bold=True)
