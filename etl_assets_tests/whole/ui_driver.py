"""A person at a browser in front of a running Dagster UI.

The tests say what is clicked and expected; this module knows how to wait for a page: always for a condition, with a
deadline that a busy machine can keep.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Error, Locator, Page, Response, expect, sync_playwright

from etl_assets_tests.whole.served import PAGE_S, WORK_S, Server, wait_until

_CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Visitor:
    """A person at the browser. Where something that is looked for is not found, the error names a screenshot.

    `complaints` are the errors that the pages reported by themselves: in the console, uncaught, or as HTTP answers.
    """

    page: Page
    url: str
    pictures: Path
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Collect what the pages complain about from here on."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("response", self._on_response)

    def open(self, path: str) -> None:
        """Go to an address of the UI."""
        with self.pictured():
            self.page.goto(self.url + path, timeout=PAGE_S * 1000)

    def see(self, locator: Locator, *, times: int | None = None, within_s: float = PAGE_S) -> Locator:
        """Wait until this stands on the page, `times` times if given."""
        with self.pictured():
            if times is None:
                expect(locator.first).to_be_visible(timeout=within_s * 1000)
            else:
                expect(locator).to_have_count(times, timeout=within_s * 1000)
        return locator

    def see_text(self, text: str | re.Pattern[str], *, within_s: float = PAGE_S) -> Locator:
        """Wait until this text, and nothing besides, stands somewhere on the page."""
        return self.see(self.page.get_by_text(text, exact=True), within_s=within_s)

    def click(self, locator: Locator) -> None:
        """Click on this once it is there, is enabled and lies still."""
        with self.pictured():
            locator.click(timeout=PAGE_S * 1000)

    def reload_until(self, locator: Callable[[], Locator], *, times: int = 1) -> Locator:
        """Reload until this is there, for the parts of pages that do not follow the news."""

        def is_there() -> bool:
            try:
                expect(locator()).to_have_count(times, timeout=5000)
            except AssertionError:
                self.page.reload(timeout=PAGE_S * 1000)
                return False
            return True

        with self.pictured():
            wait_until(is_there, WORK_S, lambda: f"{locator()}, {times} times, at {self.page.url}")
        return locator()

    def dialog(self) -> Locator:
        """The dialog that lies over the page."""
        return self.page.locator(".dagster-dialog")

    def row(self, text: str) -> Locator:
        """The row of a list in which this text stands."""
        return self.page.locator("[data-index]").filter(has=self.page.get_by_text(text, exact=True))

    def metadata(self, name: str) -> Locator:
        """The value of a metadata entry; between name and value there may be a time, behind them an empty cell."""
        row = f"//tr[td[1][normalize-space() = '{name}']]"
        return self.page.locator(f"xpath={row}/td[normalize-space()][last()]")

    @contextlib.contextmanager
    def pictured(self) -> Iterator[None]:
        """Save a screenshot when what is done inside fails, and name it in the error."""
        try:
            yield
        except (AssertionError, Error) as error:
            if getattr(error, "__notes__", None):
                raise  # has its picture, from a step inside
            path = self.pictures / f"failed_{len(list(self.pictures.iterdir()))}.png"
            with contextlib.suppress(Error):
                self.page.screenshot(path=path)
            error.add_note(f"Seen at {self.page.url}; screenshot: {path}")
            raise

    def _on_console(self, message: ConsoleMessage) -> None:
        # Warnings are the UI's own business: its GraphQL client warns of its own deprecations on every page.
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400 and response.url.startswith(self.url):
            self.complaints.append(f"HTTP {response.status}: {response.url}")


@contextlib.contextmanager
def visit(server: Server, pictures: Path, *options: str) -> Iterator[Visitor]:
    """Open the browser that TEST_BROWSER names; `options` are Chromium's."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["TEST_BROWSER"], args=[*_CHROMIUM_OPTIONS, *options]
        )
        visitor = Visitor(browser.new_page(viewport={"width": 1400, "height": 900}), server.url, pictures)
        visitor.listen()
        yield visitor
        browser.close()
