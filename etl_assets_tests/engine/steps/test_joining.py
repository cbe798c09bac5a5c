"""The project's query: equal rows in both forms, plain SQL of any kind, and a clear error for what cannot be right."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from etl_assets.engine.published.shards import PROFILES, Manifest
from etl_assets.engine.site import Site
from etl_assets.engine.steps import joining
from etl_assets.errors import AccountingError, Action, Advice, ConfigError, EtlError, ProfileError
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets.project.version import plain_sql
from etl_assets_tests import factory
from etl_assets_tests.engine.three_shards import IN_0, leftovers

BASE_COLUMNS = ["customer_id", "sources", "issues", "shard_id", "idempotency_key"]
# The tests' contract, without promises of what the query computes.
PLAIN = factory.PROJECT.contract.model_copy(update={"profile": ()})
EDIT_PROFILES = Advice(Action.EDIT, value="sql/profiles.sql")


def project(
    profiles_sql: str = "SELECT base.* FROM customers",
    macros: Mapping[str, str] | None = None,
    contract: Contract = PLAIN,
) -> Project:
    """A project on the tests' sources."""
    return Project(contract, profiles_sql, macros or {})


def build(built: Site, of: Project, shard_id: str = "shard_00") -> tuple[Site, Manifest]:
    """Build a shard of another project from the same snapshots."""
    site = replace(built, project=of)
    return site, factory.build_shard(site, factory.input_of(site, shard_id))


def columns_of(site: Site, shard_id: str = "shard_00") -> list[str]:
    return [row[0] for row in factory.query(site.home.shard_file(shard_id), f"DESCRIBE {PROFILES}")]


FLAT = {
    "the tests' own project": factory.PROJECT.profiles_sql,
    "all of base": "SELECT base.*, crm.email, support.nps_score FROM customers",
    "a comment and a semicolon": "-- one\nSELECT base.*, /* * */ billing.mrr AS x FROM customers ; ",
    "quotes and capitals": 'SELECT base.*, "crm"."email" AS "Mail", CRM.Industry AS industry FROM "customers"',
    "a window": "SELECT base.*, rank() OVER (ORDER BY base.customer_id) AS place FROM customers",
    "distinct": "SELECT DISTINCT base.*, coalesce(crm.email, billing.email) AS email FROM customers",
    "a text with names in it": "SELECT base.*, 'crm * email FROM customers' AS note FROM customers",
    "a renamed column": "SELECT base.*, product.usage_pct AS crm FROM customers",
}


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("shard_id", ["shard_00", "shard_01"])
def test_both_forms_give_equal_rows(built: Site, monkeypatch: pytest.MonkeyPatch, name: str, shard_id: str) -> None:
    """Fails: a column added to a query changes the values of the others."""
    contract = factory.PROJECT.contract if name == "the tests' own project" else PLAIN
    declared = project(FLAT[name], factory.PROJECT.macros, contract)
    forms = []
    for is_flat in (True, False):
        assert joining.is_flat(plain_sql(declared.profiles_sql).rstrip("; "), contract)
        with monkeypatch.context() as patch:
            if not is_flat:
                patch.setattr(joining, "is_flat", lambda *_: False)
            site, manifest = build(built, declared, shard_id)
            assert ("LATERAL" in joining.profiles_sql(site, [factory.input_of(site, shard_id)])) == is_flat
        rows = factory.query(site.home.shard_file(shard_id), f"SELECT * FROM {PROFILES} ORDER BY customer_id")
        forms.append((manifest.content_hash, columns_of(site, shard_id), rows))
    assert forms[0] == forms[1]
    assert forms[0][2]


