"""Where the time of a run goes: the functions that are measured are named as text, so a rename would lose them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.ways import CHECKOUT
from etl_assets.samples.writing import generate
from etl_assets_tests.bench.linux import needs_proc
from etl_assets_tests.command_line import environment


@pytest.mark.slow
@needs_proc
def test_every_measured_function_is_called_in_a_run(tmp_path: Path) -> None:
    """One that is wrapped where no one calls it shows no time, and its work is looked for elsewhere."""
    generate(tmp_path / "sources", rows=200)
    done = subprocess.run(
        [sys.executable, "-m", "bench.phases", str(tmp_path / "sources"), "2"],
        cwd=CHECKOUT,
        env=environment(TMPDIR=str(tmp_path), PYTHONPATH=os.pathsep.join([str(CHECKOUT), *sys.path])),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    phases, inside = done.stdout.partition("\nphase ")[2].split("\n\ninside ")
    calls = {line[:44].strip(): int(line.split()[-1]) for line in inside.partition("\n\n")[0].splitlines()[1:]}
    assert [label for label, count in calls.items() if count == 0] == []
    assert len(calls) > 20
    assert (calls["shard: all"], calls["merge: all"]) == (2, 1)
    assert re.search(r"\nprocess start to end +[0-9.]+$", phases)
    assert done.stdout.endswith("exit code 0\n")
