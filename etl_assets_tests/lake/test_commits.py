"""The one publication point: a commit lands whole or not at all, is recognised, and never goes over a newer one."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from etl_assets.engine.lake.delta import LakeTable, TableFile, Version
from etl_assets.engine.lake.store import Store
from etl_assets.engine.published import lake_versions
from etl_assets.engine.published.lake_names import PUBLICATIONS
from etl_assets.engine.published.lake_versions import lake_table
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.steps import committing
from etl_assets.engine.steps.committing import commit_shards
from etl_assets.engine.steps.merge import Merged
from etl_assets.errors import AccountingError, ConfigError, EtlError, ShardSetError, StoreError
from etl_assets_tests.factory import LIMITS, row, write_exports
from etl_assets_tests.lake import merging_loop
from etl_assets_tests.lake.conftest import site_in
from etl_assets_tests.lake.fault_proxy import Effect, FaultProxy
from etl_assets_tests.lake.lake_runs import build_lake, run_lake, stage_lake

_COLUMNS = {"id": "VARCHAR"}
# The object that a commit puts.
_COMMIT = "_delta_log/[0-9]+.json"


def files(*names: str) -> list[TableFile]:
    """Files of ten bytes."""
    return [TableFile(f"{name}.parquet", 10, 1, {"id": 0}) for name in names]


@pytest.fixture
def table(s3_url: str) -> LakeTable:
    """A table in a bucket."""
    return LakeTable(Store(s3_url), "profiles")


@pytest.mark.parametrize("effect", [Effect.LOST_500, Effect.LOST_CUT, Effect.UNAVAILABLE, Effect.CUT])
def test_a_commit_is_recognised_whatever_the_answer_was(table: LakeTable, proxy: FaultProxy, effect: Effect) -> None:
    """Fails: a publication that readers see is reported as failed, and merged over again."""
    proxy.add(effect, path=_COMMIT)
    first = table.commit(None, _COLUMNS, files("a", "b"), "one", "any")
    proxy.add(effect, path=_COMMIT)
    second = table.commit(first, _COLUMNS, files("a", "c"), "two", "any")
    assert [one >= 1 for one in proxy.hits()] == [True, True]
    assert (first.number, second.number) == (0, 1)
    assert table.current() == second
    assert set(second.files) == {"a.parquet", "c.parquet"}


@pytest.mark.parametrize("name", ["../warehouse.duckdb", "deep/a.parquet", ".hidden"])
def test_a_version_that_names_a_file_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """Fails: whoever may write to the lake chooses the path that a reader's machine fetches a file to."""
    table = LakeTable(Store(tmp_path.as_uri()), "profiles")
    with pytest.raises(ConfigError, match="names the file"):
        table.commit(None, _COLUMNS, [TableFile(name, 10, 1, {"id": 0})], "one", "any")
    with pytest.raises(ConfigError, match="Expected names in its own folder only"):
        table.current()


def test_a_store_that_fails_for_good_publishes_nothing(table: LakeTable, proxy: FaultProxy) -> None:
    first = table.commit(None, _COLUMNS, files("a"), "one", "any")
    proxy.add(Effect.UNAVAILABLE, path=_COMMIT, count=None)
    with pytest.raises(StoreError):
        table.commit(first, _COLUMNS, files("b"), "two", "any")
    proxy.reset()
    assert table.current() == first
    proxy.add(Effect.FORBIDDEN, path=_COMMIT, count=None)
    with pytest.raises(ConfigError, match="refuses access"):
        table.commit(first, _COLUMNS, files("b"), "two", "any")
    proxy.reset()
    assert table.current() == first


