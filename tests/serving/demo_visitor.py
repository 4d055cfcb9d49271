"""A visitor of the demo in a real browser: gives files, draws, reads what the page shows, takes files home."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser import LAPTOP, Seen, window

PATIENCE = 60_000  # ms
STOPPED = "Stopped."
LOOK, CALM = 300, 4  # ms between two looks, and looks that find the same
FIELDS = {"a": "lw-a", "a2": "lw-a2", "b": "lw-b", "c": "lw-c", "c2": "lw-c2"}


class Visitor:
    """One page of the demo."""

    def __init__(self, page: Any, seen: Seen) -> None:
        self.page, self.seen, self.moved = page, seen, False
        page.set_default_timeout(PATIENCE)

    def arrive(self, address: str) -> "Visitor":
        """Open the page and wait until it answers to clicks."""
        self.page.goto(address)
        self.page.locator("#lw-draw").wait_for()
        self.page.locator("#lw-a input[type=file]").wait_for(state="attached")
        return self

    def give(self, files: dict[str, Path]) -> "Visitor":
        """Upload, and wait until each is shown."""
        for name, path in files.items():
            if name.startswith("c"):
                self.open_second()
            self.page.locator(f"#{FIELDS[name]} input[type=file]").set_input_files(path)
            self.page.locator(f"#{FIELDS[name]} img").wait_for()
        return self

    def open_second(self) -> None:
        """The part of the page with the second exemplar."""
        if not self.page.locator("#lw-c").is_visible():
            self.page.get_by_role("button", name="A second exemplar").click()
            self.page.locator("#lw-c").wait_for()

    def set(self, label: str, value: float) -> "Visitor":
        """Type a number into a field or beside a slider."""
        field = self.page.get_by_label(label).and_(self.page.locator("input[type=number]")).first
        field.fill(str(value))
        field.press("Tab")
        self.moved = True
        return self

    def draw(self) -> Image.Image:
        """Press the button, and wait for the answer."""
        before = self.source()
        self.press()
        return self.drawn(before)

    def press(self) -> None:
        """Press the button; again where the page has not taken it, because a run that was stopped was still ending."""
        stopped = self.status() == STOPPED
        self.page.locator("#lw-draw").click()
        while stopped and self.status() == STOPPED and not self.page.locator("#lw-answer .progress-text").count():
            self.page.wait_for_timeout(LOOK)
            self.page.locator("#lw-draw").click()

    def stop(self) -> None:
        """Press Stop; its word must come, and must be the last one."""
        self.page.locator("#lw-stop").click()
        calm = 0
        for _ in range(PATIENCE // LOOK):
            self.page.wait_for_timeout(LOOK)
            calm = calm + 1 if self.status() == STOPPED else 0
            if calm > CALM:
                return
        raise AssertionError(f"the page says {self.status()!r} after a stop")

    def status(self) -> str:
        """The line below the images."""
        return str(self.page.locator(".lw-status").inner_text())

    def drawn(self, before: str) -> Image.Image:
        """Wait for an answer other than `before`, by the name of its file, and for the line that says it is one."""
        self.page.wait_for_function(
            """before => { const image = document.querySelector('#lw-answer img');
                const said = document.querySelector('.lw-status');
                const answer = image && image.src !== before && image.src.includes('/b2-');
                return answer && said && said.innerText.startsWith('Drawn'); }""",
            arg=before,
        )
        if self.moved:
            self.settle()
        return self.fetched(self.source())

    def settle(self) -> None:
        """Wait until nothing is drawn any more: a slider that was let go draws too, beside the button."""
        calm, seen = 0, ""
        while calm < CALM:
            self.page.wait_for_timeout(LOOK)
            now = f"{self.source()} {self.status()}"
            calm = calm + 1 if now == seen and " Drawn" in now else 0
            seen = now
        self.moved = False

    def source(self) -> str:
        """Address of the answer that is shown, or ""."""
        image = self.page.locator("#lw-answer img")
        return str(image.first.get_attribute("src")) if image.count() else ""

    def fetched(self, address: str) -> Image.Image:
        """An image of the server."""
        return Image.open(io.BytesIO(self.page.request.get(address).body()))

    def download(self, elem_id: str, folder: Path) -> Path:
        """Click a download, and keep the file under the name that it comes with."""
        with self.page.expect_download() as waiting:
            self.page.locator(f"#{elem_id}").click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def said(self) -> str:
        """The sentence of the newest notice; waits for one."""
        notice = self.page.locator(".toast-body").last
        notice.wait_for()
        return str(notice.inner_text())

    def close_notices(self) -> None:
        """So that the next notice is a new one."""
        for _ in range(self.page.locator(".toast-close").count()):
            self.page.locator(".toast-close").first.click()
        self.page.locator(".toast-body").first.wait_for(state="detached")


@contextmanager
def visiting(chromium: Any, address: str, size: tuple[int, int] = LAPTOP, **options: Any) -> Iterator[Visitor]:
    """A visitor on the page at `address`."""
    with window(chromium, size, **options) as (page, seen):
        yield Visitor(page, seen).arrive(address)
