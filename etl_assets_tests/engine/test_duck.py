"""Connections: what they may use, and what they say when that is too little."""

import contextlib
import sqlite3
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine import duck
from etl_assets.engine.files.wal import WAL_SUFFIX
from etl_assets.engine.stopping import Stop
from etl_assets_tests import factory

# A list has to be in memory as a whole.
TOO_MUCH = "SELECT len(list(range)) FROM range(50_000_000)"


def test_what_each_of_several_may_use_is_a_part_of_the_whole_under_one_stop() -> None:
    limits = duck.Limits(memory_mb=900, threads=8)
    assert [(limits.share(n).memory_mb, limits.share(n).threads) for n in (1, 3, 8, 100)] == [
        (900, 8),
        (300, 2),
        (112, 1),
        (64, 1),
    ]
    assert limits.share(3).stop is limits.stop


@pytest.mark.parametrize("kept", [False, True])
def test_too_little_memory_names_the_setting_to_raise(tmp_path: Path, kept: bool) -> None:
    """Fails: DuckDB advises its own settings, which no user of this package can set."""
    limits = duck.Limits(memory_mb=64)
    benches = duck.Workbenches(limits, tmp_path, folders=[], prepare=lambda _: None)
    opened = benches.one(Stop()) if kept else duck.workbench(limits, tmp_path)
    with pytest.raises(duckdb.OutOfMemoryException) as caught, opened as connection:
        connection.execute(TOO_MUCH).fetchall()
    message = str(caught.value)
    assert message.startswith("64 MB of memory, this step's part of ETL_MEMORY_LIMIT, are too little")
    assert "Raise ETL_MEMORY_LIMIT, or spread the data over more shards with ETL_NUM_SHARDS." in message
    assert "SET" not in message


