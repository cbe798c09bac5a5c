"""The running UI and the pages of other sites: what they send is refused, and its own pages work.

Both ways to serve it are started once, in a folder with hostile modules and with a Dagster home that has no settings.
"""

import contextlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl_assets.samples.writing import generate
from etl_assets_tests.whole import requests_to_ui as ui
from etl_assets_tests.whole.browser import needs_browser
from etl_assets_tests.whole.served import PAGE_S, WORK_S, Server, serve, wait_until

if TYPE_CHECKING:
    from etl_assets_tests.whole.ui_driver import Visitor

pytestmark = pytest.mark.slow

EVIL = "http://evil.example"
# Modules that the UI's processes import; each has a file in the folder in which the UI is started.
SHADOWED = ("yaml", "click", "uvicorn", "starlette", "sqlalchemy", "grpc", "duckdb", "dagster", "etl_assets", "dotenv")
_HOSTILE_MODULE = "import pathlib\npathlib.Path({canary!r}).open('a').write(__name__ + ' ')\n"


@dataclass(frozen=True)
class Place:
    """A UI and the folders around it."""

    server: Server
    folder: Path

    @property
    def host(self) -> str:
        """The server's own Host."""
        return self.server.url.removeprefix("http://")

    @property
    def canary(self) -> Path:
        """Names the hostile modules that were run."""
        return self.folder / "canary"


# Three ways to name code: a file with a module beside it, a module on PYTHONPATH, and the installed package. Dagster
# takes the current folder for a working_directory that is not named.
WORKSPACE = """
load_from:
  - python_file: {relative_path: code/by_file.py, working_directory: code, location_name: by_file}
  - python_module: {module_name: by_path, working_directory: code, location_name: by_path}
  - python_module: {module_name: etl_assets.definitions, working_directory: code, location_name: etl_assets}
"""


def _write_workspace(start: Path, on_path: Path) -> None:
    definitions = "import dagster as dg\ndefs = dg.Definitions()\n"
    (start / "workspace.yaml").write_text(WORKSPACE)
    (start / "code").mkdir()
    (start / "code" / "beside.py").write_text("")
    (start / "code" / "by_file.py").write_text(f"import beside\n{definitions}")
    on_path.mkdir()
    (on_path / "by_path.py").write_text(definitions)


