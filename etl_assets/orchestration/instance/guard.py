"""Refuses the requests that pages of other sites make to the UI; pure ASGI, without Dagster.

The UI has no log-in. Listening on the loopback address keeps other machines out, but not the pages in the browser of
the person who uses it: any page may send a form to 127.0.0.1, load an image from there or open a WebSocket, and a name
that its owner points at 127.0.0.1 (DNS rebinding) makes the UI part of that page's own site. So a request is answered
only if its Host is the UI's own and no browser says that a page of another site has sent it. A GET runs no GraphQL:
the UI itself only posts, while a link or an image can only GET.

Deliberately without X-Forwarded-Host and Forwarded: anyone can send them. A proxy passes the Host on.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import parse_qsl

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Names and addresses besides loopback to which the UI answers, separated by commas. `etl-assets ui` sets it for the
# webserver, which other processes start.
HOSTS_VARIABLE = "ETL_ASSETS_UI_HOSTS"
# In that list: whatever the address, for a UI that listens on all of them. Rebinding needs a name, so an address in the
# Host is the one that the browser's user, or a link, has named.
ANY_ADDRESS = "*"

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_OWN_SITES = {"same-origin", "none"}
_GRAPHQL = "/graphql"
_FORBIDDEN, _POLICY_VIOLATION = 403, 1008
_OTHER_SITE = (
    "A page of another site sent this request, and the UI obeys its own pages only. Behind a proxy: pass the Host "
    "header on as it is, and allow its name with: etl-assets ui --allow-host NAME\n"
)
_QUERY_BY_GET = "The UI runs no GraphQL that comes by GET, where a link or an image could send it: use POST.\n"
# No other site may show the UI in a frame and have its buttons clicked there. Browsers mark such requests only where
# the UI's address is one that they trust (loopback, HTTPS).
_UNFRAMED = (b"x-frame-options", b"SAMEORIGIN")


@dataclass(frozen=True)
class Hosts:
    """The names and addresses besides loopback to which the UI answers."""

    names: frozenset[str] = frozenset()
    any_address: bool = False

    @classmethod
    def parse(cls, environment: Mapping[str, str]) -> "Hosts":
        """Those of the environment; none when it has none."""
        named = {name.strip().lower() for name in environment.get(HOSTS_VARIABLE, "").split(",")} - {""}
        names = {str(_address(name) or name) for name in named - {ANY_ADDRESS}}
        return cls(frozenset(names), ANY_ADDRESS in named)

    def include(self, name: str) -> bool:
        """Whether the UI answers to this name or address, which has no port and no brackets."""
        address = _address(name)
        if address is None:
            return name == "localhost" or name in self.names
        return address.is_loopback or self.any_address or str(address) in self.names


class Guard:
    """Passes the UI's own requests on, and answers others with 403 and a sentence that says why."""

    def __init__(self, app: App, hosts: Hosts) -> None:
        """`hosts` are those that are allowed besides loopback."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or WebSocket (ASGI 3)."""
        if scope["type"] not in ("http", "websocket"):  # the server's start and end
            await self._app(scope, receive, send)
            return
        reason = why_refused(scope, self._hosts)
        if reason is not None:
            await _refuse(scope, send, reason)
            return

        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), _UNFRAMED]}
            await send(message)

        await self._app(scope, receive, send_unframed)


def why_refused(scope: Scope, hosts: Hosts) -> str | None:
    """Why this HTTP request or WebSocket is refused, as a sentence for a person; None when it is not."""
    host = _only(_values(scope, b"host"))
    parsed = _HOST.fullmatch(host)
    if parsed is None:
        return "The request names no host that the UI could compare with its own.\n"
    name = parsed["name"].strip("[]")
    if not hosts.include(name):
        return f"The UI does not answer to the name {name}. If it is its own: etl-assets ui --allow-host {name}\n"
    if not all(_is_same_site(origin, host) for origin in _values(scope, b"origin")) or _is_marked_foreign(scope):
        return _OTHER_SITE
    return _QUERY_BY_GET if _is_query_by_get(scope) else None


def is_host(text: str) -> bool:
    """Whether this is a name or an address without scheme, port and brackets."""
    return _address(text) is not None or (":" not in text and _HOST.fullmatch(text.lower()) is not None)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches this name or address."""
    return Hosts().include(host.lower())


def is_unspecified(host: str) -> bool:
    """Whether this stands for all addresses of the machine."""
    address = _address(host)
    return address is not None and address.is_unspecified


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_same_site(origin: str, host: str) -> bool:
    """Whether a page of this origin (`scheme://host:port`, or `null`) is one of this Host's."""
    scheme, _, place = origin.partition("://")
    if scheme not in _DEFAULT_PORTS or not place:
        return False
    port = _DEFAULT_PORTS[scheme]
    return place.removesuffix(port) == host.removesuffix(port)


def _is_marked_foreign(scope: Scope) -> bool:
    """Whether the browser says that another site's page caused this, other than by a link that the user follows."""
    if set(_values(scope, b"sec-fetch-site")) <= _OWN_SITES:
        return False
    is_link = (
        scope.get("method") in ("GET", "HEAD")
        and _values(scope, b"sec-fetch-mode") == ["navigate"]
        and _values(scope, b"sec-fetch-dest") == ["document"]
    )
    return not is_link


def _is_query_by_get(scope: Scope) -> bool:
    # The router takes "/graphql\n" for "/graphql", and a prefix may stand before it.
    if scope.get("method", "POST") == "POST" or not scope["path"].rstrip("/ \r\n").endswith(_GRAPHQL):
        return False
    parameters = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return any(name == "query" for name, _ in parameters)


def _values(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header, in lower case."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return [value.decode("latin-1").strip().lower() for key, value in headers if key.lower() == name]


def _only(values: list[str]) -> str:
    """The value; empty when there is none or more than one."""
    return values[0] if len(values) == 1 else ""


async def _refuse(scope: Scope, send: Send, reason: str) -> None:
    is_websocket = scope["type"] == "websocket"
    if is_websocket and "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})  # the server answers 403
        return
    kind = "websocket.http.response" if is_websocket else "http.response"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    await send({"type": f"{kind}.start", "status": _FORBIDDEN, "headers": headers})
    await send({"type": f"{kind}.body", "body": reason.encode()})
