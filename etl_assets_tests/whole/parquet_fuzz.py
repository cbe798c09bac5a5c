"""Mutated Parquet exports, staged one after another in a process that they may end.

    python -m etl_assets_tests.whole.parquet_fuzz FOLDER SEED FIRST COUNT

Prints a JSON line before each case, `{"case": number}`, and one after it, with `end`: `published`, the kind of an
EtlError, or the name of an error that should not be. The case of a number and a seed is always the same.
"""

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from etl_assets.engine.files.layout import Home
from etl_assets.engine.steps.stage import stage
from etl_assets.errors import EtlError
from etl_assets_tests import factory
from etl_assets_tests.factory import PROJECT

PRODUCT = PROJECT.contract.source("product")
SOUND, MUTATED = "product/a_sound.parquet", "product/b_mutated.parquet"
_FOOTER_END = 8

# What writers do differently, with rows for the quarantine and columns that the contract does not know.
_OPTIONS = (
    "COMPRESSION snappy",
    "COMPRESSION zstd, ROW_GROUP_SIZE 2048",
    "COMPRESSION uncompressed, PARQUET_VERSION v2",
    "COMPRESSION gzip, DICTIONARY_SIZE_LIMIT 1",
)


def base(folder: Path) -> list[bytes]:
    """A valid export in every form; the sound neighbour lies in `folder`."""
    typed = {
        "email": "'e' || i % 7 || '@x.example'",
        "signup_date": "DATE '2026-01-01' + (i % 30)::INTEGER",
        "total_sessions": "i::INTEGER",
        "features_used": "(i % 5)::DOUBLE",
        "usage_pct": "CASE WHEN i % 50 = 3 THEN '999' ELSE (i % 100)::VARCHAR END",
    }
    columns = ", ".join(f"{typed.get(column.name, 'NULL::VARCHAR')} AS {column.name}" for column in PRODUCT.columns)
    query = f"SELECT 'c' || i // 2 AS customer_id, {columns}, [i, NULL] AS note, {{'a': i}} AS more "
    query += "FROM range(1000) t(i)"
    (folder / SOUND).parent.mkdir(parents=True)
    made = []
    with duckdb.connect() as connection:
        for options in _OPTIONS:
            connection.execute(f"COPY ({query}) TO '{folder / SOUND}' (FORMAT parquet, {options})")
            made.append((folder / SOUND).read_bytes())
    return made


def mutated(base_files: list[bytes], rng: random.Random) -> bytes:
    """One of the files with one or two changes."""
    content = rng.choice(base_files)
    for _ in range(rng.choice([1, 1, 2])):
        content = rng.choice(_CHANGES)(content, rng)
    return content


def _footer_start(content: bytes) -> int:
    length = int.from_bytes(content[-_FOOTER_END:-4], "little")
    return max(0, len(content) - _FOOTER_END - length)


def _truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flip(content: bytes, rng: random.Random, first: int, last: int) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if first < last <= len(changed):
            changed[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_in_footer(content: bytes, rng: random.Random) -> bytes:
    return _flip(content, rng, _footer_start(content), len(content) - _FOOTER_END)


def _flip_in_pages(content: bytes, rng: random.Random) -> bytes:
    return _flip(content, rng, 4, _footer_start(content))


def _swap_magic(content: bytes, rng: random.Random) -> bytes:
    magic = rng.choice([b"PARE", b"PAR2", b"\0\0\0\0"])
    return magic + content[4:] if rng.random() < 0.5 else content[:-4] + magic


def _change_length(content: bytes, rng: random.Random) -> bytes:
    length = rng.choice([0, 1, len(content), len(content) * 2, 2**31, 2**32 - 1, rng.randrange(max(1, len(content)))])
    return content[:-_FOOTER_END] + length.to_bytes(4, "little") + content[-4:]


def _blank_out(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    stop = min(len(content), start + rng.randint(1, 200))
    return content[:start] + bytes([rng.choice([0, 255])]) * (stop - start) + content[stop:]


def _move(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    piece = content[start : start + rng.randint(1, 100)]
    target = rng.randrange(len(content) + 1)
    return content[:target] + piece + content[target + len(piece) * rng.randrange(2) :]


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip_in_footer,) * 4,
    *(_flip_in_pages,) * 3,
    *(_truncate, _swap_magic, _change_length, _blank_out, _move),
)


def play(folder: Path, base_files: list[bytes], seed: int, number: int) -> dict[str, Any]:
    """Stage one case; returns how it ended."""
    sources, home = folder / "sources", folder / "home"
    (sources / MUTATED).write_bytes(mutated(base_files, random.Random(f"{seed}-{number}")))
    try:
        snapshot, _ = stage(PRODUCT, factory.staging_request(sources, factory.site_at(Home(home), 2)))
    except EtlError as error:
        return {"end": error.kind, "text": error.finding}
    except BaseException as error:  # noqa: BLE001  whatever it is, it should not be
        return {"end": f"{type(error).__module__}.{type(error).__name__}", "text": str(error)[:500]}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    is_closed = snapshot.rows_in == snapshot.rows_accepted + snapshot.rows_quarantined
    return {"end": "published" if is_closed else "open books", "text": ""}


def main(folder: str, seed: str, first: str, count: str) -> None:
    """Play the cases."""
    base_files = base(Path(folder) / "sources")
    for number in range(int(first), int(first) + int(count)):
        print(json.dumps({"case": number}), flush=True)
        print(json.dumps({"case": number, **play(Path(folder), base_files, int(seed), number)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
