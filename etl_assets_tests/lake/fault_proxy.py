"""A proxy before an S3 server that does what networks and stores do: fails, cuts, loses answers, drops headers.

It is a process of its own, which takes its orders over HTTP: deltalake keeps Python's lock while it waits for some
answers, so a thread of the process that waits could not give them.
"""

import http.client
import json
import re
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Effect(StrEnum):
    """What a rule does to a request."""

    UNAVAILABLE = "503"
    FORBIDDEN = "403"
    SKEWED = "403, the clock"
    CONFLICT = "409"
    CUT = "cut"  # before it is forwarded
    LOST_500 = "lost-500"  # it is done, and the answer says that it failed
    LOST_CUT = "lost-cut"  # it is done, and the connection ends without an answer
    STRIP_NONE_MATCH = "strip If-None-Match"
    STRIP_MATCH = "strip If-Match"


_STATUS = {Effect.UNAVAILABLE: 503, Effect.FORBIDDEN: 403, Effect.SKEWED: 403, Effect.CONFLICT: 409}
_CODE = {Effect.SKEWED: "RequestTimeTooSkewed"}
_STRIPPED = {Effect.STRIP_NONE_MATCH: "if-none-match", Effect.STRIP_MATCH: "if-match"}
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}
_ORDERS = "/__orders"


@dataclass
class Rule:
    """An effect on the next `count` requests of this method whose path matches; with `count` None, on all of them.

    `skip` of them pass first, and each falls under it with the probability `share`.
    """

    effect: Effect
    method: str = "PUT"
    path: str = ""
    count: int | None = 1
    skip: int = 0
    share: float = 1.0
    seen: int = 0

    def takes(self, method: str, path: str, chance: float) -> bool:
        """Whether a request falls under it; counts it."""
        if self.method not in (method, "*") or not re.search(self.path, path) or chance >= self.share:
            return False
        self.seen += 1
        return self.seen > self.skip and (self.count is None or self.seen <= self.skip + self.count)


class FaultProxy:
    """The proxy as tests see it."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def add(
        self,
        effect: Effect,
        method: str = "PUT",
        path: str = "",
        count: int | None = 1,
        skip: int = 0,
        share: float = 1.0,
    ) -> None:
        """Add a rule."""
        self._order({"rule": asdict(Rule(effect, method, path, count, skip, share))})

    def reset(self, latency_s: float = 0.0) -> None:
        """Forget rules and requests."""
        self._order({"reset": latency_s})

    def requests(self) -> list[tuple[str, str]]:
        """Method and path of what came since the last reset."""
        return [(method, path) for method, path in self._order({})["requests"]]

    def hits(self) -> list[int]:
        """How many requests each rule has seen, in the order in which they were added."""
        return [rule["seen"] for rule in self._order({})["rules"]]

    def _order(self, order: dict[str, object]) -> dict[str, list[dict[str, int]]]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request("POST", _ORDERS, json.dumps(order))
            answer: dict[str, list[dict[str, int]]] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()


@dataclass
class _State:
    upstream_port: int
    rules: list[Rule] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    latency_s: float = 0.0
    number: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def obey(self, order: dict[str, dict[str, str]]) -> bytes:
        with self.lock:
            if "rule" in order:
                values = order["rule"]
                self.rules.append(Rule(**{**values, "effect": Effect(values["effect"])}))  # type: ignore[arg-type]
            if "reset" in order:
                self.rules, self.requests, self.latency_s = [], [], float(str(order["reset"]))
            return json.dumps({"requests": self.requests, "rules": [asdict(rule) for rule in self.rules]}).encode()

    def effect_on(self, method: str, path: str) -> Effect | None:
        with self.lock:
            self.requests.append((method, path))
            self.number += 1
            # Spread evenly and the same in every run.
            chance = self.number * 0.618034 % 1
            return next((rule.effect for rule in self.rules if rule.takes(method, path, chance)), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: _State

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == _ORDERS:
            self._answer(200, [], self.state.obey(json.loads(body)))
            return
        effect = self.state.effect_on(self.command, self.path)
        if self.state.latency_s:
            time.sleep(self.state.latency_s)
        if effect is Effect.CUT:
            self.close_connection = True
        elif effect in _STATUS:
            code = _CODE.get(effect, "Fault")
            self._answer(_STATUS[effect], [], f"<Error><Code>{code}</Code></Error>".encode())
        else:
            status, headers, content = self._forward(body, _STRIPPED.get(effect) if effect else None)
            if effect is Effect.LOST_CUT:
                self.close_connection = True
            elif effect is Effect.LOST_500:
                self._answer(500, [], b"<Error><Code>InternalError</Code></Error>")
            else:
                self._answer(status, headers, content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def _forward(self, body: bytes, stripped: str | None) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.state.upstream_port, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != stripped}
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def main() -> None:
    """Serve at an address and a port for the S3 server on another port of this machine."""
    host, port, upstream_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _Handler.state = _State(upstream_port)
    server = ThreadingHTTPServer((host, port), _Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
