"""Which tests measure processes, as the benchmark does on Linux only."""

from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="reads /proc, which only Linux has")