@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_commits_at_once_one_wins_and_the_other_says_so(table: LakeTable, is_first: bool) -> None:
    """Fails: both merges report success, and one of the two publications is lost."""
    for round_number in range(4):
        target = LakeTable(Store(f"{table.url}-{round_number}"), "profiles")
        before = None if is_first else target.commit(None, _COLUMNS, files("a"), "none", "any")
        done: list[Version | EtlError] = []

        def commit(name: str, target: LakeTable = target, before: Version | None = before) -> None:
            try:
                done.append(target.commit(before, _COLUMNS, files(name), name, "any"))  # noqa: B023
            except EtlError as error:
                done.append(error)  # noqa: B023

        threads = [threading.Thread(target=commit, args=(name,)) for name in ("b", "c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(type(one).__name__ for one in done) == ["ShardSetError", "Version"]
        assert target.current() == next(one for one in done if isinstance(one, Version))


def test_a_commit_that_adds_only_is_not_repeated_over_another(table: LakeTable) -> None:
    """Fails: the library tries again on top of the other's version, and the shard stands there twice."""
    first = table.commit(None, _COLUMNS, files("a"), "one", "any")
    table.commit(first, _COLUMNS, files("a", "b"), "two", "any")
    with pytest.raises(ShardSetError, match="was published during this merge"):
        table.commit(first, _COLUMNS, files("a", "c"), "three", "any")


def test_a_version_without_a_document_is_someone_elses(url: str) -> None:
    """Fails: what another engine wrote into the table is taken for a publication."""
    table = LakeTable(Store(url), "profiles")
    first = table.commit(None, _COLUMNS, files("a"), "one", "any")
    found = table._open()
    assert found is not None
    found.alter.set_table_properties({"delta.appendOnly": "false"})
    with pytest.raises(ConfigError, match="was not published by this program"):
        table.current()
    assert table.at(first.number) == first


def test_other_files_than_those_committed_are_found(table: LakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: the removal of a file that is not there is accepted, and its rows are published twice."""
    first = table.commit(None, _COLUMNS, files("a"), "one", "any")
    wrong = Version(first.number, first.document, {"other.parquet": 10}, first.schema)
    with pytest.raises(AccountingError, match="does not have the files that were committed"):
        table.commit(wrong, _COLUMNS, files("b"), "two", "any")


def test_a_merge_that_was_overtaken_publishes_nothing(url: str, sources: Path, tmp_path: Path) -> None:
    """Fails: a merge that hung puts yesterday's profiles over today's."""
    slow, quick = site_in(url, tmp_path / "slow"), site_in(url, tmp_path / "quick")
    write_exports(sources, crm=[row(f"C{number}") for number in range(15)])
    run_lake(sources, slow)
    write_exports(sources, crm=[row(f"C{number}") for number in range(20)])
    stage_lake(sources, slow)
    build_lake(slow)
    real = lake_table

    def overtaken(site: object) -> LakeTable:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(committing, "lake_table", real)
            write_exports(sources, crm=[row(f"C{number}") for number in range(30)])
            run_lake(sources, quick, run_id="quick")
        return real(site)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(committing, "lake_table", overtaken)
        with pytest.raises(ShardSetError, match="was published during this merge"):
            commit_shards(slow, LIMITS, run_id="slow")
    now = lake_versions.fetch_publication(slow.home, Store(url), slow.contract)
    publication = read_publication(slow.home)
    assert now is not None
    assert publication is not None
    assert (now.number, publication.record_count, publication.run_id) == (1, 30, "quick")


@pytest.mark.slow
def test_two_merges_at_once_publish_one_version_more_each_round(url: str, sources: Path, tmp_path: Path) -> None:
    """Fails: with two daemons, a version is lost or doubled."""
    sites = [site_in(url, tmp_path / name) for name in ("one", "two")]
    for round_number in range(3):
        write_exports(sources, crm=[row(f"C{number}") for number in range(20 + round_number)])
        for site in sites:
            stage_lake(sources, site)
        build_lake(sites[0])
        done: list[Merged | EtlError] = []

        def merge(number: int, done: list[Merged | EtlError] = done) -> None:
            try:
                done.append(commit_shards(sites[number], LIMITS, run_id=f"run{number}"))
            except EtlError as error:
                done.append(error)

        _at_once(lambda: merge(0), lambda: merge(1))
        published = [one for one in done if isinstance(one, Merged)]
        assert published, done
        assert {one.publication.record_count for one in published} == {20 + round_number}
        others = [one for one in done if not isinstance(one, Merged)]
        assert all(isinstance(one, ShardSetError) for one in others), others
        version = lake_table(sites[0]).current()
        assert version is not None
        assert len(version.files) == 3


def test_a_merge_that_is_killed_or_fails_before_the_commit_leaves_the_last_version(
    url: str, sources: Path, tmp_path: Path
) -> None:
    """Fails: a document without a version, or half a version, is published."""
    write_exports(sources, crm=[row("C1"), row("C2")])
    site = site_in(url, tmp_path / "machine")
    run_lake(sources, site)
    before = lake_table(site).current()
    write_exports(sources, crm=[row("C1"), row("C2"), row("C3")])
    stage_lake(sources, site)
    build_lake(site)

    def fail(*_args: object) -> None:
        raise StoreError("the machine stops here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LakeTable, "_write", fail)
        with pytest.raises(StoreError):
            commit_shards(site, LIMITS, run_id="second")
    assert lake_table(site).current() == before
    assert len(Store(url).list(PUBLICATIONS)) == 2, "the document is put before the commit"
    assert read_publication(site.home) is not None
    merged = commit_shards(site, LIMITS, run_id="third")
    assert merged.publication.record_count == 3


@pytest.mark.slow
def test_thirty_kills_during_commits_leave_whole_versions_only(url: str) -> None:
    """Fails: a reader sees shards of two generations, or an older version; or nothing can be published any more."""
    table, rng = LakeTable(Store(url), "profiles"), random.Random(7)
    command = [sys.executable, "-m", merging_loop.__name__, url]
    seen, last = 0, -1
    for _ in range(30):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 30
        start = last
        while last == start and time.monotonic() < deadline_s:
            last = max(last, _generation(table, last))
            seen += 1
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert last > start, "nothing was published after a kill"
    assert _generation(table, last) >= last
    assert seen > 30


def _generation(table: LakeTable, last: int) -> int:
    """The one generation of all shards that a reader sees."""
    version = table.current()
    if version is None:
        return -1
    generations = {name.split("-")[1] for name in version.files}
    assert len(generations) == 1, version
    assert len(version.files) == merging_loop.SHARDS
    found = int(generations.pop())
    assert found >= last, "an older version came back"
    return found


def _at_once(*calls: Callable[[], None]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
