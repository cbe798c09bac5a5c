"""Which tests need a browser; without playwright in this module, so that tests without a browser can import it."""

import os

import pytest

# Skipped for people who have none. `.ci/run` fails instead: there, a skipped test would look like a passed one.
needs_browser = pytest.mark.skipif(
    not os.environ.get("TEST_BROWSER"),
    reason="TEST_BROWSER names no Chromium: TEST_BROWSER=/usr/bin/chromium make test",
)