# Each of these would give other columns or values, or none, on the joined slices themselves.
NEEDS_STRUCTS = {
    "the columns of a source": (
        "SELECT base.*, crm.* EXCLUDE (email) FROM customers",
        [
            "company_name",
            "industry",
            "employee_count",
            "deal_stage",
            "deal_value",
            "sales_owner",
            "last_contact",
        ],
    ),
    "a source as a record": ("SELECT base.*, crm AS record FROM customers", ["record"]),
    "every column": ("SELECT base.*, * FROM customers", ["base", "crm", "billing", "product", "support"]),
    "every column, distinct": (
        "SELECT DISTINCT ON (base.customer_id) base.*, COLUMNS(*) FROM customers",
        ["base", "crm", "billing", "product", "support"],
    ),
    "columns by pattern": ("SELECT base.*, COLUMNS('^b') FROM customers", ["base", "billing"]),
    "an alias that is named like a column": (
        "SELECT base.*, upper(crm.email) AS email, left(email, 3) AS short FROM customers",
        ["email", "short"],
    ),
    "an alias that is named like one of base": (
        "SELECT base.* EXCLUDE (sources), base.sources[1:9] AS sources, len(sources) AS n FROM customers",
        ["n"],
    ),
    "a CTE": ("WITH mails AS (SELECT base, crm.email FROM customers) SELECT base.*, email FROM mails", ["email"]),
    "a filter that keeps all": ("SELECT base.* FROM customers WHERE base.customer_id IS NOT NULL", []),
    "an alias of the entity": ("SELECT base.*, c.crm.email FROM customers AS c", ["email"]),
    "a source as a relation": (
        "SELECT base.*, (SELECT count(*) FROM support) AS answers FROM customers",
        ["answers"],
    ),
    "a join with a source": (
        "SELECT base.*, s.nps_score FROM customers LEFT JOIN support s ON s.customer_id = base.customer_id",
        ["nps_score"],
    ),
    "a subquery without SELECT": ("SELECT base.*, EXISTS (FROM support) AS x FROM customers", ["x"]),
    "FROM first": ("FROM customers SELECT base.*, crm.email", ["email"]),
    "both halves of a union": (
        "SELECT base.* FROM customers WHERE base.customer_id < 'd' "
        "UNION ALL SELECT base.* FROM customers WHERE base.customer_id >= 'd'",
        [],
    ),
}


@pytest.mark.parametrize("name", NEEDS_STRUCTS)
def test_plain_sql_of_any_kind_is_a_query(built: Site, name: str) -> None:
    """Fails: a query that runs in any DuckDB gives the engine's own columns, or an error about names of the engine."""
    text, columns = NEEDS_STRUCTS[name]
    assert not joining.is_flat(text, PLAIN)
    site, manifest = build(built, project(text))
    found = columns_of(site)
    assert sorted(found) == sorted([*BASE_COLUMNS, *columns])
    assert manifest.record_count == len(IN_0)


def test_a_source_without_a_record_is_a_struct_of_nulls(built: Site) -> None:
    text = "SELECT base.*, crm AS record, support.nps_score AS score FROM customers"
    site, _ = build(built, project(text), "shard_01")
    rows = factory.query(site.home.shard_file("shard_01"), f"SELECT record, score FROM {PROFILES} ORDER BY score")
    names = [column.name for column in PLAIN.source("crm").columns]
    assert rows == [(dict.fromkeys(names), 2), (dict.fromkeys(names), None)]


def _assert_refused(built: Site, of: Project, error: type[EtlError], words: str) -> EtlError:
    """Building fails with these words; the shards that were published stay byte for byte."""
    before = {path.name: path.read_bytes() for path in built.home.shards.iterdir()}
    with pytest.raises(error, match=words) as caught:
        build(built, of)
    assert {path.name: path.read_bytes() for path in built.home.shards.iterdir()} == before
    assert leftovers(built) == []
    return caught.value


@pytest.mark.parametrize("name", [name for name in BASE_COLUMNS if name != "issues"])
def test_a_query_without_a_column_of_base_is_refused(built: Site, name: str) -> None:
    """Fails: shards are published that no merge will ever take."""
    without = project(f"SELECT base.* EXCLUDE ({name}) FROM customers")
    error = _assert_refused(built, without, ProfileError, rf"sql/profiles.sql does not select base\.{name}\.")
    assert error.advice == (EDIT_PROFILES,)


