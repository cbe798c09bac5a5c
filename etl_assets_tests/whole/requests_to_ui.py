"""Requests to a running UI, as browsers send them: for tests of what it answers.

The GraphQL of what a person may do and what a page of another site would like to do.
"""

import http.client
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from etl_assets_tests.whole.served import PAGE_S, Server

_SELECTOR = 'repositoryName: "__repository__", repositoryLocationName: "etl_assets"'
START_SCHEDULE = (
    f'mutation {{ startSchedule(scheduleSelector: {{{_SELECTOR}, scheduleName: "daily_refresh"}}) {{ __typename }} }}'
)
START_SENSOR = (
    f'mutation {{ startSensor(sensorSelector: {{{_SELECTOR}, sensorName: "refresh_when_exports_change"}}) '
    "{ __typename } }"
)
LAUNCH_RUN = (
    f'mutation {{ launchRun(executionParams: {{selector: {{{_SELECTOR}, jobName: "refresh_sources"}}}}) '
    "{ __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
)
_STATES = (
    f'query {{ scheduleOrError(scheduleSelector: {{{_SELECTOR}, scheduleName: "daily_refresh"}}) '
    "{ ... on Schedule { scheduleState { status } } } "
    f'sensorOrError(sensorSelector: {{{_SELECTOR}, sensorName: "refresh_when_exports_change"}}) '
    "{ ... on Sensor { sensorState { status } } } "
    # Of the job that LAUNCH_RUN launches: a sensor may launch another one meanwhile.
    'runsOrError(filter: {pipelineName: "refresh_sources"}) { ... on Runs { count } } }'
)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    text: str


@dataclass(frozen=True)
class Effects:
    """What a page of another site could have changed."""

    schedule: str
    sensor: str
    run_count: int


def effects(server: Server) -> Effects:
    """Asked as the UI's own pages ask."""
    data = server.ask(_STATES)
    return Effects(
        data["scheduleOrError"]["scheduleState"]["status"],
        data["sensorOrError"]["sensorState"]["status"],
        data["runsOrError"]["count"],
    )


def by_url(query: str) -> str:
    """The address under which a GET, or a form without a body, would run this GraphQL."""
    return f"/graphql?query={urllib.parse.quote(query)}"


def request(server: Server, method: str, path: str, headers: Mapping[str, str], body: str | None = None) -> Answer:
    """One request; `Host` among the headers replaces the server's own."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=PAGE_S)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        # An upgraded connection stays open.
        return Answer(answer.status, "" if answer.status == 101 else answer.read().decode())
    finally:
        connection.close()


def open_websocket(server: Server, headers: Mapping[str, str]) -> Answer:
    """The handshake of the UI's WebSocket: status 101 when it is opened."""
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "graphql-ws",
    }
    return request(server, "GET", "/graphql", {**handshake, **headers})
