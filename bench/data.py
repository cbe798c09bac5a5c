"""Clean sample exports, kept for the next time, and the same with one customer in a thousand changed.

Clean, because the peers have no quarantine: on rows that break the contract they would fail or compute something else.
"""

import os
import shutil
import time
import zlib
from pathlib import Path

from etl_assets.samples import customer360 as sample_data

SEED = 42
CHANGED_ONE_IN = 1000
# The export in which customers change, and the whole number that does.
_CHANGED_SOURCE = "product"
_CHANGED_COLUMN = "features_used"
# Exports and their changed copy; the pipeline's home three times, and a result. Measured, with room to spare.
_DATA_BYTES_A_ROW = 700
_WORK_BYTES_A_ROW = 1_500
_FIXED_BYTES = 500_000_000
# The pipeline does not trust the time stamps of files as young as its own look at them, and would read them again.
_SETTLED_S = 2.0


def needed_bytes(row_counts: list[int]) -> int:
    """Disk space for measuring these row counts one after another, while the exports of all stay."""
    return sum(row_counts) * _DATA_BYTES_A_ROW + max(row_counts) * _WORK_BYTES_A_ROW + _FIXED_BYTES


def exports(folder: Path, rows: int) -> Path:
    """The folder of the sample exports, made if this version of the sample is not there yet."""
    version = zlib.crc32(Path(sample_data.__file__).read_bytes())
    kept = folder / f"{rows}-{SEED}-{version:08x}"
    # The files are swapped in one after another; whether all are there is told by a name of its own.
    if not kept.exists():
        aside = _aside(kept)
        sample_data.generate(aside, rows=rows, seed=SEED)
        _settle(aside, kept)
    return kept


def changed_exports(given: Path) -> Path:
    """A copy of the exports in which one product row in a thousand has another number in one column."""
    kept = given.with_name(f"{given.name}-changed")
    if not kept.exists():
        aside = _aside(kept)
        for path in given.iterdir():
            if path.stem == _CHANGED_SOURCE:
                _change(path, aside / path.name)
            else:
                # Deliberately no link: it would touch the time stamps of the original.
                shutil.copyfile(path, aside / path.name)
        _settle(aside, kept)
    return kept


def _aside(kept: Path) -> Path:
    aside = kept.with_name(f"{kept.name}.incomplete")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    return aside


def _settle(aside: Path, kept: Path) -> None:
    time.sleep(_SETTLED_S)
    os.replace(aside, kept)


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
