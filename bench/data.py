"""Clean sample exports, kept for the next benchmark, and a copy in which one customer in a thousand is changed.

The exports are clean because the peers have no quarantine: on rows that break the contract they would fail or compute
something else.
"""

import os
import shutil
import tempfile
import time
import zlib
from pathlib import Path

from etl_assets.samples.writing import generate

SEED = 42
CHANGED_ONE_IN = 1000
# The export in which customers change, and the column of whole numbers that changes.
_CHANGED_SOURCE = "product"
_CHANGED_COLUMN = "features_used"
# Exports and their changed copy; the pipeline's home three times, and a result. Measured, with a margin.
_DATA_BYTES_PER_ROW = 700
_WORK_BYTES_PER_ROW = 1_500
_FIXED_BYTES = 500_000_000
# The pipeline does not trust the time stamp of a file that is younger than this, and reads such a file again.
_SETTLED_S = 2.0
# Enough rows to show a change of any column.
_FINGERPRINT_ROWS = 1000


def needed_bytes(row_counts: list[int]) -> int:
    """Disk space for measuring these row counts one after another, while the exports of all of them stay."""
    return sum(row_counts) * _DATA_BYTES_PER_ROW + max(row_counts) * _WORK_BYTES_PER_ROW + _FIXED_BYTES


def exports(folder: Path, rows: int) -> Path:
    """The folder of the sample exports, written unless `folder` already holds them in the sample's present version."""
    kept = folder / f"{rows}-{SEED}-{_fingerprint():08x}"
    # The files are swapped in one after another, so only the name of the folder says that it is complete.
    if not kept.exists():
        incomplete = _incomplete(kept)
        generate(incomplete, rows=rows, seed=SEED)
        _complete(incomplete, kept)
    return kept


def changed_exports(original: Path) -> Path:
    """A copy of the exports in which one product row in a thousand has another number in one column."""
    kept = original.with_name(f"{original.name}-changed")
    if not kept.exists():
        incomplete = _incomplete(kept)
        for path in original.iterdir():
            if path.stem == _CHANGED_SOURCE:
                _change(path, incomplete / path.name)
            else:
                # Deliberately no link: it would touch the time stamps of the original.
                shutil.copyfile(path, incomplete / path.name)
        _complete(incomplete, kept)
    return kept


def _fingerprint() -> int:
    """The version of the sample: a checksum of a small one, so that only a change of its bytes is another version."""
    checksum = 0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for path in generate(Path(folder), rows=_FINGERPRINT_ROWS, seed=SEED):
            checksum = zlib.crc32(path.read_bytes(), checksum)
    return checksum


def _incomplete(kept: Path) -> Path:
    incomplete = kept.with_name(f"{kept.name}.incomplete")
    shutil.rmtree(incomplete, ignore_errors=True)
    incomplete.mkdir(parents=True)
    return incomplete


def _complete(incomplete: Path, kept: Path) -> None:
    time.sleep(_SETTLED_S)
    os.replace(incomplete, kept)


def _change(path: Path, target: Path) -> None:
    with path.open(encoding="utf-8", newline="") as lines, target.open("w", encoding="utf-8", newline="") as changed:
        header = next(lines)
        changed.write(header)
        names = header.rstrip("\n").split(",")
        column = names.index(_CHANGED_COLUMN)
        for number, line in enumerate(lines):
            if number % CHANGED_ONE_IN == 0:
                cells = line.split(",")
                assert len(cells) == len(names), "no cell of this export holds a comma"
                cells[column] = str(int(cells[column] or 0) + 1)
                line = ",".join(cells)
            changed.write(line)
