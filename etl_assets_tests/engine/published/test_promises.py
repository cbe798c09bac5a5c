"""What is declared of a profile column, as SQL: the values that break it, null only where it is required."""

import duckdb
import pytest

from etl_assets.engine.published.promises import broken_types, promise_rules
from etl_assets.project.contract import ColumnType, Contract, ProfileColumn
from etl_assets_tests.factory import PROJECT


def column(**declared: object) -> ProfileColumn:
    return ProfileColumn.model_validate({"name": "odd", **declared})


def contract(*profile: ProfileColumn) -> Contract:
    """The tests' contract with these promises and no others."""
    return PROJECT.contract.model_copy(update={"profile": profile})


@pytest.mark.parametrize(
    ("declared", "sound", "broken"),
    [
        ({"type": "int", "min": 0, "max": 100}, ["0", "100", "50", "NULL"], ["-1", "101"]),
        ({"type": "float", "min": 0.5}, ["0.5", "1e9", "NULL"], ["0.49", "-1"]),
        ({"type": "int", "max": -1}, ["-1", "NULL"], ["0"]),
        ({"values": ["LOW", "it's", ""]}, ["'LOW'", "'it''s'", "''", "NULL"], ["'low'", "'HIGH'", "' LOW'"]),
        ({"required": True}, ["''", "'x'"], ["NULL"]),
        ({"type": "int", "min": 0, "required": True}, ["0"], ["-1", "NULL"]),
    ],
)
def test_values_that_break_a_promise_are_counted_and_no_others(
    declared: dict[str, object], sound: list[str], broken: list[str]
) -> None:
    """Fails: a score out of its range is published, or a sound one keeps a shard from being published."""
    rule = promise_rules(contract(column(**declared)))["odd"]
    rows = ", ".join(f"({value})" for value in [*sound, *broken])
    with duckdb.connect() as connection:
        kind = column(**declared).type.duckdb
        counted = connection.execute(
            f"SELECT count(*) FILTER ({rule}) FROM (VALUES {rows}) v(odd_) , LATERAL (SELECT odd_::{kind} AS odd)"
        ).fetchall()
    assert counted == [(len(broken),)]


def test_a_column_without_a_promise_has_no_rule() -> None:
    assert promise_rules(contract(column(type=ColumnType.INT, meaning="Any number", pii=True))) == {}


@pytest.mark.parametrize(
    ("promised", "computed", "advice"),
    [
        ({"type": "int"}, "sum(1)", None),
        ({"type": "int"}, "count(*)", None),
        ({"type": "int"}, "1::UTINYINT", None),
        ({"type": "int"}, "avg(1)", "declare type: float"),
        ({"type": "int"}, "sum(1.50)", 'declare type: "decimal(38,2)"'),
        ({"type": "float"}, "1::FLOAT", None),
        ({"type": "float"}, "1", "write CAST(… AS DOUBLE), or declare type: int"),
        ({"type": "decimal(12,2)"}, "sum(1.50)", None),
        ({"type": "decimal(12,2)"}, "sum(1.5)", "write CAST(… AS DECIMAL(12,2)), or"),
        ({"type": "decimal(12,2)"}, "1.5::DOUBLE", "promises decimal(12,2)"),
        ({"type": "bool"}, "1 > 2", None),
        ({"type": "date"}, "DATE '2026-01-01'", None),
        ({"type": "date"}, "TIMESTAMP '2026-01-01 00:00:00'", "declare type: timestamp"),
        ({"type": "timestamp"}, "now()", None),
        ({"type": "timestamp"}, "'2026-01-01'", "declare type: text"),
        ({}, "'x'", None),
        ({}, "'x'::ENUM('x', 'y')", None),
        ({}, "1", "declare type: int"),
        ({"required": True}, "[1]", None),
        ({"required": True}, "{'a': 1}", None),
    ],
)
def test_another_type_than_is_promised_is_found(promised: dict[str, object], computed: str, advice: str | None) -> None:
    """Fails: a mean is published where whole numbers are promised; or a sum of whole numbers is refused."""
    with duckdb.connect() as connection:
        types = {
            str(name): str(kind) for name, kind, *_ in connection.execute(f"DESCRIBE SELECT {computed} odd").fetchall()
        }
    found = broken_types(contract(column(**promised)), types)
    assert (advice is None) == (found == {})
    assert advice is None or advice in found["odd"]
