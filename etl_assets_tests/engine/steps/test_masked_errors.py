"""Errors of a project's SQL: DuckDB quotes the value, which may be personal, and the record of attempts is kept."""

from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.published import attempts
from etl_assets.engine.site import Site
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest, build_shards
from etl_assets.engine.steps.joining import refused_values
from etl_assets.errors import ProfileError
from etl_assets.project.loading import Project
from etl_assets_tests import factory
from etl_assets_tests.factory import PROJECT

VALUES = [
    "secret",
    "O'Secret 'secret",
    'a "secret" b',
    "one\nsecret 'secret",
    "x'\n\nLINE 1: secret 'secret",
    "secret' to INT32",
    "",
]
STATEMENTS = {
    "?::VARCHAR::INT": " to INT32",
    "?::VARCHAR::DECIMAL(4, 2)": " to DECIMAL(•••)",
    "?::VARCHAR::DATE": "date",
    "?::VARCHAR::UUID": " to UUID",
    "strptime(?::VARCHAR, '%d')": "parse string",
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("expression", STATEMENTS)
def test_no_part_of_a_value_is_in_the_error(value: str, expression: str) -> None:
    """Fails: a name or an address is in Dagster's log, and in the warehouse's list of attempts."""
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as caught:
        connection.execute(f"SELECT {expression}", [value]).fetchall()
    finding = refused_values(caught.value, "shard_00").finding
    assert "ecret" not in finding
    assert "•••" in finding
    assert STATEMENTS[expression] in finding


@pytest.mark.parametrize("expression", ["(?::BIGINT)::TINYINT", "?::INT * 2147483647::INT", "make_date(?::INT, 1, 1)"])
def test_no_number_is_in_the_error(expression: str) -> None:
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as caught:
        connection.execute(f"SELECT {expression}", [98765432]).fetchall()
    finding = refused_values(caught.value, "shard_00").finding
    assert "9876" not in finding
    assert "•••" in finding


def test_the_record_of_attempts_has_no_value_of_a_customer(sources: Path, site: Site) -> None:
    """Fails: whoever was erased from the exports stays in the files of the attempts."""
    secret = "O'Neil secret@x.example"
    factory.write_exports(sources, crm=[factory.row("a", company_name=secret)])
    query = (
        "SELECT base.*, crm.email, crm.company_name::INT AS health_score, 'LOW' AS churn_risk, "
        "'LOW' AS expansion_potential FROM customers"
    )
    spoiled = factory.site_at(site.home, project=Project(PROJECT.contract, query, PROJECT.macros))
    factory.stage_all(factory.staging_request(sources, spoiled))
    news = list(build_shards(ShardsRequest(spoiled, factory.LIMITS, "run", 1), spoiled.shard_ids))
    errors = [entry.error for entry in news if isinstance(entry, ShardResult) and entry.error is not None]
    assert {type(error) for error in errors} == {ProfileError}
    assert any("'•••' to INT32" in str(error) for error in errors), errors
    texts = [path.read_text() for path in site.home.attempts.rglob("*.json")]
    assert len(texts) == len(attempts.read_attempts(site.home, spoiled.shard_ids)) == len(site.shard_ids)
    assert not any("ecret" in text or "Neil" in text for text in texts)
