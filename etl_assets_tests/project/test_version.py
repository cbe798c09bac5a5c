"""Versions: what decides a result changes them, so that its shards become stale on their own; prose changes nothing."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine import site as site_module
from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.project.loading import load_project
from etl_assets.project.version import plain_sql, source_version, version_of
from etl_assets_tests.factory import PROJECT, PROJECT_FOLDER
from etl_assets_tests.project.conftest import write_project

Change = Callable[[str], str]
PROFILES = PROJECT.profiles_sql


def _versions(site: Site) -> tuple[str, dict[str, str]]:
    return site.profile_version, {source.name: site.staging_version(source) for source in site.contract.sources}


@pytest.fixture
def changed(tmp_path: Path, home: Home) -> Callable[..., Site]:
    """The tests' project with its contract text, or one of its statements, changed."""

    def load(contract: Change = lambda text: text, **statements: Change) -> Site:
        texts = {
            str(path.relative_to(PROJECT_FOLDER / "sql").with_suffix("")).replace("/", "__"): path.read_text()
            for path in (PROJECT_FOLDER / "sql").rglob("*.sql")
        }
        for name, change in statements.items():
            before = texts.get(name)
            texts[name] = change(before or "")
            assert texts[name] != before, f"the change of {name} changed nothing"
        folder = write_project(tmp_path, contract((PROJECT_FOLDER / "etl_assets.yaml").read_text()), **texts)
        return Site(load_project(folder), home, 3)

    return load


@pytest.fixture
def before(changed: Callable[..., Site]) -> tuple[str, dict[str, str]]:
    return _versions(changed())


def _sub(pattern: str, text: str) -> Change:
    def change(contract: str) -> str:
        found, count = re.subn(pattern, text, contract, count=1)
        assert count == 1, f"{pattern} is not in the contract"
        return found

    return change


@pytest.mark.parametrize(
    "change",
    [
        _sub(r"\A", "# Another comment.\n\n"),
        _sub(r"\n\nsources:", "\n\n\n  # A remark.\nsources:   # the systems"),
        _sub(r"name: customer360", "name: another_name"),
        _sub(r"title: CRM", "title: Salesforce"),
        _sub(r"meaning: Subscription plan", "meaning: The plan that was booked"),
        _sub(r", pii: true", ""),
        _sub(r"entity: customers\nkey: (.*)\n", r"key: \1\nentity: customers\n"),
        _sub(r"\{type: int, min: 0, max: 100,", "{max: 100, min: 0, type: int,"),
        _sub(r"    title: CRM\n", "    title: CRM\n    ignore: crm/readme*.txt\n"),
    ],
    ids=[
        *("comment", "blank lines", "name", "title", "meaning", "personal", "order of words", "order of bounds"),
        "files that are left out",
    ],
)
def test_prose_of_the_contract_changes_no_version(
    changed: Callable[..., Site], before: tuple[str, dict[str, str]], change: Change
) -> None:
    """Fails: a corrected comment rebuilds every shard and reads every export again."""
    assert _versions(changed(change)) == before


@pytest.mark.parametrize(
    ("change", "sources"),
    [
        (
            _sub(r"usage_pct:(\s+)\{type: int, min: 0, max: 100", r"usage_pct:\1{type: int, min: 0, max: 9"),
            {"product"},
        ),
        (_sub(r"csat_score:(\s+)\{type: float, min: 1", r"csat_score:\1{type: float, min: 1.5"), {"support"}),
        (_sub(r'mrr:(\s+)\{type: "decimal\(18,2\)"', r"mrr:\1{type: float"), {"billing"}),
        (_sub(r"      plan: ", "      fresh: {}\n      plan: "), {"billing"}),
        (_sub(r"      industry: .*\n", ""), {"crm"}),
        (_sub(r"      (industry: .*\n)(.*\n)", r"\2      \1"), {"crm"}),
        (_sub(r"max_chars: 128", "max_chars: 127"), {"crm", "billing", "product", "support"}),
        (_sub(r"entity: customers", "entity: clients"), set()),
        (
            _sub(r"health_score:(\s+)\{type: int, min: 0, max: 100", r"health_score:\1{type: int, min: 0, max: 9"),
            set(),
        ),
        (_sub(r"churn_risk:(\s+)\{values: \[LOW, ", r"churn_risk:\1{values: [LOWEST, LOW, "), set()),
        (_sub(r"\[LOW, MEDIUM, HIGH\], required: true", "[LOW, MEDIUM, HIGH], required: false"), set()),
    ],
    ids=[
        *("max", "min", "type", "new column", "column left out", "order of columns", "longest key", "entity"),
        *("promised range", "promised values", "required"),
    ],
)
def test_what_decides_a_row_changes_the_version_of_the_profiles_and_of_the_sources_it_touches(
    changed: Callable[..., Site], before: tuple[str, dict[str, str]], change: Change, sources: set[str]
) -> None:
    """Fails: half of the shards have the old rule, or sources are read again that no change touches."""
    profiles, staging = _versions(changed(change))
    assert profiles != before[0]
    assert {name for name, version in staging.items() if version != before[1][name]} == sources


