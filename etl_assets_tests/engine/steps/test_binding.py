"""What DuckDB refuses of a project's SQL, with file and line."""

from dataclasses import replace

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.steps.binding import Refusal, refusals
from etl_assets.engine.steps.macro_cycles import find_cycle
from etl_assets_tests.factory import PROJECT, site_at


def refused(home: Home, profiles: str | None = None, checks: dict[str, str] | None = None) -> list[Refusal]:
    """What is refused of the tests' project with this query or these checks."""
    project = replace(PROJECT, profiles_sql=profiles or PROJECT.profiles_sql, checks=checks or {})
    return refusals(site_at(home, project=project))


def test_a_sound_project_is_not_refused_and_no_file_is_made(home: Home) -> None:
    assert refused(home) == []
    assert not home.root.exists()


def test_an_unknown_relation_is_found_at_its_line(home: Home) -> None:
    """Fails: the line is that of the statement that the engine made of the file."""
    (found,) = refused(home, "-- a profile\nSELECT base.*\nFROM customer;\n")
    assert (found.file, found.line) == ("sql/profiles.sql", 3)
    assert found.text.startswith("Catalog Error: Table with name customer does not exist!")


def test_a_mistake_in_the_syntax_is_found_at_its_line(home: Home) -> None:
    (found,) = refused(home, "SELECT base.*\n\nFRM customers\nLIMIT")
    assert found.line in (3, 4, 5)


def test_fields_in_comments_and_texts_are_no_fields(home: Home) -> None:
    text = "SELECT base.*, 'crm.nosuch' AS a, /* crm.other */\n    crm.emial -- crm.third\nFROM customers"
    assert refused(home, text) == [
        Refusal("sql/profiles.sql", 2, "crm has no column emial; did you mean crm.email?"),
    ]


def test_every_column_that_is_missing_is_named(home: Home) -> None:
    texts = [one.text for one in refused(home, "SELECT base.customer_id, base.sources FROM customers")]
    assert "it does not select base.shard_id" in texts
    assert "it does not select health_score" in texts


def test_a_column_of_another_type_than_is_promised_is_named(home: Home) -> None:
    """Fails: whoever reads the warehouse gets 0.5 where whole numbers are promised, and finds out in production."""
    (found,) = refused(home, PROJECT.profiles_sql.replace("health_score(", "0.5 + health_score("))
    assert found.text.startswith("health_score is D")
    assert "the contract promises int: write CAST(… AS BIGINT), or declare type: " in found.text


def test_a_check_is_bound_to_the_warehouses_tables_and_the_sources(home: Home) -> None:
    """Fails: a check with a misspelt column is found only after everything was built, or a sound one is refused."""
    checks = {
        "good": "-- sound\nSELECT * FROM merged_profiles JOIN shard_manifest USING (shard_id)",
        "sources": "SELECT support.customer_id FROM support ANTI JOIN crm USING (customer_id);",
        "bad": "SELECT count(*) = 0 AS passed\nFROM merged_profiles\nWHERE health_scor > 3",
    }
    (found,) = refused(home, checks=checks)
    assert (found.file, found.line) == ("sql/checks/bad.sql", 3)
    assert '"health_score"' in found.text


def test_a_check_is_refused_here_that_a_merge_would_refuse(home: Home) -> None:
    """Fails: the mistake is found only after everything was built."""
    checks = {
        "two": "SELECT 1 FROM crm; SELECT 2 FROM crm",
        "macro": "SELECT 1 FROM crm WHERE normalise_word(customer_id) = 'a'",
        "change": "DELETE FROM merged_profiles",
        "engine": "SELECT strip(customer_id) FROM crm",
    }
    assert "normalise_word" in PROJECT.macros
    assert {one.file for one in refused(home, checks=checks)} == {f"sql/checks/{name}.sql" for name in checks}


def test_a_check_that_has_the_name_of_another_is_found(home: Home) -> None:
    (found,) = refused(home, checks={"customers_unique": "SELECT 1 FROM crm"})
    assert found.file == "sql/checks/customers_unique.sql"
    assert found.text.startswith("Two checks are called customers_unique")


@pytest.mark.parametrize(
    ("macros", "cycle"),
    [
        ({"a": "CREATE MACRO a(x) AS a(x)"}, ["a"]),
        ({"a": 'CREATE OR REPLACE MACRO "A"(x) AS B (x)', "z": "create macro b(x) as (SELECT a(x))"}, ["a", "z"]),
        ({"a": "CREATE MACRO a(x) AS b(x)", "b": "CREATE MACRO b(x) AS nosuch(x)"}, []),
        ({"a": "CREATE MACRO a(x) AS 'a(x)' -- a(x)"}, []),
        (
            {"a": "CREATE MACRO a(x) AS b(x)", "b": "CREATE MACRO b(x) AS c(x)", "c": "CREATE MACRO c(x) AS b(x)"},
            ["b", "c"],
        ),
    ],
)
def test_macros_that_call_themselves_are_found(macros: dict[str, str], cycle: list[str]) -> None:
    assert find_cycle(macros) == cycle
