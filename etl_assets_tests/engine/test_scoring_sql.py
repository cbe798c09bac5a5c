"""The scores of the tests' own project at every boundary of their rules: plain SQL of a project, as shards run it."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace

import duckdb
import pytest

from etl_assets.engine import duck
from etl_assets.engine.steps.joining import add_project_macros
from etl_assets_tests.factory import PROJECT


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that knows the project's macros."""
    with contextlib.closing(duckdb.connect()) as opened:
        add_project_macros(opened, PROJECT)
        yield opened


def _health(
    connection: duckdb.DuckDBPyConnection,
    usage: int | None = None,
    payment: str | None = None,
    nps: int | None = None,
    tickets: int | None = None,
) -> object:
    return duck.scalar(
        connection,
        "SELECT health_score(?::BIGINT, ?::VARCHAR, ?::BIGINT, ?::BIGINT)",
        [usage, payment, nps, tickets],
    )


def _churn(
    connection: duckdb.DuckDBPyConnection,
    usage: int | None = None,
    payment: str | None = None,
    nps: int | None = None,
    tickets: int | None = None,
) -> object:
    return duck.scalar(
        connection,
        "SELECT churn_risk(?::BIGINT, ?::VARCHAR, ?::BIGINT, ?::BIGINT)",
        [usage, payment, nps, tickets],
    )


def _expansion(
    connection: duckdb.DuckDBPyConnection,
    usage: int | None = None,
    plan: str | None = None,
    nps: int | None = None,
    stage: str | None = None,
) -> object:
    return duck.scalar(
        connection,
        "SELECT expansion_potential(?::BIGINT, ?::VARCHAR, ?::BIGINT, ?::VARCHAR)",
        [usage, plan, nps, stage],
    )


# Health. Everything missing is 50 and 5 for no open tickets.


def test_a_customer_of_whom_nothing_is_known_is_neutral(connection: duckdb.DuckDBPyConnection) -> None:
    assert _health(connection) == 55
    assert _churn(connection) == "LOW"
    assert _expansion(connection) == "LOW"


@pytest.mark.parametrize(
    ("usage", "score"),
    [(0, 45), (29, 45), (30, 55), (49, 55), (50, 55), (59, 55), (60, 65), (79, 65), (80, 75), (100, 75), (None, 55)],
)
def test_health_follows_usage(connection: duckdb.DuckDBPyConnection, usage: int | None, score: int) -> None:
    assert _health(connection, usage=usage) == score


@pytest.mark.parametrize(
    ("payment", "score"),
    [
        *(("active", 70), ("Active", 70), (" ACTIVE\t", 70), ("past_due", 40), ("Past Due", 40), ("past-due", 40)),
        *(("PAST_DUE", 40), ("failed", 40), ("FAILED", 40), ("trialing", 55), ("canceled", 55), ("inactive", 55)),
        *(("pastdue", 55), ("past  due", 55), ("", 55), (None, 55)),
    ],
)
def test_health_follows_payment_however_it_is_spelled(
    connection: duckdb.DuckDBPyConnection, payment: str | None, score: int
) -> None:
    """Billing systems write Past Due, past-due and PAST_DUE; a spelling must not hide a customer in trouble."""
    assert _health(connection, payment=payment) == score


@pytest.mark.parametrize(("nps", "score"), [(0, 45), (5, 45), (6, 55), (7, 60), (8, 60), (9, 65), (10, 65), (None, 55)])
def test_health_follows_satisfaction(connection: duckdb.DuckDBPyConnection, nps: int | None, score: int) -> None:
    assert _health(connection, nps=nps) == score


@pytest.mark.parametrize(("tickets", "score"), [(0, 55), (1, 50), (3, 50), (4, 45), (500, 45), (None, 55)])
def test_health_follows_open_tickets(connection: duckdb.DuckDBPyConnection, tickets: int | None, score: int) -> None:
    assert _health(connection, tickets=tickets) == score


def test_health_adds_up_to_a_hundred_at_best_and_ten_at_worst(connection: duckdb.DuckDBPyConnection) -> None:
    assert _health(connection, 80, "active", 9, 0) == 100
    assert _health(connection, 29, "failed", 5, 4) == 10


def test_health_stays_in_its_declared_range_whatever_the_weights() -> None:
    """Fails: a user who raises one weight gets shards that fail their validation."""
    (declared,) = (column for column in PROJECT.contract.profile if column.name == "health_score")
    macros = dict(PROJECT.macros)
    # Every weight at once, so that this test depends on none of them.
    macros["health_score"], count = re.subn(r"THEN (-?)[0-9]+", r"THEN \g<1>90", macros["health_score"])
    assert count > 4
    with contextlib.closing(duckdb.connect()) as connection:
        add_project_macros(connection, replace(PROJECT, macros=macros))
        assert _health(connection, 80, "active", 9, 0) == declared.max
        assert _health(connection, 29, "failed", 5, 4) == declared.min