@contextlib.contextmanager
def _served(folder: Path, *, read_only: bool) -> Iterator[Place]:
    generate(folder / "sources", rows=50)
    start, dagster_home = folder / "start", folder / "dagster"
    start.mkdir()
    for name in SHADOWED:
        (start / f"{name}.py").write_text(_HOSTILE_MODULE.format(canary=str(folder / "canary")))
    # Not empty and without a dagster.yaml: an instance that has run with Dagster's own settings.
    (dagster_home / "history").mkdir(parents=True)
    changes = {"HOME": str(folder / "user")}
    if read_only:
        _write_workspace(start, folder / "on_path")
        changes["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder / "on_path"), os.environ.get("PYTHONPATH")]))
    arguments = ("--allow-host", "profiles.example")
    with serve(folder, folder / "sources", *arguments, read_only=read_only, start_in=start, **changes) as server:
        yield Place(server, folder)


@pytest.fixture(scope="module")
def with_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`etl-assets ui`: `dagster dev` starts the webserver."""
    with _served(tmp_path_factory.mktemp("with_daemon"), read_only=False) as place:
        yield place


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`etl-assets ui --read-only`: the webserver alone, with a workspace.yaml of the user's own."""
    with _served(tmp_path_factory.mktemp("read_only"), read_only=True) as place:
        yield place


@pytest.fixture(params=["with_daemon", "read_only"])
def place(request: pytest.FixtureRequest) -> Place:
    """The UI in each of its two ways."""
    found: Place = request.getfixturevalue(request.param)
    return found


def _post(server: Server, query: str, **headers: str) -> ui.Answer:
    body = json.dumps({"query": query})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ui.request(server, "POST", "/graphql", {"Content-Type": "application/json", **named}, body)


def test_another_name_for_this_machine_is_refused(place: Place) -> None:
    """Fails: a site that points its name at 127.0.0.1 reads every preview and starts runs (DNS rebinding)."""
    for host in ("evil.example", "evil.example:3000"):
        asked = _post(place.server, "{ version }", Host=host, Origin=f"http://{host}")
        assert (asked.status, asked.text.split(".")[0]) == (403, "The UI does not answer to the name evil")
        for path in ("/", "/server_info", "/runs", "/graphql", "/favicon.svg"):
            assert ui.request(place.server, "GET", path, {"Host": host}).status == 403
        assert ui.open_websocket(place.server, {"Host": host}).status == 403


@pytest.mark.parametrize("origin", [EVIL, "null", "http://127.0.0.1:1", "http://localhost"])
def test_a_page_of_another_origin_can_neither_post_nor_open_a_websocket(place: Place, origin: str) -> None:
    """Fails: a form or a script of any page that the operator visits acts as the operator."""
    before = ui.effects(place.server)
    assert _post(place.server, ui.START_SCHEDULE, Origin=origin).status == 403
    form = {"Origin": origin, "Content-Type": "application/x-www-form-urlencoded"}
    assert ui.request(place.server, "POST", ui.by_url(ui.START_SENSOR), form, "x=1").status == 403
    report = "/report_asset_materialization/merged_profiles"
    assert ui.request(place.server, "POST", report, {"Origin": origin}, "{}").status == 403
    refused = ui.open_websocket(place.server, {"Origin": origin})
    assert (refused.status, "--allow-host" in refused.text) == (403, True)
    assert ui.effects(place.server) == before


def test_a_request_that_a_browser_marks_as_another_sites_is_refused_without_an_origin(place: Place) -> None:
    for site in ("cross-site", "same-site"):
        assert _post(place.server, ui.START_SCHEDULE, Sec_Fetch_Site=site).status == 403


def test_a_get_changes_nothing_whoever_sends_it(place: Place) -> None:
    """Fails: an image on a page of the UI itself launches runs."""
    before = ui.effects(place.server)
    for mutation in (ui.START_SCHEDULE, ui.START_SENSOR, ui.LAUNCH_RUN):
        address = ui.by_url(mutation)
        for path in (address, address.replace("/graphql", "/graphql%0A"), address.replace("query=", "%71uery=")):
            assert ui.request(place.server, "GET", path, {}).status == 403
        page = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html", "Referer": f"{place.server.url}/"}
        assert ui.request(place.server, "GET", address, page).status == 403
    assert ui.effects(place.server) == before


def test_its_own_pages_read_and_follow(place: Place) -> None:
    own = {"Origin": place.server.url, "Sec-Fetch-Site": "same-origin"}
    page = ui.request(place.server, "GET", "/graphql", {"Accept": "text/html", "Sec-Fetch-Site": "none"})
    assert (page.status, "GraphiQL" in page.text) == (200, True)
    asked = _post(place.server, "{ version }", **own)
    assert (asked.status, '"version"' in asked.text) == (200, True)
    assert ui.open_websocket(place.server, own).status == 101


def test_a_proxys_name_that_was_allowed_is_answered_with_its_own_origin_only(place: Place) -> None:
    behind = {"Host": "profiles.example", "X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "https"}
    assert _post(place.server, "{ version }", Origin="https://profiles.example", **behind).status == 200
    assert _post(place.server, "{ version }", Origin="https://profiles.example:8443", **behind).status == 403
    forged = {"Host": "evil.example", "X_Forwarded_Host": "profiles.example"}
    assert _post(place.server, "{ version }", **forged).status == 403


def test_a_run_of_its_own_pages_is_launched_and_done(with_daemon: Place) -> None:
    """The daemon, the code server and the run's process load the project without the current folder."""
    own = {"Origin": with_daemon.server.url, "Sec-Fetch-Site": "same-origin"}
    launched = json.loads(_post(with_daemon.server, ui.LAUNCH_RUN, **own).text)["data"]["launchRun"]
    run_id = launched["run"]["runId"]

    def status() -> str:
        asked = "query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        return str(with_daemon.server.ask(asked, id=run_id)["runOrError"]["status"])

    wait_until(lambda: status() in ("SUCCESS", "FAILURE"), WORK_S, lambda: f"run {run_id}: {status()}")
    assert status() == "SUCCESS", with_daemon.server.log.read_text()


def test_a_program_reads_without_an_origin(place: Place) -> None:
    assert _post(place.server, "{ version }").status == 200
    assert ui.open_websocket(place.server, {}).status == 101


# A page that tries all that a page of another site can do to a UI whose address it knows.
_HOSTILE_PAGE = """
<!doctype html><title>Kittens</title><script>
const seen = {};
function note(what, outcome) { seen[what] = outcome; document.title = Object.keys(seen).length + ' tried'; }
</script>
<img src="UI_URLSCHEDULE" onload="note('image', 'shown')" onerror="note('image', 'not shown')">
<iframe name="sink" onload="note('frame', 'loaded')"></iframe>
<form method="post" target="sink" action="UI_URLSENSOR"><input name="x" value="1"></form>
<script>
document.forms[0].submit();
fetch('UI_URLSENSOR', {method: 'POST', mode: 'no-cors', body: 'x'}).then(() => note('fetch', 'sent'),
    () => note('fetch', 'failed'));
fetch('UI_URL/server_info').then(() => note('read', 'read'), () => note('read', 'not read'));
const socket = new WebSocket('UI_URL/graphql'.replace('http', 'ws'), 'graphql-ws');
socket.onopen = () => note('socket', 'open');
socket.onerror = () => note('socket', 'refused');
</script>
"""


@pytest.fixture(scope="module")
def hostile_port(with_daemon: Place) -> Iterator[int]:
    """A web server with the hostile page, on another port of this machine."""
    page = _HOSTILE_PAGE.replace("SCHEDULE", ui.by_url(ui.START_SCHEDULE)).replace("SENSOR", ui.by_url(ui.START_SENSOR))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.replace("UI_URL", with_daemon.server.url).encode())

        def log_message(self, *_: object) -> None:
            """Not on stderr."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def visitor(with_daemon: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Visitor"]:
    """A person with one tab, for whom evil.example is this machine, as its owner may have decided.

    The browser's own protection of local addresses is off: not all browsers have one.
    """
    from etl_assets_tests.whole.ui_driver import visit

    options = ("--host-resolver-rules=MAP evil.example 127.0.0.1", "--disable-features=LocalNetworkAccessChecks")
    with visit(with_daemon.server, tmp_path_factory.mktemp("screenshots"), *options) as visitor:
        yield visitor


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "evil.example"])
def test_a_page_of_another_site_can_do_nothing_in_a_browser(
    visitor: "Visitor", with_daemon: Place, hostile_port: int, name: str
) -> None:
    """Fails: to visit any page is to let it start and delete runs."""
    before = ui.effects(with_daemon.server)
    statuses: list[int] = []
    visitor.page.on("response", lambda answer: statuses.append(answer.status) if "/graphql" in answer.url else None)
    visitor.page.goto(f"http://{name}:{hostile_port}/", timeout=PAGE_S * 1000)
    visitor.page.wait_for_function("Object.keys(seen).length >= 5", timeout=PAGE_S * 1000)
    seen = visitor.page.evaluate("seen")
    assert (seen["image"], seen["read"], seen["socket"]) == ("not shown", "not read", "refused")
    # They arrived and were refused.
    assert set(statuses) == {403}
    assert ui.effects(with_daemon.server) == before


@pytest.mark.browser
@needs_browser
def test_a_rebound_name_does_not_open_the_ui_in_a_browser(visitor: "Visitor", with_daemon: Place) -> None:
    port = with_daemon.host.rpartition(":")[2]
    answer = visitor.page.goto(f"{EVIL}:{port}/", timeout=PAGE_S * 1000)
    assert answer is not None
    assert answer.status == 403
    assert "does not answer to the name evil.example" in visitor.page.inner_text("body")


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_ui_itself_loads_follows_and_obeys_its_buttons(visitor: "Visitor", with_daemon: Place, name: str) -> None:
    """Fails: the guard refuses the pages that it is there for."""
    visitor.complaints.clear()
    frames: list[str] = []
    visitor.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))))
    port = with_daemon.host.rpartition(":")[2]
    visitor.page.goto(f"http://{name}:{port}/automation", timeout=PAGE_S * 1000)
    # The first one selects the row; the switch comes later.
    switch = visitor.see(visitor.row("daily_refresh")).get_by_role("checkbox").nth(1)
    before = ui.effects(with_daemon.server).schedule
    # Until the page knows the state, the switch is disabled and stands on off, and a click is lost.
    wait_until(
        lambda: switch.is_enabled() and switch.is_checked() == (before == "RUNNING"),
        PAGE_S,
        lambda: f"the switch to show {before}",
    )
    # The input itself is hidden under its picture.
    switch.dispatch_event("click")
    wait_until(
        lambda: ui.effects(with_daemon.server).schedule != before, PAGE_S, lambda: f"the schedule not to be {before}"
    )
    assert any("connection_ack" in frame for frame in frames)
    assert visitor.complaints == []


def test_the_code_that_a_workspace_names_is_loaded(read_only: Place) -> None:
    """Fails: a project beside its workspace.yaml, or on PYTHONPATH, is not found any more."""
    data = read_only.server.ask(
        "query { workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError "
        "{ __typename ... on PythonError { message } } } } } }"
    )
    entries = data["workspaceOrError"]["locationEntries"]
    wrong = [entry for entry in entries if entry["locationOrLoadError"] != {"__typename": "RepositoryLocation"}]
    assert (sorted(entry["name"] for entry in entries), wrong) == (["by_file", "by_path", "etl_assets"], [])


def test_no_module_of_the_folder_in_which_it_was_started_is_run(place: Place) -> None:
    """Fails: a download that is called yaml.py runs as soon as the UI is started beside it."""
    ui.effects(place.server)  # the code location is loaded
    assert not place.canary.exists(), f"run: {place.canary.read_text()}"


def test_no_telemetry_is_written_where_the_home_has_no_settings(place: Place) -> None:
    """Fails: events and ids are collected, and sent when the UI is started again."""
    ui.effects(place.server)
    dagster_home = place.folder / "dagster"
    assert [name for name in ("logs", ".logs_queue", ".telemetry") if (dagster_home / name).exists()] == []
    assert not (place.folder / "user" / ".dagster").exists()
