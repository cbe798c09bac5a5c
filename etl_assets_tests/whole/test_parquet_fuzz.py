"""Mutated Parquet exports: each is published or refused by its name, and none ends the process or stops it for ever.

`make drill-all` plays 2,000 of them (HARNESS_ALL), with HARNESS_SEED the same ones again.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from etl_assets_tests.whole import parquet_fuzz
from etl_assets_tests.whole.children import IS_FULL_SIZE

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("HARNESS_SEED") or (random.SystemRandom().randrange(10**6) if IS_FULL_SIZE else 1))
COUNT = 2_000 if IS_FULL_SIZE else 40
# Many times what all cases take.
TIMEOUT_S = 3_600 if IS_FULL_SIZE else 120


def _played(folder: Path, count: int) -> tuple[dict[int, dict[str, Any]], str]:
    """How each case ended, by its number; and the reason why the process ended early, if it did."""
    command = [sys.executable, "-m", parquet_fuzz.__name__, str(folder), str(SEED), "0", str(count)]
    with (folder / "output").open("w+") as output:
        try:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False)
            early = f"exit code {code.returncode}" if code.returncode else ""
        except subprocess.TimeoutExpired:
            early = "a hang"
        output.seek(0)
        lines = [json.loads(line) for line in output if line.startswith('{"case"')]
    return {line["case"]: line for line in lines}, early


def test_a_mutated_parquet_file_is_published_or_refused_by_its_name(tmp_path: Path) -> None:
    """Fails: one damaged export is a traceback, costs the process, or is blamed on its neighbour."""
    cases, early = _played(tmp_path, COUNT)
    print(f"HARNESS_SEED={SEED}: {Counter(case.get('end') for case in cases.values())}")
    unended = [number for number, case in cases.items() if "end" not in case]
    assert (early, unended, len(cases)) == ("", [], COUNT)
    wrong = {
        number: case
        for number, case in cases.items()
        if case["end"] != "published"
        and not (
            case["end"] in ("input", "accounting")
            and parquet_fuzz.MUTATED in case["text"]
            and (parquet_fuzz.SOUND not in case["text"] or case["end"] == "accounting")
            and case["text"].isprintable()
        )
    }
    assert wrong == {}
    # Otherwise the changes are too weak or too strong to find anything.
    assert {"published", "input"} <= {case["end"] for case in cases.values()}


def test_the_same_seed_makes_the_same_files() -> None:
    """Fails: what a night found cannot be looked at in the morning."""
    base = [bytes(range(256)) * 4]

    def made(seed: int) -> list[bytes]:
        return [parquet_fuzz.mutated(base, random.Random(f"{seed}-{number}")) for number in range(20)]

    assert made(5) == made(5)
    assert made(5) != made(6)
