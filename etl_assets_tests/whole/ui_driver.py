"""A running Dagster UI, and somebody at a browser in front of it.

What is clicked and expected belongs to the tests; here is how a server is started and ended, and how one waits for a
page: always for a condition, with a deadline that a busy machine can keep.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Error, Locator, Page, Response, expect, sync_playwright

from etl_assets_tests.cli.conftest import command, environment

CHECKOUT = Path(__file__).parents[2]
SHARD_COUNT = 10
# Until a page shows what is there already.
PAGE_S = 60
# Until something that a click started is done: the slowest measured with both cores busy, three times over.
WORK_S = 240

_CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Server:
    """`etl-assets ui` in a session of its own, with its own exports, data and instance."""

    process: subprocess.Popen[bytes]
    url: str
    sources: Path
    home: Path
    log: Path

    @property
    def warehouse(self) -> Path:
        """What the merge publishes."""
        return self.home / "warehouse.duckdb"

    def published_shards(self) -> set[str]:
        """The names of the shards that have a file."""
        return {path.stem for path in (self.home / "shards").glob("shard_*.duckdb")}

    def processes(self) -> list[str]:
        """The living processes of the server's group: the server, its children and theirs."""
        listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
        lines = (line.split(maxsplit=2) for line in listed.stdout.splitlines())
        return [args for pgid, stat, args in lines if int(pgid) == self.process.pid and not stat.startswith("Z")]

    def interrupt(self) -> int:
        """What Ctrl-C does in a terminal: SIGINT for the whole group. Returns the server's exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=PAGE_S)


@contextlib.contextmanager
def serve(folder: Path, sources: Path) -> Iterator[Server]:
    """Start the UI as a user does, in the checkout; whatever is left of it at the end is killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home, log = folder / "home", folder / "ui.log"
    settings = {"ETL_SOURCES": sources, "ETL_HOME": home, "DAGSTER_HOME": folder / "dagster"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command("ui", "--port", str(port)),
            cwd=CHECKOUT,
            env=environment(**{name: str(path) for name, path in settings.items()}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}", sources, home, log)
    try:
        wait_until(lambda: _answers(server), PAGE_S * 2, lambda: f"the UI to answer; its log ends:\n{_tail(log)}")
        yield server
    finally:
        if server.processes():
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=PAGE_S)


def wait_until(condition: Callable[[], bool], within_s: float, what: Callable[[], str]) -> None:
    """Ask twice a second until the condition holds; AssertionError says what was waited for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"Waited {within_s} s for {what()}"
        time.sleep(0.5)


def _answers(server: Server) -> bool:
    assert server.process.poll() is None, f"The UI ended with {server.process.returncode}:\n{_tail(server.log)}"
    try:
        with urllib.request.urlopen(f"{server.url}/server_info", timeout=30) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


@dataclass
class Visitor:
    """Somebody at the browser. Where they do not find what they look for, a screenshot is saved and the error names it.

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
def visit(server: Server, pictures: Path) -> Iterator[Visitor]:
    """Open the browser that ETL_BROWSER names."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["ETL_BROWSER"], args=list(_CHROMIUM_OPTIONS))
        visitor = Visitor(browser.new_page(viewport={"width": 1440, "height": 900}), server.url, pictures)
        visitor.listen()
        yield visitor
        browser.close()
