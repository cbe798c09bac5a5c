"""The code of the documentation, run as a reader runs it: in order, in one process, on a sample."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl_assets.project.copying import copy_shipped
from etl_assets.samples.writing import generate
from etl_assets_tests.command_line import environment

CHECKOUT = Path(__file__).parent.parent
PAGE = CHECKOUT / "docs/how-to/embed.md"
NOTEBOOKS = sorted((CHECKOUT / "docs/notebooks").glob("*.ipynb"))
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def executed(parts: list[str], folder: Path) -> str:
    """Run pieces of code one after another in one namespace, in a new process; returns what it prints."""
    script = folder / "script.py"
    script.write_text("\n\n".join(parts), encoding="utf-8")
    env = environment(PYTHONPATH=os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    env.pop("ETL_PROJECT")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=env,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_examples_for_python_run_in_their_order(tmp_path: Path) -> None:
    """Fails: someone pastes the page into a program, and it ends in an error."""
    copy_shipped(tmp_path / "my360")
    generate(tmp_path / "exports", rows=2_000)
    blocks = _PYTHON.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 6
    proof = "dg.Definitions.validate_loadable(defs)\nprint(sum(count for _, count in levels), stale)"
    shown = executed([*blocks, proof], tmp_path)
    assert re.fullmatch(r"2000 profiles in \d+ ms\n2000 \[\]\n", shown)


def cells(notebook: Path) -> Iterator[dict[str, Any]]:
    document = json.loads(notebook.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["metadata"]["kernelspec"]["language"]) == (4, "python")
    yield from document["cells"]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook: Path, tmp_path: Path) -> None:
    code = ["".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "code"]
    (tmp_path / "tmp").mkdir()
    beside = f"import tempfile\ntempfile.tempdir = {str(tmp_path / 'tmp')!r}"
    proof = """
import json
print(json.dumps([report.publication.record_count, len(rejected) > 0, again.is_unchanged, facts.next_step]))
print(json.dumps({part.shard_id: part.status.value for part in repaired.shards}))
print(repaired.publication.digest == report.publication.digest)
"""
    first, second, third = executed([beside, *code, proof], tmp_path).splitlines()
    assert json.loads(first) == [2000, True, True, "run"]
    assert json.loads(second) == {
        "shard_00": "reused",
        "shard_01": "reused",
        "shard_02": "succeeded",
        "shard_03": "reused",
    }
    assert third == "True"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    """Fails: an output says what is no longer so, or names a folder of someone's machine."""
    for cell in cells(notebook):
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_there_is_a_notebook() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["profiles"]
