"""`etl-assets check`: all mistakes at once with their places, the plan of a run, and nothing written."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets_tests import factory
from etl_assets_tests.command_line import Cli
from etl_assets_tests.factory import PROJECT_FOLDER


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the tests' project, beside sound exports for it in data/sources."""
    customers = [factory.row(f"cust_{number}") for number in range(3)]
    factory.write_exports(tmp_path / "data" / "sources", crm=customers, billing=customers)
    return Path(shutil.copytree(PROJECT_FOLDER, tmp_path / "mine"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_sound_project_has_no_mistakes_and_a_plan_and_nothing_is_written(
    cli: Cli, tmp_path: Path, project: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = cli("check", "--project", "mine", env={"ETL_PROJECT": "", "ETL_NUM_SHARDS": "3"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "crm      crm.csv      reads it: it was never read" in done.stdout
    assert "     3  builds: never built" in done.stdout
    assert done.stdout.endswith("No mistakes. Next: etl-assets run --project mine\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_every_mistake_is_listed_with_its_file_and_line(cli: Cli, tmp_path: Path, project: Path) -> None:
    """Fails: a person mends one mistake a run."""
    profiles = project / "sql" / "profiles.sql"
    edit(profiles, "    crm.industry,", "    crm.industri,")
    edit(profiles, "    billing.mrr,", "    billing.mmr,")
    (project / "sql" / "macros" / "own.sql").write_text("-- first\nCREATE MACROO own(x) AS x")
    header, rest = (tmp_path / "data" / "sources" / "crm.csv").read_text().split("\n", 1)
    changed = header.replace("industry", "industri").replace("email", "e-mails")
    (tmp_path / "data" / "sources" / "crm.csv").write_text(f"{changed}\n{rest}")
    (tmp_path / "data" / "sources" / "support.csv").unlink()
    done = cli("check", "--project", str(project))
    lines = done.stdout.splitlines()
    assert done.returncode == 2
    numbered = {line.strip(): number for number, line in enumerate(profiles.read_text().splitlines(), start=1)}
    assert [line for line in lines if line.startswith("sql/profiles.sql, line ")] == [
        f"sql/profiles.sql, line {numbered['crm.industri,']}: crm has no column industri; did you mean crm.industry?",
        f"sql/profiles.sql, line {numbered['billing.mmr,']}: billing has no column mmr; did you mean billing.mrr?",
    ]
    assert any(line.startswith("sql/macros/own.sql, line 2: Parser Error") for line in lines)
    assert any(
        "lacks the columns email, industry." in line and "Is email the column 'e-mails'?" in line for line in lines
    )
    assert any("Is industry the column 'industri'?" in line for line in lines)
    assert any(line.startswith("etl_assets.yaml, line ") and "No export of source 'support'" in line for line in lines)
    assert lines[-1] == "5 mistakes"


def test_a_macro_that_calls_itself_is_named_here_and_by_a_run(cli: Cli, project: Path) -> None:
    """Fails: DuckDB's own words, that a function does not exist, say nothing of the cause."""
    macros = project / "sql" / "macros"
    (macros / "a.sql").write_text("CREATE MACRO one(x) AS\n    two(x) + 1")
    (macros / "b.sql").write_text("CREATE MACRO two(x) AS one(x)")
    done = cli("check", "--project", "mine")
    assert done.returncode == 2
    assert "sql/macros/a.sql, line 2: a macro that calls itself: a → b → a" in done.stdout
    run = cli("run", "--project", "mine", env={"ETL_NUM_SHARDS": "1"})
    assert run.returncode == 2
    assert "sql/macros/a.sql, line 2: a macro that calls itself: a → b → a" in run.stderr


def test_two_sources_of_one_file_are_refused_here_and_by_a_run(cli: Cli, tmp_path: Path, project: Path) -> None:
    """Fails: the same rows count for two systems."""
    edit(project / "etl_assets.yaml", "  billing:\n", "  billing:\n    files: [billing.csv, crm.csv]\n")
    customers = [factory.row(f"cust_{number}") for number in range(3)]
    for name in ("crm", "billing"):
        columns = list(dict.fromkeys(["customer_id", *factory.SOUND]))
        factory.write_csv(tmp_path / "data" / "sources" / f"{name}.csv", factory.SOURCES[0], customers, columns)
    done = cli("check", "--project", "mine")
    assert done.returncode == 2
    assert "crm.csv belongs to the sources crm and billing" in done.stdout
    run = cli("run", "--project", "mine")
    assert run.returncode == 2
    assert "crm.csv belongs to the sources crm and billing" in run.stderr
    assert not (tmp_path / "data" / "staged").exists()


def test_a_pattern_without_files_and_missing_exports_are_mistakes(cli: Cli, tmp_path: Path, project: Path) -> None:
    edit(project / "etl_assets.yaml", "  billing:\n", "  billing:\n    files: [billing.csv, 'bill-*.csv']\n")
    done = cli("check", "--project", "mine")
    assert done.returncode == 2
    assert "matches 'bill-*.csv' of source 'billing'" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 mistake"
    shutil.rmtree(tmp_path / "data")
    gone = cli("check", "--project", "mine")
    assert gone.returncode == 2
    assert f"{tmp_path}/data/sources: the folder of the exports does not exist" in gone.stdout


def test_mistakes_in_the_contract_are_listed_with_lines(cli: Cli, project: Path) -> None:
    edit(project / "etl_assets.yaml", "type: int", "type: integer")
    edit(project / "etl_assets.yaml", "entity:", "entitty:")
    (project / "etl_assets.yaml").open("a").write("\nsettings: {num_shard: 3, workers: many}\n")
    done = cli("check", "--project", "mine")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown word; did you mean 'entity'?" in done.stderr
    assert "settings.num_shard: unknown word; did you mean 'num_shards'?" in done.stderr
    assert "settings.workers: expected a whole number from 1 to 64, found 'many'" in done.stderr


def test_files_that_no_source_reads_and_columns_that_none_declares_are_named(
    cli: Cli, tmp_path: Path, project: Path
) -> None:
    """Fails: an export of a system that nobody declared lies beside the others and is never noticed."""
    (tmp_path / "data" / "sources" / "prices.csv").write_text("a,b\n")
    path = tmp_path / "data" / "sources" / "billing.csv"
    path.write_text("".join(f"{line},x\n" for line in path.read_text().splitlines()))
    done = cli("check", "--project", "mine")
    assert done.returncode == 0
    assert "no source reads: prices.csv\n" in done.stdout
    assert "billing: not declared, so ignored: x\n" in done.stdout


def test_the_plan_says_which_shards_become_stale_and_why(
    cli: Cli, tmp_path: Path, published: Mapping[str, str], project: Path
) -> None:
    """Fails: a person changes a word and does not know that everything is computed again."""

    def plan() -> list[dict[str, object]]:
        done = cli("check", "--project", "mine", "--json", env=published)
        assert done.returncode == 0, done.stdout
        shards: list[dict[str, object]] = json.loads(done.stdout)["shards"]
        return shards

    # Exports that are a moment old are read again: their time stamps prove nothing yet.
    assert [one["shard_count"] for one in plan()] == [3]
    edit(project / "sql" / "profiles.sql", "SELECT", "-- a comment\nSELECT")
    before = plan()
    edit(project / "sql" / "profiles.sql", "crm.industry", "upper(crm.industry) AS industry")
    changed = {"shard_count": 3, "reason": "the project's contract or SQL has changed, or the engine has"}
    assert before != [changed]
    assert plan() == [changed]
    fewer = cli("check", "--project", "mine", "--json", env={**published, "ETL_NUM_SHARDS": "2"})
    assert json.loads(fewer.stdout)["shards"] == [{"shard_count": 2, "reason": "built for 3 shards, not 2"}]