def test_all_that_a_query_lacks_is_named_at_once(built: Site) -> None:
    lacking = project("SELECT base.customer_id, 5 AS health_score FROM customers", contract=factory.PROJECT.contract)
    words = r"base\.sources, base\.shard_id, base\.idempotency_key, email, churn_risk, expansion_potential\."
    _assert_refused(built, lacking, ProfileError, words)


@pytest.mark.parametrize(
    "select",
    [
        "base.* REPLACE (lower(base.customer_id) || 'x' AS customer_id)",
        "base.* REPLACE ('shard_07' AS shard_id)",
        "base.* REPLACE (nullif('a', 'a') AS shard_id)",
        "base.* REPLACE ('key of ' || base.customer_id AS idempotency_key)",
    ],
)
def test_a_query_that_changes_a_column_of_base_is_refused(built: Site, select: str) -> None:
    """Fails: keys that no other machine computes, or a shard that every later step takes for a damaged one."""
    error = _assert_refused(built, project(f"SELECT {select} FROM customers"), ProfileError, "3 profiles whose")
    assert error.advice == (EDIT_PROFILES,)
    assert error.subject == "shard_00"


def test_a_query_that_gives_a_column_of_base_another_type_is_refused(built: Site) -> None:
    one_text = "SELECT base.* REPLACE (base.sources[1] AS sources) FROM customers"
    _assert_refused(built, project(one_text), ProfileError, r"does not select base\.sources\.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"SELECT base.* FROM customers WHERE base.customer_id <> '{IN_0[0]}'", "2 profiles for 2 values"),
        (f"SELECT base.* FROM customers, range(1 + (base.customer_id = '{IN_0[0]}')::INT)", "4 profiles for 3 values"),
        ("SELECT base.* REPLACE (base.sources[:1] AS sources) FROM customers", r"joined by source \[3, 0, 0, 0\]"),
        ("SELECT base.* REPLACE (nullif(1, 1)::VARCHAR AS customer_id) FROM customers", "3 profiles for 0 values"),
    ],
    ids=["dropped", "doubled", "other sources", "without key"],
)
def test_a_query_that_drops_or_doubles_a_customer_is_refused(built: Site, text: str, words: str) -> None:
    """Guarantee 1: each customer of the accepted input once, whatever the project's SQL says."""
    error = _assert_refused(built, project(text), AccountingError, words)
    assert error.advice[0] == EDIT_PROFILES
    assert error.subject == "shard_00"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT base.*, crm.emial FROM customers", "emial"),
        ("SELECT base.*, crm.customer_id FROM customers", "customer_id"),
        ("SELECT base.*, crm._source FROM customers", "_source"),
        ("SELECT base.*, company_name FROM customers", "company_name"),
        ("SELECT base.*, no_macro(crm.email) AS x FROM customers", "no_macro"),
        ("SELECT base.* FROM clients", "clients"),
        ("SELECT base.* FROM customers; DROP TABLE x", 'syntax error at or near ";"'),
        ("SELECT base.*, FROM customers WHERE", "syntax error"),
        ("", "syntax error"),
        ("SELECT base.*, (SELECT content FROM read_text('/etc/hostname')) AS x FROM customers", "Permission Error"),
    ],
)
def test_a_query_that_duckdb_refuses_names_the_file(built: Site, text: str, words: str) -> None:
    """Fails: who mistyped a column reads of an engine's error in some shard, or of a damaged disk."""
    error = _assert_refused(built, project(text), ProfileError, r"DuckDB refuses sql/profiles\.sql \(")
    assert words in str(error)
    assert "\n" not in str(error)
    assert error.advice == (EDIT_PROFILES,)