# Churn. Points: usage, payment, satisfaction, tickets.


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        # 0, 1
        ((50, "active", 7, 3), "LOW"),
        ((49, None, None, None), "LOW"),
        ((30, None, None, None), "LOW"),
        ((None, None, None, 4), "LOW"),
        # 2
        ((30, None, None, 4), "MEDIUM"),
        ((49, None, None, 4), "MEDIUM"),
        ((50, None, None, 4), "LOW"),
        ((49, None, None, 3), "LOW"),
        ((None, None, 6, None), "MEDIUM"),
        ((None, None, 7, None), "LOW"),
        ((None, None, 0, None), "MEDIUM"),
        # 3
        ((29, None, None, None), "MEDIUM"),
        ((0, None, None, None), "MEDIUM"),
        ((None, "Past Due", None, None), "MEDIUM"),
        ((None, "past-due", None, None), "MEDIUM"),
        ((None, "FAILED", None, None), "MEDIUM"),
        ((None, "canceled", None, None), "LOW"),
        # 4
        ((29, None, None, 4), "MEDIUM"),
        ((None, "failed", None, 4), "MEDIUM"),
        ((49, "failed", 7, None), "MEDIUM"),
        ((49, None, 6, 4), "MEDIUM"),
        # 5 and more
        ((29, None, 6, None), "HIGH"),
        ((None, "PAST_DUE", 6, None), "HIGH"),
        ((49, "failed", None, 4), "HIGH"),
        ((29, "failed", None, None), "HIGH"),
        ((30, "failed", 7, 4), "HIGH"),
        ((29, "failed", 6, 4), "HIGH"),
    ],
)
def test_churn_risk_follows_its_points(
    connection: duckdb.DuckDBPyConnection, arguments: tuple[int | None, str | None, int | None, int | None], level: str
) -> None:
    assert _churn(connection, *arguments) == level


# Expansion. Points: usage, plan, satisfaction, deal stage.


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        # 0, 1
        ((59, "enterprise", 8, "closed_won"), "LOW"),
        ((60, None, None, None), "LOW"),
        ((79, None, None, None), "LOW"),
        ((None, "Business", None, None), "LOW"),
        ((None, "PROFESSIONAL", None, None), "LOW"),
        ((None, None, None, "Enterprise"), "LOW"),
        # 2
        ((None, "starter", None, None), "MEDIUM"),
        ((None, " Free ", None, None), "MEDIUM"),
        ((None, "BASIC", None, None), "MEDIUM"),
        ((None, None, 9, None), "MEDIUM"),
        ((None, None, 10, None), "MEDIUM"),
        ((None, None, 8, None), "LOW"),
        ((60, "business", None, None), "MEDIUM"),
        ((59, "business", None, None), "LOW"),
        ((60, None, None, "enterprise"), "MEDIUM"),
        ((None, "professional", None, "ENTERPRISE "), "MEDIUM"),
        # 3
        ((80, None, None, None), "MEDIUM"),
        ((100, None, None, None), "MEDIUM"),
        # 4
        ((79, "free", None, "enterprise"), "MEDIUM"),
        ((80, "business", None, None), "MEDIUM"),
        ((None, "starter", 9, None), "MEDIUM"),
        # 5 and more
        ((80, "starter", None, None), "HIGH"),
        ((80, None, 9, None), "HIGH"),
        ((79, None, 9, None), "MEDIUM"),
        ((79, "basic", 9, None), "HIGH"),
        ((None, "basic", 9, "enterprise"), "HIGH"),
        ((80, "business", 8, "enterprise"), "HIGH"),
        ((80, "free", 10, "enterprise"), "HIGH"),
    ],
)
def test_expansion_potential_follows_its_points(
    connection: duckdb.DuckDBPyConnection, arguments: tuple[int | None, str | None, int | None, str | None], level: str
) -> None:
    assert _expansion(connection, *arguments) == level


@pytest.mark.parametrize(
    ("word", "normal"),
    [
        *(
            ("Past Due", "past_due"),
            ("past-due", "past_due"),
            ("PAST_DUE", "past_due"),
            ("\t past due \r\n", "past_due"),
        ),
        *((" - ", "_"), ("ÉCHEC Été", "échec_été"), ("", ""), ("   ", ""), (None, "")),
    ],
)
def test_words_are_compared_trimmed_in_lower_case_with_underscores(
    connection: duckdb.DuckDBPyConnection, word: str | None, normal: str
) -> None:
    assert duck.scalar(connection, "SELECT normalise_word(?::VARCHAR)", [word]) == normal
