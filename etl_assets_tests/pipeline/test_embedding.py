"""`status` and `open_warehouse`, as programs and notebooks call them."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy
import pytest

import etl_assets
from etl_assets.engine.files import private_folders
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.status import Status
from etl_assets.errors import Action, ConfigError
from etl_assets.pipeline.embedding import open_warehouse, status
from etl_assets_tests.factory import PROJECT, PROJECT_FOLDER, row, run_engine, site_at, write_exports


def publish(sources: Path, home: Home) -> Home:
    """Publish three customers in three shards."""
    write_exports(sources, crm=[row(name) for name in "abc"])
    run_engine(sources, site_at(home))
    return home


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that tests only read."""
    folder = tmp_path_factory.mktemp("published")
    return publish(folder / "sources", Home(folder / "home"))


@pytest.fixture
def changing(sources: Path, home: Home) -> Home:
    """One of a test's own."""
    return publish(sources, home)


def count(warehouse: duckdb.DuckDBPyConnection) -> object:
    return warehouse.execute("SELECT count(*) FROM merged_profiles").fetchall()


def test_the_tables_are_in_the_current_schema(published: Home) -> None:
    with open_warehouse(published.root) as warehouse:
        assert count(warehouse) == [(3,)]
        assert warehouse.sql("SELECT record_count FROM publication").fetchall() == [(3,)]
    with pytest.raises(duckdb.ConnectionException):
        count(warehouse)


def test_the_home_is_that_of_the_environment_by_default(published: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_HOME", str(published.root))
    with open_warehouse() as warehouse:
        assert count(warehouse) == [(3,)]


def test_a_connection_keeps_its_publication_and_blocks_none(changing: Home, sources: Path) -> None:
    """Fails: a notebook that is open stops the pipeline, or sees half of two publications."""
    with open_warehouse(changing.root) as before:
        assert count(before) == [(3,)]
        write_exports(sources, crm=[row(name) for name in "abcde"])
        run_engine(sources, site_at(changing), run_id="second")
        assert count(before) == [(3,)]
        assert before.execute("SELECT run_id FROM publication").fetchall() == [("run",)]
        with open_warehouse(str(changing.root)) as after:
            assert count(after) == [(5,)]
    run_engine(sources, site_at(changing), run_id="third")


def test_several_connections_read_at_once(published: Home) -> None:
    found: list[object] = []

    def read() -> None:
        with open_warehouse(published.root) as warehouse:
            found.append(count(warehouse))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[(3,)]] * 4


@pytest.mark.parametrize(
    "attack",
    [
        "DELETE FROM merged_profiles",
        "CREATE TABLE mine AS SELECT 1",
        "DROP TABLE quarantine",
        "COPY merged_profiles TO '{folder}/stolen.csv'",
        "EXPORT DATABASE '{folder}/stolen'",
        "ATTACH '{folder}/mine.duckdb'",
        "SELECT * FROM read_text('{folder}/secret.txt')",
        "SELECT * FROM read_csv('{home}/../secret.txt')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM '{home}/staged/crm/current.json'",
        "SET enable_external_access = true",
        "SET memory_limit = '64GB'",
        "RESET lock_configuration",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM secret",
    ],
)
def test_it_reads_the_warehouse_and_nothing_else(published: Home, tmp_path: Path, attack: str) -> None:
    """Fails: a statement from anywhere reads a file of this machine, or changes the result."""
    (tmp_path / "secret.txt").write_text("password\n")
    # DuckDB would read it as a table.
    secret = numpy.array([1.0, 2.0])
    before = published.warehouse.read_bytes()
    with open_warehouse(published.root) as warehouse, pytest.raises(duckdb.Error):
        warehouse.execute(attack.format(folder=tmp_path, home=published.root)).fetchall()
    assert published.warehouse.read_bytes() == before
    assert not list(tmp_path.glob("stolen*")) + list(tmp_path.glob("mine*"))
    assert len(secret) == 2