def test_a_profile_that_breaks_what_is_declared_of_it_is_refused(built: Site) -> None:
    document = factory.PROJECT.contract.model_dump(mode="json")
    document["profile"] = [
        {"name": "score", "type": "int", "min": 0, "max": 5, "required": True},
        {"name": "level", "values": ["LOW", "HIGH"]},
    ]
    contract = Contract.model_validate(document)
    text = "SELECT base.*, support.nps_score AS score, nullif(crm.industry, 'Software') AS level FROM customers"
    # One null and two times 9: all three are broken promises of the score, none of the level, which may be null.
    _assert_refused(
        built,
        project(text, contract=contract),
        ProfileError,
        r"promises: score in 3 of them \(promised: 0 to 5, not null\)\. Nothing",
    )
    kept = text.replace("support.nps_score", "least(5, coalesce(support.nps_score, 0))")
    _, manifest = build(built, project(kept, contract=contract))
    assert manifest.record_count == 3


# Macros.


USES_ALL = "SELECT base.*, a_first(crm.employee_count) AS x FROM customers"
CHAIN = {
    "a_first": "CREATE MACRO a_first(n) AS m_second(n) + 1",
    "m_second": "-- Needs the last.\nCREATE MACRO m_second(n) AS z_third(n) * 2",
    "z_third": "CREATE MACRO z_third(n) AS coalesce(n, 0);",
}


@pytest.mark.parametrize("order", [["a_first", "m_second", "z_third"], ["z_third", "a_first", "m_second"]])
def test_macros_may_need_each_other_in_any_order(built: Site, order: list[str]) -> None:
    """Fails: whether a project works depends on how its files are named."""
    site, _ = build(built, project(USES_ALL, {name: CHAIN[name] for name in order}))
    assert factory.query(site.home.shard_file("shard_00"), f"SELECT DISTINCT x FROM {PROFILES}") == [(25,)]


@pytest.mark.parametrize(
    ("macros", "words"),
    [
        ({"again": "CREATE MACRO again(n) AS again(n - 1)"}, r"sql/macros/again\.sql \(Catalog Error: .*again"),
        (
            {"left_one": "CREATE MACRO left_one(n) AS other(n)", "other": "CREATE MACRO other(n) AS left_one(n)"},
            r"sql/macros/left_one\.sql \(.*; sql/macros/other\.sql \(",
        ),
        ({"typo": "CREATE MACRO typo(n) AS CASE WHEN"}, r"sql/macros/typo\.sql \(Parser Error: syntax error"),
        ({"text": "a note to myself"}, r"sql/macros/text\.sql \(Parser Error"),
        ({"strip": "CREATE MACRO strip(n) AS n"}, r"sql/macros/strip\.sql \(.*already exists"),
        ({"stable_hash": "CREATE MACRO stable_hash(n) AS n"}, r"sql/macros/stable_hash\.sql \(.*already exists"),
    ],
    ids=["recursive", "mutual", "syntax", "no statement", "the engine's own", "the key's hash"],
)
def test_a_macro_that_duckdb_refuses_names_its_file(built: Site, macros: dict[str, str], words: str) -> None:
    """Fails: the person who wrote it reads of an engine's error and not of a file."""
    error = _assert_refused(built, project(macros={**CHAIN, **macros}), ConfigError, f"DuckDB refuses {words}")
    name = next(iter(macros))
    assert error.advice == (Advice(Action.EDIT, value=f"sql/macros/{name}.sql"),)
    assert error.subject == name


def test_of_macros_that_need_a_wrong_one_the_wrong_one_comes_first(built: Site) -> None:
    wrong = {**CHAIN, "z_third": "CREATE MACRO z_third(n) AS coalesce(n"}
    error = _assert_refused(built, project(macros=wrong), ConfigError, r"DuckDB refuses sql/macros/z_third\.sql \(")
    assert error.advice == (Advice(Action.EDIT, value="sql/macros/z_third.sql"),)
    assert "sql/macros/a_first.sql (" in str(error)