def test_a_source_that_is_added_leaves_the_others_staged(
    changed: Callable[..., Site], before: tuple[str, dict[str, str]]
) -> None:
    profiles, staging = _versions(changed(_sub(r"  billing:\n", "  surveys: {columns: [answer]}\n  billing:\n")))
    assert profiles != before[0]
    assert {name: staging[name] for name in before[1]} == before[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: f"-- Another comment.\n{text}",
        lambda text: f"/* Another\n comment */ {text}",
        lambda text: text.replace("\n", "\n\n    "),
        lambda text: text.replace("\n", " -- a remark's quote\n"),
        lambda text: f"\ufeff{text}".lstrip("\ufeff") + "\n\n",
    ],
    ids=["line comment", "block comment", "white space", "comments at line ends", "blank lines"],
)
@pytest.mark.parametrize("name", ["profiles", "macros__health_score"])
def test_comments_and_white_space_of_sql_change_no_version(
    changed: Callable[..., Site], before: tuple[str, dict[str, str]], name: str, change: Change
) -> None:
    assert _versions(changed(**{name: change})) == before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("macros__health_score", lambda text: re.sub(r"THEN [0-9]+", "THEN 1", text, count=1)),
        ("macros__points_to_level", lambda text: text.replace("'HIGH'", "'VERY HIGH'")),
        ("macros__normalise_word", lambda text: text.replace("' '", "'  '")),
        ("profiles", lambda text: text.replace("crm.industry", "upper(crm.industry) AS industry")),
        ("macros__unused", lambda _: "CREATE MACRO unused(x) AS x"),
    ],
    ids=["weight", "value", "blank in a string", "column", "new macro"],
)
def test_a_change_of_the_projects_sql_makes_the_shards_stale_and_leaves_the_sources_staged(
    changed: Callable[..., Site], before: tuple[str, dict[str, str]], name: str, change: Change
) -> None:
    """Fails: a new weight leaves old shards current, or reads every export again."""
    profiles, staging = _versions(changed(**{name: change}))
    assert profiles != before[0]
    assert staging == before[1]


def test_a_check_changes_no_version(changed: Callable[..., Site], before: tuple[str, dict[str, str]]) -> None:
    """Fails: a check of the finished warehouse rebuilds all of it."""
    assert _versions(changed(checks__none=lambda _: "-- None.\nSELECT true AS passed")) == before


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("SELECT  1 -- one\n , 2", "SELECT 1 , 2"),
        ("SELECT 1/* a\n b */+2", "SELECT 1 +2"),
        (r"SELECT E'it\'s  -- kept' , e'\\'  -- x", r"SELECT E'it\'s  -- kept' , e'\\'"),
        ("\n\tSELECT 1 \n", "SELECT 1"),
        ("SELECT '  two  blanks -- kept '", "SELECT '  two  blanks -- kept '"),
        ("SELECT 'it''s  /* kept */'  --x", "SELECT 'it''s  /* kept */'"),
        ('SELECT "a  b""  c"  FROM  t', 'SELECT "a  b""  c" FROM t'),
        ("SELECT $$ a  --  b $$,  $x$ 'c  $$ d' $x$  ", "SELECT $$ a  --  b $$, $x$ 'c  $$ d' $x$"),
        ("SELECT 1 -- it's a comment\n+ 2", "SELECT 1 + 2"),
        ("SELECT 1 -- one", "SELECT 1"),
        ("-- only a comment", ""),
    ],
)
def test_plain_sql_keeps_what_stands_in_quotes_and_no_comment(text: str, plain: str) -> None:
    """Fails: a blank in a string changes the result and not the version, or `--` in one cuts the statement."""
    assert plain_sql(text) == plain


@pytest.mark.parametrize(
    "statement",
    [
        'SELECT \'a  b\', "c" FROM (SELECT 1 AS "c") -- x',
        "SELECT 1 - -1 /* y */ AS z",
        r"SELECT E'it\'s  -- a' AS e, 'C:\' AS path -- it's",
        "SELECT $$it's  -- b$$, 1 -- 2",
    ],
)
def test_plain_sql_gives_the_same_result(statement: str) -> None:
    with duckdb.connect() as connection:
        assert connection.execute(plain_sql(statement)).fetchall() == connection.execute(statement).fetchall()


def test_another_duckdb_is_another_version(changed: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: row hashes of one version of DuckDB are compared with those of another."""
    profiles, staging = _versions(changed())
    monkeypatch.setattr(duckdb, "__version__", "99.0.0")
    other, other_staging = _versions(changed())
    assert other != profiles
    assert all(other_staging[name] != staging[name] for name in staging)


def test_another_result_version_of_the_engine_is_another_version(
    changed: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles, staging = _versions(changed())
    monkeypatch.setattr(site_module, "RESULT_VERSION", site_module.RESULT_VERSION + 1)
    other, other_staging = _versions(changed())
    assert other != profiles
    assert all(other_staging[name] != staging[name] for name in staging)


def test_where_and_how_it_runs_is_no_part_of_a_version(tmp_path: Path) -> None:
    """Fails: another shard count or folder makes shards stale for a reason that no one understands."""
    sites = [Site(PROJECT, Home(tmp_path / "a"), 3), Site(replace(PROJECT, folder=tmp_path), Home(tmp_path / "b"), 7)]
    assert _versions(sites[0]) == _versions(sites[1])


def test_a_version_is_twelve_hex_digits_and_does_not_depend_on_the_order_of_facts() -> None:
    assert version_of({"b": [1, None], "a": "é"}) == version_of({"a": "é", "b": [1, None]})
    assert version_of({"a": 1}) != version_of({"a": "1"})
    for version in (version_of([]), PROJECT.version, source_version(PROJECT.contract.sources[0])):
        assert re.fullmatch("[0-9a-f]{12}", version)
