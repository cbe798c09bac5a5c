"""Which requests the UI answers: its own pages' and those of programs, and no other site's."""

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest

from etl_assets.orchestration.instance import guard
from etl_assets.orchestration.instance.guard import HOSTS_VARIABLE, Guard, Hosts

HOST = "127.0.0.1:3000"
OWN = {"host": HOST, "origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
EVIL = "http://evil.example"


def _scope(kind: str = "http", method: str = "GET", path: str = "/", query: str = "", **headers: str) -> dict[str, Any]:
    """A request; header names are written with underscores, and a value of "" leaves the header out."""
    named = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": kind,
        **({"method": method} if kind == "http" else {}),
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items() if value],
    }


def _why(hosts: str = "", **request: str) -> str | None:
    return guard.why_refused(_scope(**request), Hosts.parse({HOSTS_VARIABLE: hosts}))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:3000", "127.8.9.1:80", "localhost", "LocalHost:3000", "[::1]", "[::1]:3000"]
)
def test_it_answers_to_every_name_of_loopback(host: str) -> None:
    assert _why(host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:127"),
        *("10.0.0.1:3000", "0.0.0.0:3000", "[::]:3000", "[2001:db8::1]:3000", "::1", "localhost.", "127.1"),
        *("user@localhost", "localhost/", "localhost:", "localhost:3000:3000", "localhost evil.example", "*", "[*]"),
    ],
)
def test_another_host_is_refused(host: str) -> None:
    """Fails: a name that its owner points at 127.0.0.1 reads and changes everything (DNS rebinding)."""
    assert _why(host=host)
    assert _why(host=host, kind="websocket")
    assert _why(host=host, method="POST", path="/graphql")


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    scope = _scope(host="")
    assert guard.why_refused(scope, Hosts())
    scope["headers"] = [(b"host", HOST.encode()), (b"Host", b"evil.example")]
    assert guard.why_refused(scope, Hosts())


def test_a_forwarded_host_counts_for_nothing() -> None:
    """Fails: a page only has to add a header."""
    assert _why(host="evil.example", x_forwarded_host=HOST, forwarded=f"host={HOST}")
    assert _why(x_forwarded_host="evil.example", forwarded="host=evil.example") is None


@pytest.mark.parametrize("host", ["dagster.example.com", "DAGSTER.example.com:8443", "192.0.2.7:3000", "[2001:db8::1]"])
def test_it_answers_to_the_names_and_addresses_it_was_given(host: str) -> None:
    given = "127.0.0.1,Dagster.example.com,192.0.2.7,2001:0db8:0::1"
    assert _why(given, host=host) is None
    assert _why(given, host=HOST) is None
    assert _why(given, host="evil.example")
    assert _why(given, host="192.0.2.8")


def test_a_ui_on_all_addresses_answers_to_any_address_and_to_no_other_name() -> None:
    """An address cannot be rebound; from which of its addresses a container is reached it cannot know."""
    assert _why("*", host="192.0.2.7:3000") is None
    assert _why("*", host="[2001:db8::1]:3000") is None
    assert _why("*", host="evil.example:3000")
    assert _why("*,dagster.lan", host="dagster.lan:3000") is None


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "origin",
    [
        *(EVIL, "null", "http://127.0.0.1", "http://127.0.0.1:8000", "http://localhost:3000", "https://127.0.0.1"),
        *("http://127.0.0.1:3000.evil.example", "file://", "127.0.0.1:3000", "", "http://127.0.0.1:3000 null"),
        *("chrome-extension://127.0.0.1:3000", "ftp://127.0.0.1:3000"),
    ],
)
def test_another_origin_is_refused(kind: str, origin: str) -> None:
    """Fails: a page that the operator visits starts and deletes runs, or follows their logs."""
    scope = _scope(kind, "POST", "/graphql")
    scope["headers"].append((b"Origin", origin.encode()))
    assert guard.why_refused(scope, Hosts())


