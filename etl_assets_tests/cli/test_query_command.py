"""`etl-assets query` as a process: what it answers, what it refuses, and in which form."""

import csv
import io
import json
import re
import resource
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets.cli import query_command
from etl_assets.cli.rendering import to_json, to_text
from etl_assets_tests.command_line import Cli, command, environment, on_terminal


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM merged_profiles",
        "FROM merged_profiles",
        "WITH a AS (SELECT 1 AS one) SELECT * FROM a",
        "VALUES (1), (2)",
        "TABLE quarantine",
        "DESCRIBE merged_profiles",
        "SHOW TABLES",
        "SUMMARIZE merged_profiles",
        "PIVOT merged_profiles ON churn_risk USING count(*) GROUP BY shard_id",
        "EXPLAIN SELECT * FROM merged_profiles",
        "EXPLAIN ANALYZE SELECT * FROM merged_profiles",
        "SELECT 1; -- with a comment",
    ],
)
@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_statements_that_read_are_run(cli: Cli, published: Mapping[str, str], sql: str, output: str) -> None:
    done = cli("query", sql, "--format", output, env=published)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM merged_profiles", "The warehouse is read-only: a statement of type DELETE is not run."),
        ("INSERT INTO quarantine SELECT * FROM quarantine", "The warehouse is read-only"),
        ("CREATE TABLE memory.mine AS SELECT 1", "The warehouse is read-only"),
        ("DROP TABLE merged_profiles", "The warehouse is read-only"),
        ("COPY merged_profiles TO 'stolen.csv'", "The warehouse is read-only"),
        ("EXPORT DATABASE 'stolen'", "The warehouse is read-only"),
        ("ATTACH 'mine.duckdb'", "The warehouse is read-only"),
        ("SET threads = 1", "The warehouse is read-only"),
        ("LOAD httpfs", "The warehouse is read-only"),
        ("PRAGMA database_size", "The warehouse is read-only"),
        (
            "EXPLAIN ANALYZE COPY merged_profiles TO 'stolen.csv'",
            "The warehouse is read-only: a statement of type COPY",
        ),
        ("EXPLAIN ANALYZE DELETE FROM merged_profiles", "The warehouse is read-only: a statement of type DELETE"),
        ("SELECT * FROM read_text('/etc/hostname')", "Permission Error"),
        ("SELECT * FROM read_csv('../secret.csv')", "Permission Error"),
        ("SELECT * FROM glob('*')", "Permission Error"),
        ("", "Expected one SQL statement, found none."),
        ("-- only a comment", "Expected one SQL statement, found none."),
        ("SELECT 1; SELECT 2", "Expected one SQL statement, found 2 statements."),
        ("SELEC 1", 'Parser Error: syntax error at or near "SELEC"'),
        ("SELECT 'x'::INTEGER", "Conversion Error"),
        ("SELECT $1", "Invalid Input Error"),
    ],
)
def test_everything_else_is_refused_with_exit_code_2(
    cli: Cli, published: Mapping[str, str], tmp_path: Path, sql: str, message: str
) -> None:
    done = cli("query", sql, env=published)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_refusals_changed_nothing_in_the_warehouse(cli: Cli, published: Mapping[str, str]) -> None:
    warehouse = Path(published["ETL_HOME"]) / "warehouse.duckdb"
    before = warehouse.read_bytes()
    cli("query", "DELETE FROM merged_profiles", env=published)
    cli("query", "EXPLAIN ANALYZE DELETE FROM merged_profiles", env=published)
    assert warehouse.read_bytes() == before


@pytest.mark.parametrize(
    ("sql", "suggestion"),
    [("FROM merged_profile", "merged_profiles"), ("SELECT health_scor FROM merged_profiles", "health_score")],
)
def test_a_misspelt_name_is_answered_with_the_right_one(
    cli: Cli, published: Mapping[str, str], sql: str, suggestion: str
) -> None:
    done = cli("query", sql, env=published)
    assert done.returncode == 2
    assert f'"{suggestion}"' in done.stderr


