"""Connections: what they may use, and what they say when that is too little."""

from pathlib import Path

import duckdb
import pytest

from etl_assets.engine import duck
from etl_assets.engine.stopping import Stop

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
