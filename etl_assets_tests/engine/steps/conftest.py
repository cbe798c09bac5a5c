"""Fixtures of the tests of steps."""

import time
from collections.abc import Callable

import pytest


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let an hour pass: files that were just written are then settled."""
    clock = {"offset_s": 0}
    real_ns, real_s = time.time_ns, time.time
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + clock["offset_s"] * 10**9)
    monkeypatch.setattr(time, "time", lambda: real_s() + clock["offset_s"])

    def pass_it() -> None:
        clock["offset_s"] += 3601

    return pass_it