def test_its_memory_is_limited_and_what_it_spills_is_removed(
    published: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a notebook takes 80 % of the memory, fills /tmp for good, or shows profiles to other users."""
    monkeypatch.setenv("ETL_MEMORY_LIMIT", "64MB")
    monkeypatch.setenv("ETL_WORKERS", "1")
    spill = tmp_path / "spill"
    spill.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spill))
    private_folders._made_by.cache_clear()
    with open_warehouse(published.root) as warehouse:
        assert warehouse.execute("SELECT current_setting('memory_limit')").fetchall() == [("61.0 MiB",)]
        (own,) = spill.iterdir()
        assert own.stat().st_mode & 0o777 == 0o700
        assert not list(own.iterdir())
        warehouse.execute("CREATE TEMP TABLE numbers AS SELECT range AS n, hash(range) AS h FROM range(4_000_000)")
        assert list(own.iterdir())
    assert not list(own.iterdir())


_PROGRAM = """
import os, sys
from pathlib import Path
from etl_assets import open_warehouse

opened = open_warehouse(sys.argv[1])
opened.execute("CREATE TEMP TABLE numbers AS SELECT range AS n, hash(range) AS h FROM range(4_000_000)")
child = os.fork()
if not child:
    sys.exit()
os.waitpid(child, 0)
spilled = [path for path in Path(os.environ["TMPDIR"]).rglob("*") if path.is_file()]
print(len(spilled) > 0)
"""


def test_what_is_spilled_is_removed_when_the_program_ends(published: Home, tmp_path: Path) -> None:
    """Fails: a program that closes no connection leaves profiles in /tmp; or its child takes them away too soon."""
    spill = tmp_path / "spill"
    spill.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(published.root)],
        env={**os.environ, "TMPDIR": str(spill), "ETL_MEMORY_LIMIT": "64MB", "ETL_WORKERS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert list(spill.iterdir()) == []


def test_a_temporary_folder_that_was_cleaned_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a service of some weeks cannot spill any more."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    private_folders._made_by.cache_clear()
    folder = private_folders.private_folder()
    assert private_folders.private_folder() == folder
    folder.rmdir()
    assert private_folders.private_folder().is_dir()


@pytest.mark.parametrize("theirs", ["a link", "a folder that others may read", "a file"])
def test_a_temporary_folder_that_someone_else_put_there_meanwhile_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """Fails: what is spilled, personal data, is written where another user of the machine reads it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    private_folders._made_by.cache_clear()
    folder = private_folders.private_folder()
    folder.rmdir()
    if theirs == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    elif theirs == "a file":
        folder.write_text("theirs")
    else:
        folder.mkdir()
        folder.chmod(0o755)
    assert private_folders.private_folder() != folder
    private_folders._remove(folder, os.getpid())
    assert os.path.lexists(folder)


def test_nothing_published_yet_is_a_configuration_error(home: Home) -> None:
    with pytest.raises(ConfigError, match=r"There is no warehouse at .*warehouse\.duckdb yet\.") as raised:
        open_warehouse(home.root)
    assert [one.action for one in raised.value.advice] == [Action.RUN]
    assert not home.root.exists()


def test_a_damaged_warehouse_is_named(changing: Home) -> None:
    changing.warehouse.write_bytes(b"not a database" * 1000)
    with pytest.raises(ConfigError, match="cannot be read as a warehouse") as raised:
        open_warehouse(changing.root)
    assert [one.action for one in raised.value.advice] == [Action.RUN_FORCED]


@pytest.mark.parametrize("project", [PROJECT, PROJECT_FOLDER, str(PROJECT_FOLDER), None])
def test_status_is_of_the_project_and_the_folders_that_are_passed(
    published: Home, monkeypatch: pytest.MonkeyPatch, project: etl_assets.Project | Path | str | None
) -> None:
    monkeypatch.setenv("ETL_PROJECT", str(PROJECT_FOLDER))
    monkeypatch.setenv("ETL_HOME", "/nonexistent/elsewhere")
    before, sources = dict(os.environ), published.root.parent / "sources"
    facts = status(project, sources=sources, home=str(published.root), num_shards=3)
    assert {shard.state for shard in facts.shards} == {Status.PUBLISHED}
    assert (facts.warehouse.state, facts.warehouse.record_count, facts.next_step) == ("current", 3, None)
    assert (facts.sources_folder, facts.shard_count) == (str(sources), 3)
    assert dict(os.environ) == before


def test_status_works_before_anything_was_run(home: Home, sources: Path) -> None:
    write_exports(sources)
    facts = status(PROJECT, sources=sources, home=home.root)
    assert (facts.warehouse.state, facts.next_step) == ("missing", "run")
    assert not home.root.exists()


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        ({"num_shards": 0}, "num_shards must be a whole number from 1 to 1000, found 0."),
        ({"num_shards": "many"}, "num_shards must be a whole number from 1 to 1000, found 'many'."),
        ({"project": "/nonexistent"}, "/nonexistent/etl_assets.yaml cannot be read"),
    ],
)
def test_a_wrong_argument_is_named_as_it_was_passed(arguments: Mapping[str, object], finding: str) -> None:
    with pytest.raises(ConfigError) as raised:
        status(**arguments)  # type: ignore[arg-type]  # what a program without type checks does
    assert str(raised.value).startswith(finding)