def test_one_foreign_origin_among_two_is_refused() -> None:
    scope = _scope(method="POST", **OWN)
    scope["headers"].append((b"origin", EVIL.encode()))
    assert guard.why_refused(scope, Hosts())


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (HOST, f"http://{HOST}"),
        (HOST, f"HTTP://{HOST}"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("dagster.example.com", "https://dagster.example.com"),
        ("dagster.example.com:443", "https://dagster.example.com"),
        ("dagster.example.com:8443", "https://dagster.example.com:8443"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_its_own_pages_may_post_and_open_a_websocket(kind: str, host: str, origin: str) -> None:
    """Fails: no button of the UI works, or none behind a proxy with TLS."""
    assert _why("dagster.example.com", kind=kind, method="POST", path="/graphql", host=host, origin=origin) is None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_the_browser_marks_as_another_sites_is_refused_even_without_an_origin(site: str) -> None:
    """Images, scripts, frames and forms of other pages; the same site is another port of this machine."""
    for marks in (
        {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"},
        {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
        {"sec_fetch_mode": "navigate"},
        {},
    ):
        assert _why(sec_fetch_site=site, **marks)
    link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert _why(method="POST", **link)
    assert _why(kind="websocket", **link)


def test_a_link_from_another_site_opens_the_ui() -> None:
    """Fails: a link in a chat or a mail ends in an error."""
    for site in ("cross-site", "same-site", "none"):
        assert _why(path="/runs/1", sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document") is None


def test_a_program_needs_no_origin() -> None:
    assert _why(method="POST", path="/graphql") is None
    assert _why(kind="websocket", path="/graphql") is None


@pytest.mark.parametrize("path", ["/graphql", "/prefix/graphql", "/graphql\n", "/graphql/"])
@pytest.mark.parametrize("query", ["query=mutation{x}", "query=", "a=1&%71uery=x", "variables={}&query=%7Bx%7D"])
def test_no_graphql_runs_by_get(path: str, query: str) -> None:
    """Fails: an image in a value, on the UI's own page, launches and deletes runs."""
    for method in ("GET", "HEAD", "OPTIONS"):
        assert _why(method=method, path=path, query=query, sec_fetch_site="same-origin")


def test_other_gets_are_answered() -> None:
    """The page with the GraphQL explorer too; it posts its queries."""
    assert _why(path="/graphql") is None
    assert _why(path="/graphql", query="x=query") is None
    assert _why(path="/runs", query="query=x") is None
    assert _why(method="POST", path="/graphql", query="query={x}") is None


def test_a_refusal_says_why_and_which_option_allows_it() -> None:
    assert "--allow-host dagster.lan\n" in str(_why(host="dagster.lan:3000"))
    assert "--allow-host NAME" in str(_why(origin=EVIL))
    assert "use POST" in str(_why(path="/graphql", query="query=x"))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        *(("dagster.example.com", True), ("Dagster_1", True), ("10.0.0.1", True), ("2001:db8::1", True)),
        *(("http://x", False), ("x:3000", False), ("[::1]", False), ("*", False), ("a,b", False), ("", False)),
    ],
)
def test_a_host_is_named_without_scheme_and_port(text: str, is_one: bool) -> None:
    assert guard.is_host(text) is is_one


def _answer(scope: Mapping[str, Any]) -> tuple[bool, list[MutableMapping[str, Any]]]:
    """Whether the application behind the guard was reached, and what was sent."""
    sent: list[MutableMapping[str, Any]] = []
    reached = False

    async def application(scope: object, receive: object, send: guard.Send) -> None:
        nonlocal reached
        reached = True
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nothing is read of a refused request")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Guard(application, Hosts())(dict(scope), receive, send))
    return reached, sent


def test_a_refused_request_gets_403_and_does_not_reach_the_application() -> None:
    reached, (start, body) = _answer(_scope(host="evil.example"))
    assert not reached
    assert (start["type"], start["status"]) == ("http.response.start", 403)
    assert (b"content-type", b"text/plain; charset=utf-8") in start["headers"]
    assert body["body"].startswith(b"The UI does not answer to the name evil.example.")


def test_a_refused_websocket_is_answered_in_the_same_way_or_closed_before_it_opens() -> None:
    scope = _scope("websocket", origin=EVIL)
    reached, (start, body) = _answer({**scope, "extensions": {"websocket.http.response": {}}})
    assert not reached
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert body["type"] == "websocket.http.response.body"
    without: list[dict[str, Any]] = [{}, {"extensions": None}, {"extensions": {}}]
    for extensions in without:
        assert _answer({**scope, **extensions}) == (False, [{"type": "websocket.close", "code": 1008}])


def test_the_servers_own_start_and_end_pass() -> None:
    assert _answer({"type": "lifespan"})[0]


def test_no_other_site_can_show_the_ui_in_a_frame() -> None:
    """Where the browser marks no requests (plain HTTP under a name), a button could be clicked in a hidden frame."""
    reached, (start,) = _answer(_scope())
    assert reached
    assert start["headers"] == [(b"x-own", b"1"), (b"x-frame-options", b"SAMEORIGIN")]
