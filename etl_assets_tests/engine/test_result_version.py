"""The golden result: small exports whose whole result is pinned together with `RESULT_VERSION`.

A published shard is reused as long as the versions it was made by are the current ones. A change of
what the engine makes of the same project and the same exports has to raise `RESULT_VERSION`, or old and new rows stand
side by side. Project and exports are written here, and nothing else may change the result.
"""

import json
from pathlib import Path

import xxhash

from etl_assets.engine import site as engine_site
from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets_tests import factory

# What was pinned, and for which version of the engine.
VERSION = 4
RESULT = "ede804d63d805323af640e30ee697c36"

CONTRACT = {
    "name": "golden",
    "entity": "things",
    "key": {"name": "thing_id", "max_chars": 12},
    "sources": {
        "first": {
            "on_invalid": "reject_row",
            "columns": {
                "word": {},
                "count": {"type": "int", "min": -5, "max": 1000},
                "share": {"type": "float", "max": 1e6},
                "day": {"type": "date"},
            },
        },
        "second": {"columns": {"word": {}, "count": {"type": "int"}}},
        "third": {"columns": ["note"]},
        "fourth": {
            "key": "Owner",
            "csv": {"delimiter": ";", "decimal": ",", "thousands": ".", "encoding": "cp1252", "dates": ["%d.%m.%Y"]},
            "rows": "many",
            "row_key": "number",
            "columns": {
                "number": {"type": "int"},
                "amount": {"type": "decimal(8,2)"},
                "paid": {"type": "bool"},
                "at": {"type": "timestamp", "from": "Paid at"},
            },
        },
    },
    "profile": {"size": {"values": ["S", "L"], "required": True}, "total": {"type": "int", "min": -100}},
}
PROFILES = """
SELECT
    base.thing_id,
    coalesce(first.word, second.word) AS word,
    first.count AS count_of_first,
    first.share,
    first.day,
    third.note,
    total_of(first.count, second.count) AS total,
    CASE WHEN total_of(first.count, second.count) > 9 THEN 'L' ELSE 'S' END AS size,
    base.sources,
    base.issues,
    base.shard_id,
    base.idempotency_key
FROM things
"""
MACROS = {"total_of": "CREATE MACRO total_of(a, b) AS coalesce(a, 0) + coalesce(b, 0)"}
FIRST = (
    b"\xef\xbb\xbfword,Thing_ID,count,share,day,surplus\r\n"
    b"plain,a1,7,0.1,2024-02-29,x\r\n"
    b'"quoted, ""word""",a2, +8 ,1e5,2024-02-29T00:00:00Z,x\r\n'
    b'"two\r\nlines",  a3\t,007,-0.0,0001-01-01,x\r\n'
    b"\xc3\xa9\xe5\xae\xa2,a4,12.0,.5,9999-12-31,\r\n"
    b"   ,a5,,,,\r\n"
    b"NULL,a6,-5,5e-324,2020-01-01 00:00:00,x\r\n"
    b"old,a7,1,1,2020-01-01,x\r\n"
    b"new,a7,2,2,2020-01-02,x\r\n"
    b"bad,a7,3,3,2020-02-30,x\r\n"
    b"no id,,1,1,2020-01-01,x\r\n"
    b"long id,1234567890123,1,1,2020-01-01,x\r\n"
    b"below,b1,-6,1,2020-01-01,x\r\n"
    b"above,b2,1001,1,2020-01-01,x\r\n"
    b"fraction,b3,1.5,1,2020-01-01,x\r\n"
    b"infinite,b4,1,1e400,2020-01-01,x\r\n"
    b"noon,b5,1,1,2020-01-01 12:00,x\r\n"
    b"few,b6\r\n"
    b"many,b7,1,1,2020-01-01,x,y\r\n"
    b'open,"b8,1,1,2020-01-01,x\r\n'
    b"latin,\xe9,1,1,2020-01-01,x\r\n"
    b"\r\n"
    b"last,a8,9,0.30000000000000004,2020-01-01,x"
)
SECOND = b"thing_id,word,count\na1,other,3\nc1,only second,10\nc2,,9223372036854775807\nc3,,9223372036854775808\n"
THIRD_A = b"thing_id,note\na1,of file a\nd1,only third\n"
THIRD_B = b"note,thing_id\nof file b,a1\n"
FOURTH = (
    "Owner;Number;Amount;Paid;Paid at\na1;1;1.234,5;ja;2024-02-29T23:30:00-05:00\na1;2;12;no;29.02.2024\n"
    "a1;2;13;yes;\na2;2;14;;2024-01-01\né;3;0,123;yes;\na1;;1;yes;\n"
)


def result_of(folder: Path) -> str:
    """Everything the engine makes of these exports, as one hash; DuckDB's own hashes are no part of it."""
    exports = folder / "exports"
    (exports / "third").mkdir(parents=True)
    (exports / "first.csv").write_bytes(FIRST)
    (exports / "second.csv").write_bytes(SECOND)
    (exports / "fourth.csv").write_bytes(FOURTH.encode("cp1252"))
    (exports / "third" / "a.csv").write_bytes(THIRD_A)
    (exports / "third" / "b.csv").write_bytes(THIRD_B)
    site = Site(Project(Contract.model_validate(CONTRACT), PROFILES, MACROS), Home(folder / "home"), 3)
    merged = factory.run_engine(exports, site)
    tables = {
        "profiles": "SELECT * FROM merged_profiles ORDER BY thing_id",
        "quarantine": "SELECT * FROM quarantine ORDER BY source, file, line_number, reason",
        "sources": (
            "SELECT source, files, rows_in, rows_accepted, rows_quarantined, cells_quarantined, extra_columns "
            "FROM source_snapshots"
        ),
    }
    document = {name: factory.query(site.home.warehouse, statement) for name, statement in tables.items()}
    assert len(document["profiles"]) == merged.publication.record_count == 14
    assert len({row[-2] for row in document["quarantine"]}) == 11, "every kind of reason"
    assert len([row for row in document["quarantine"] if row[-1] is not None]) == 3, "cells"
    return xxhash.xxh3_128_hexdigest(json.dumps(document, default=str, ensure_ascii=False).encode())


def finding(version: int, result: str) -> str | None:
    """What is to be done after a change of the engine; None when its result is as pinned."""
    if result != RESULT and version == VERSION:
        return (
            f"The engine makes another result of the same project and exports ({result}). If you mean it, raise "
            "RESULT_VERSION in etl_assets/engine/site.py, so that shards of the old result count as stale, and pin "
            "the new VERSION and RESULT in this test. If you do not, the change is a defect."
        )
    if (version, result) != (VERSION, RESULT):
        return f"RESULT_VERSION is {version}: pin VERSION = {version} and RESULT = {result!r} in this test."
    return None


def test_the_result_changes_only_with_its_version(tmp_path: Path) -> None:
    """Fails: after an update, rows of the old and of the new engine stand side by side in one warehouse."""
    problem = finding(engine_site.RESULT_VERSION, result_of(tmp_path))
    assert problem is None, problem


def test_another_result_asks_for_another_version() -> None:
    assert "raise RESULT_VERSION in etl_assets/engine/site.py" in (finding(VERSION, "another") or "")
    assert f"pin VERSION = {VERSION + 1} and RESULT = 'another'" in (finding(VERSION + 1, "another") or "")
    assert f"pin VERSION = {VERSION + 1}" in (finding(VERSION + 1, RESULT) or "")
    assert finding(VERSION, RESULT) is None