def test_without_a_warehouse_it_says_how_to_make_one(cli: Cli, tmp_path: Path) -> None:
    done = cli("query", "SELECT 1")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: There is no warehouse at {tmp_path}/data/warehouse.duckdb yet. Run: etl-assets run\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_warehouse_is_named_with_the_repair(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/warehouse.duckdb").write_bytes(b"not a database")
    done = cli("query", "SELECT 1")
    assert done.returncode == 2
    assert "cannot be read as a warehouse" in done.stderr
    assert "etl-assets run --force" in done.stderr


def test_a_statement_that_takes_too_long_is_stopped_with_exit_code_1(cli: Cli, published: Mapping[str, str]) -> None:
    done = cli("query", "SELECT count(*) FROM range(1000000000000)", "--timeout", "1", env=published)
    assert done.returncode == 1
    assert done.stderr.startswith("error: The statement was stopped after 1 s.")


def test_a_statement_beyond_the_memory_limit_exits_with_1_and_names_the_setting(
    cli: Cli, published: Mapping[str, str]
) -> None:
    sql = "SELECT list(hash(range)) FROM range(100000000)"
    done = cli("query", sql, env={**published, "ETL_MEMORY_LIMIT": "64MB", "ETL_WORKERS": "1"})
    assert done.returncode == 1
    assert done.stderr.startswith("error: Out of Memory Error")
    assert "ETL_MEMORY_LIMIT" in done.stderr


def test_a_limit_of_the_shell_that_is_lower_stays() -> None:
    """Fails: who runs `ulimit -d` before a query gives it more memory than before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    of_the_shell = 512 << 30
    resource.setrlimit(resource.RLIMIT_DATA, (of_the_shell, hard))
    try:
        with query_command._bounded_memory(1 << 20):
            assert resource.getrlimit(resource.RLIMIT_DATA) == (of_the_shell, hard)
        with query_command._bounded_memory(1 << 18):
            assert resource.getrlimit(resource.RLIMIT_DATA) == (256 << 30, hard)
        assert resource.getrlimit(resource.RLIMIT_DATA) == (of_the_shell, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def test_csv_is_quoted_dates_are_iso_and_null_is_empty(cli: Cli, published: Mapping[str, str]) -> None:
    sql = "SELECT company_name, last_contact, deal_value, sources FROM merged_profiles ORDER BY customer_id"
    done = cli("query", sql, "--format", "csv", env=published)
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert rows[0] == ["company_name", "last_contact", "deal_value", "sources"]
    assert rows[1] == ["Alpine Labs", "2026-05-01", "1200.50", "[crm, billing, product, support]"]
    assert rows[2][0] == 'Says "hi", twice\nand \x1b[31mred'
    assert rows[3][2] == ""
    assert "\r" not in done.stdout
    assert done.stderr == ""


def test_json_is_an_array_of_objects_with_native_types(cli: Cli, published: Mapping[str, str]) -> None:
    sql = (
        "SELECT sources, last_contact, mrr, health_score, NULL AS nothing, 'nan'::DOUBLE AS nan, true AS yes, "
        "1.50::DECIMAL(10, 2) AS price, TIMESTAMP '2026-01-02 03:04:05' AS at, {'a': [1]} AS nested, 1 AS a, 2 AS a "
        "FROM merged_profiles ORDER BY customer_id LIMIT 1"
    )
    done = cli("query", sql, "--format", "json", env=published)
    [row] = json.loads(done.stdout, parse_constant=pytest.fail)
    assert row == {
        "sources": ["crm", "billing", "product", "support"],
        "last_contact": "2026-05-01",
        "mrr": 29.0,
        "health_score": row["health_score"],
        "nothing": None,
        "nan": None,
        "yes": True,
        "price": 1.5,
        "at": "2026-01-02T03:04:05",
        "nested": {"a": [1]},
        "a": 1,
        "a_2": 2,
    }
    assert isinstance(row["health_score"], int)


def test_json_of_no_rows_is_an_empty_array(cli: Cli, published: Mapping[str, str]) -> None:
    assert json.loads(cli("query", "SELECT 1 WHERE false", "--format", "json", env=published).stdout) == []


@pytest.mark.parametrize("output", ["csv", "json"])
def test_csv_and_json_hold_all_rows_whatever_their_number(cli: Cli, published: Mapping[str, str], output: str) -> None:
    done = cli("query", "SELECT range AS n FROM range(25000) ORDER BY n", "--format", output, env=published)
    lines = done.stdout.splitlines()
    numbers = [int(line) for line in lines[1:]] if output == "csv" else [row["n"] for row in json.loads(done.stdout)]
    assert numbers == list(range(25000))


def test_a_table_shows_the_first_thousand_rows_and_says_so(cli: Cli, published: Mapping[str, str]) -> None:
    done = cli("query", "SELECT range FROM range(1500) ORDER BY 1", env=published)
    assert done.stdout.splitlines()[-1].strip() == "999"
    assert done.stderr.startswith("first 1,000 rows; all with --limit 0 or --format csv (")


@pytest.mark.parametrize(("limit", "count", "told"), [("2", 2, "first 2 rows;"), ("0", 4500, "4,500 rows (")])
def test_the_limit_of_a_table_can_be_chosen(
    cli: Cli, published: Mapping[str, str], limit: str, count: int, told: str
) -> None:
    done = cli("query", "SELECT range FROM range(4500)", "--limit", limit, env=published)
    assert len(done.stdout.splitlines()) == count + 2
    assert done.stderr.startswith(told)


def test_a_table_aligns_numbers_on_the_right_and_defuses_control_characters(
    cli: Cli, published: Mapping[str, str]
) -> None:
    """A company name must not be able to colour, clear or retitle the terminal."""
    sql = "SELECT company_name, deal_value FROM merged_profiles ORDER BY customer_id LIMIT 3"
    lines = cli("query", sql, env=published).stdout.splitlines()
    assert lines[0].split() == ["company_name", "deal_value"]
    assert lines[2].startswith("Alpine Labs")
    assert lines[2].endswith("    1200.50")
    assert lines[3].startswith(r'Says "hi", twice\nand \x1b[31mred')
    assert lines[4].endswith("NULL")


def test_sql_is_read_from_stdin_with_a_hyphen(cli: Cli, published: Mapping[str, str]) -> None:
    done = cli("query", "-", "--format", "csv", env=published, stdin="SELECT count(*) AS n\nFROM merged_profiles;\n")
    assert done.stdout == "n\n5\n"


def test_a_reader_does_not_need_to_write_the_home(cli: Cli, published: Mapping[str, str]) -> None:
    home = Path(published["ETL_HOME"])
    before = sorted(path.name for path in home.rglob("*"))
    assert cli("query", "FROM merged_profiles", env=published).returncode == 0
    assert sorted(path.name for path in home.rglob("*")) == before


def _without_styles(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_rows_too_wide_for_the_terminal_have_a_line_a_column(published: Mapping[str, str]) -> None:
    sql = "FROM merged_profiles ORDER BY customer_id"
    shown = _without_styles(on_terminal(80, "query", sql, "--limit", "2", env=published))
    assert "row 2" in "\n".join(shown)
    assert any(line.split() == ["customer_id", "cust_0"] for line in shown)
    assert len(shown) > 60


def test_rows_that_fit_the_terminal_are_a_table(published: Mapping[str, str]) -> None:
    sql = "SELECT customer_id, raw_text, reason, repeat('long text ', 20) AS t FROM quarantine"
    shown = _without_styles(on_terminal(120, "query", sql, env=published))
    assert shown[0].split() == ["customer_id", "raw_text", "reason", "t"]
    assert max(map(len, shown)) <= 120


def test_colour_is_for_terminals_and_can_be_declined(cli: Cli, published: Mapping[str, str]) -> None:
    sql = "SELECT NULL AS nothing"
    assert "\x1b[" in on_terminal(80, "query", sql, env=published)
    # Bold and dim are no colours.
    assert "\x1b[3" not in on_terminal(80, "status", env={**published, "NO_COLOR": "1"})
    assert "\x1b[" not in cli("query", sql, env=published).stdout


@pytest.mark.parametrize(
    ("value", "text", "as_json"),
    [
        (None, "NULL", "null"),
        (float("inf"), "inf", "null"),
        (b"\x00a\\", r"\x00a\x5C", r'"\\x00a\\x5C"'),
        ({"k": [True, None]}, "{'k': [true, NULL]}", '{"k": [true, null]}'),
        (10**30, "1" + "0" * 30, "1" + "0" * 30),
    ],
)
def test_values_of_every_kind_have_a_text_and_a_json_form(value: object, text: str, as_json: str) -> None:
    assert to_text(value) == text
    assert to_json(value) == as_json


def test_results_are_shown_as_they_are(cli: Cli, published: Mapping[str, str]) -> None:
    """A company called [/x] must not end the table, and [red] must not vanish from it."""
    sql = "SELECT '[/x][red] :bomb:' AS \"[bold]\", chr(8238) || 'x' AS b"
    lines = cli("query", sql, env=published).stdout.splitlines()
    assert lines[0].split() == ["[bold]", "b"]
    assert lines[2].split() == ["[/x][red]", ":bomb:", r"\u202ex"]
    wide = "SELECT '[/x][red]' AS \"[bold]\", repeat('[/x]', 90) AS b"
    assert "[/x][red]" in "\n".join(_without_styles(on_terminal(20, "query", wide, env=published)))


def _piped(published: Mapping[str, str], text: bytes) -> tuple[int, str]:
    done = subprocess.run(
        command("query", "-"), env=environment(**published), input=text, capture_output=True, check=False
    )
    return done.returncode, done.stderr.decode()


def test_a_statement_that_is_no_text_exits_with_2(published: Mapping[str, str]) -> None:
    code, stderr = _piped(published, b"SELECT 'Zo\xeb'")
    assert code == 2
    assert stderr.startswith("error: The statement is not valid UTF-8 (byte 10)")


def test_stdin_is_read_no_further_than_a_statement_can_be_long(published: Mapping[str, str]) -> None:
    """Fails: an endless stdin fills the memory."""
    assert _piped(published, b"SELECT 1".ljust(1_000_001)) == (
        2,
        "error: The statement on stdin is longer than 1 MB.\n",
    )
    assert _piped(published, b"SELECT 1".ljust(1_000_000))[0] == 0


# Escape, bell, C1, a mark that reverses the text after it, one without width, a tag, a line separator.
_ACTING = "\x1b]0;PWN\x07\x9b31m\u202e\u2066\u200b\u2060\U000e0041\u2028"
_ACTING_SQL = "'" + _ACTING.replace("\x1b", "' || chr(27) || '") + "'"


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT {_ACTING_SQL} AS v",
        f'SELECT 1 AS "{_ACTING}"',
        f"EXPLAIN SELECT * FROM merged_profiles WHERE company_name || '{_ACTING}' = email",
        f"SELECT {_ACTING_SQL} AS v, repeat('wide', 90) AS w",
        f"SELECT '{_ACTING}'::INTEGER",
        f"SELECT [{_ACTING_SQL}] AS v, {{'{_ACTING}': 1}} AS \"{_ACTING}\"",
    ],
    ids=["cell", "header", "plan", "record", "error", "nested"],
)
@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_nothing_in_a_result_acts_on_the_terminal(published: Mapping[str, str], sql: str, output: str) -> None:
    """Fails: a company's name retitles, recolours or rewrites the terminal of the person who looks at it."""
    is_error = "INTEGER" in sql
    shown = on_terminal(
        100, "query", sql, "--format", output, env={**published, "NO_COLOR": "1", "TERM": "dumb"}, stderr=is_error
    )
    left = re.sub(r"\x1b\[[0-9;]*m", "", shown.replace("\r\n", "\n"))
    assert [character for character in left if not character.isprintable() and character != "\n"] == []
    assert "PWN" in left


def test_json_on_a_terminal_is_still_json(published: Mapping[str, str]) -> None:
    shown = on_terminal(100, "query", f"SELECT {_ACTING_SQL} AS v", "--format", "json", env=published)
    assert json.loads(shown) == [{"v": _ACTING}]


def test_programs_get_every_character_as_it_is(cli: Cli, published: Mapping[str, str]) -> None:
    """Fails: what a program reads is not what the warehouse holds."""
    sql = f"SELECT {_ACTING_SQL} || chr(0) || '=cmd|x' AS v"
    assert cli("query", sql, "--format", "csv", env=published).stdout == f"v\n{_ACTING}\x00=cmd|x\n"
    assert json.loads(cli("query", sql, "--format", "json", env=published).stdout) == [{"v": f"{_ACTING}\x00=cmd|x"}]
