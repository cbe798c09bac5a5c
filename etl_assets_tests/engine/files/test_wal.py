"""The name of DuckDB's log beside a published file: blocked while someone may write one, and free of strange links."""

from pathlib import Path

import pytest

from etl_assets.engine.files import publishing, wal


def publish(target: Path) -> None:
    with publishing.publish_file(target, what=None) as temporary:
        temporary.write_text("new")


@pytest.mark.parametrize("leads_to", ["../secret", "secret", "nothing", "warehouse.duckdb.wal"])
@pytest.mark.parametrize("is_held", [True, False])
def test_a_link_that_is_not_ours_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leads_to: str, is_held: bool
) -> None:
    """Fails: readers of the warehouse's log see another file, and the next run publishes and then fails."""
    home = tmp_path / "home"
    home.mkdir()
    for secret in (tmp_path / "secret", home / "secret"):
        secret.write_text("secret")
    target, log = home / "warehouse.duckdb", home / "warehouse.duckdb.wal"
    target.write_text("old")
    log.symlink_to(leads_to)
    monkeypatch.setattr(wal, "_is_open_for_writing", lambda _: is_held)
    publish(target)
    assert target.read_text() == "new"
    assert log.is_symlink() == is_held
    assert not log.exists()
    assert [path.read_text() for path in (tmp_path / "secret", home / "secret")] == ["secret", "secret"]


def test_our_own_bar_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a process that slept through two publications writes a log beside the last one."""
    target, log = tmp_path / "warehouse.duckdb", tmp_path / "warehouse.duckdb.wal"
    target.write_text("old")
    monkeypatch.setattr(wal, "_is_open_for_writing", lambda _: True)
    publish(target)
    bar = log.readlink()
    monkeypatch.setattr(wal, "_is_open_for_writing", lambda _: False)
    publish(target)
    assert log.readlink() == bar