def test_connections_in_use_at_once_spill_to_folders_of_their_own(tmp_path: Path) -> None:
    """Fails: two databases write to temporary files of the same names, and read what the other one wrote."""
    benches = duck.Workbenches(duck.Limits(memory_mb=64), tmp_path, folders=[], prepare=lambda _: None)
    with benches.one(Stop()) as first, benches.one(Stop()) as second:
        folders = [
            duck.scalar(connection, "SELECT current_setting('temp_directory')") for connection in (first, second)
        ]
    assert len(set(folders)) == 2
    assert all(Path(str(folder)).parent == tmp_path and Path(str(folder)).is_dir() for folder in folders)
    with benches.one(Stop()) as again:
        assert duck.scalar(again, "SELECT current_setting('temp_directory')") in folders


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A database file with the table `publication`, and a secret beside its folder."""
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "home").mkdir()
    path = tmp_path / "home/warehouse.duckdb"
    factory.alter(path, "CREATE TABLE publication AS SELECT 1 AS a")
    return path


_NEVER = (
    *("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions"),
    *("allow_unsigned_extensions", "allow_persistent_secrets", "python_enable_replacements", "enable_external_access"),
)


def test_every_kind_of_connection_is_closed_to_the_network_and_locked(warehouse: Path, tmp_path: Path) -> None:
    """Fails: one kind of connection fetches an extension, or a statement switches the confinement off."""
    limits = duck.Limits(memory_mb=64)
    benches = duck.Workbenches(limits, tmp_path / "home", folders=[], prepare=lambda _: None)
    kinds = [
        duck.reader(tmp_path / "home"),
        duck.opened(warehouse),
        duck.workbench(limits, tmp_path / "home"),
        benches.one(Stop()),
    ]
    for kind in kinds:
        with kind as connection:
            values = {name: duck.scalar(connection, f"SELECT current_setting('{name}')") for name in _NEVER}
            assert set(values.values()) == {False}
            with pytest.raises(duckdb.InvalidInputException, match="locked"):
                connection.execute("SET autoload_known_extensions = true")
            with pytest.raises(duckdb.Error, match="disabled"):
                connection.execute("LOAD httpfs")
            with pytest.raises(duckdb.PermissionException):
                connection.execute(f"FROM read_text('{tmp_path}/secret')")


def test_a_published_file_is_opened_without_a_way_to_its_neighbours(warehouse: Path) -> None:
    """Fails: a view in a warehouse from elsewhere shows another file of ETL_HOME."""
    (warehouse.parent / "neighbour").write_text("hunter2")
    with duck.opened(warehouse, "publication") as connection:
        assert connection.execute("FROM publication").fetchall() == [(1,)]
        for neighbour in ("neighbour", "*", "../secret"):
            with pytest.raises(duckdb.PermissionException):
                connection.execute(f"FROM read_text('{warehouse.parent}/{neighbour}')")


@pytest.mark.parametrize(
    "code", ["CREATE VIEW publication AS FROM real", "CREATE MACRO publication() AS TABLE FROM real"]
)
def test_a_view_is_not_taken_for_a_table(warehouse: Path, code: str) -> None:
    """Fails: a database file from elsewhere runs its own SQL when it is looked at."""
    factory.alter(warehouse, "ALTER TABLE publication RENAME TO real", code)
    with (
        pytest.raises(duckdb.CatalogException, match="it has no table publication"),
        duck.opened(warehouse, "publication"),
    ):
        pytest.fail("it was opened")


def test_a_connection_goes_on_after_a_file_that_it_refused(warehouse: Path, tmp_path: Path) -> None:
    with duck.reader(tmp_path / "home") as connection:
        for _ in range(2):
            with pytest.raises(duckdb.CatalogException), duck.attached(connection, warehouse, "profiles"):
                pytest.fail("it was attached")
        with duck.attached(connection, warehouse, "publication"):
            assert connection.execute("FROM opened.publication").fetchall() == [(1,)]


@pytest.mark.parametrize("is_read", [True, False])
def test_a_file_of_another_system_is_no_database_and_no_reason_to_fetch_an_extension(
    tmp_path: Path, is_read: bool
) -> None:
    path = tmp_path / "warehouse.duckdb"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE publication (a)")
        other.commit()
    attach = duck.attach_published if is_read else duck.attach_writable
    with duck.reader(tmp_path) as connection, pytest.raises(duckdb.IOException, match="not a valid DuckDB database"):
        attach(connection, path, "warehouse")


def test_a_log_that_is_a_link_to_another_file_is_refused(warehouse: Path, tmp_path: Path) -> None:
    """Fails: `FROM read_text('warehouse.duckdb.wal')` shows the other file."""
    log = warehouse.with_name(warehouse.name + WAL_SUFFIX)
    log.symlink_to(tmp_path / "secret")
    with pytest.raises(duckdb.PermissionException, match="is a link to another file"), duck.opened(warehouse):
        pytest.fail("it was opened")
    log.unlink()
    # What blocks the log of a replaced file leads nowhere.
    log.symlink_to("nowhere/wal")
    assert factory.query(warehouse, "FROM publication") == [(1,)]


def test_a_file_that_is_opened_again_shows_what_was_published_since_and_nothing_of_before(warehouse: Path) -> None:
    """Fails: connections are used again together with what was read or made with them."""
    for value in (1, 2):
        with duck.opened(warehouse, "publication") as connection:
            assert connection.execute("FROM publication").fetchall() == [(value,)]
            assert duck.scalar(connection, "SELECT current_setting('TimeZone')") == "UTC"
            connection.execute("CREATE TEMP VIEW mine AS SELECT 1")
        coming = warehouse.with_name("coming.duckdb")
        factory.alter(coming, f"CREATE TABLE publication AS SELECT {value + 1} AS a")
        coming.replace(warehouse)


def test_a_file_can_be_opened_twice_at_once(warehouse: Path) -> None:
    with duck.opened(warehouse) as first, duck.opened(warehouse) as second:
        for connection in (first, second):
            assert connection.execute("FROM publication").fetchall() == [(1,)]


def test_a_connection_is_not_used_again_after_an_error(warehouse: Path) -> None:
    """Fails: a reader that was interrupted, or holds a transaction that failed, spoils the next one."""
    for _ in range(2):
        with pytest.raises(duckdb.Error), duck.opened(warehouse) as connection:
            connection.begin().execute("FROM nothing")
    with duck.opened(warehouse, "publication") as connection:
        assert connection.execute("FROM publication").fetchall() == [(1,)]
