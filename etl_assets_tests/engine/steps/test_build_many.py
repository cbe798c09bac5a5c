"""Many shards in one process: every attempt on record, and each shard's fate its own."""

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.engine import duck
from etl_assets.engine.published import attempts
from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.shards import Manifest, ShardInput, read_shard
from etl_assets.engine.published.snapshots import current_snapshots
from etl_assets.engine.published.status import Status
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.site import Site
from etl_assets.engine.steps import build_many
from etl_assets.engine.steps.build import build_shard
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest
from etl_assets.engine.stopping import Stop
from etl_assets.errors import AttemptTimeoutError, ConfigError, DamagedSnapshotError, ProfileError
from etl_assets.project.loading import Project
from etl_assets_tests.factory import PROJECT, row, stage_all, staging_request, write_exports

SHARDS = shard_keys(3)
# A project whose query lacks columns of base.
LACKING = Project(PROJECT.contract, "SELECT base.customer_id FROM customers", PROJECT.macros)
ENDLESS = "SELECT count(*) FROM range(1000000000000)"
# When an endless query ends if it is not interrupted: a test then fails instead of hanging.
BACKSTOP_S = 30

Build = Callable[..., Manifest]


@pytest.fixture
def staged(sources: Path, site: Site) -> Site:
    """Eight customers, staged for three shards."""
    write_exports(sources, crm=[row(name) for name in "abcdefgh"])
    stage_all(staging_request(sources, site))
    return site


def request(site: Site, *, run_id: str = "run", attempt: int = 1, **changes: Any) -> ShardsRequest:
    """A request of one run; by default two shards at a time."""
    limits = duck.Limits(memory_mb=256, threads=changes.pop("workers", 2))
    return ShardsRequest(site, limits, run_id, attempt, **changes)


def build(asked: ShardsRequest, shard_ids: list[str] = SHARDS) -> dict[str, ShardResult]:
    """Build them all; the results by shard."""
    news = build_many.build_shards(asked, shard_ids)
    return {entry.attempt.shard_id: entry for entry in news if isinstance(entry, ShardResult)}


def on_record(site: Site) -> list[tuple[str, int, str]]:
    return [(found.shard_id, found.number, found.status.value) for found in attempts.read_attempts(site.home, SHARDS)]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Do something else, before the building of one shard."""

    def break_shard(shard_id: str, instead: Callable[[Stop], object]) -> None:
        real: Build = build_shard

        def breaking(site: Site, given: ShardInput, benches: duck.Workbenches, stop: Stop, **options: Any) -> Manifest:
            if given.shard_id == shard_id:
                instead(stop)
            return real(site, given, benches, stop, **options)

        monkeypatch.setattr(build_many, "build_shard", breaking)

    return break_shard


def _no_disk(_: Stop) -> None:
    raise OSError(28, "No space left on device")


def _endless_query(stop: Stop) -> None:
    with contextlib.closing(duckdb.connect()) as connection, stop.watching(connection):
        backstop = threading.Timer(BACKSTOP_S, connection.interrupt)
        backstop.start()
        try:
            connection.execute(ENDLESS).fetchall()
        finally:
            backstop.cancel()


def test_every_shard_is_reported_when_it_begins_and_when_it_ends(staged: Site) -> None:
    news = list(build_many.build_shards(request(staged), SHARDS))
    for shard_id in SHARDS:
        began, ended = [entry for entry in news if shard_id in repr(entry)]
        assert isinstance(began, Attempt)
        assert (began.status, began.elapsed_ms, began.record_count) == (Status.RUNNING, None, None)
        assert isinstance(ended, ShardResult)
        assert ended.error is None
        assert ended.manifest == read_shard(staged.home, shard_id).manifest
        assert ended.manifest is not None
        assert ended.attempt.record_count == ended.manifest.record_count
        assert ended.attempt.started_at == began.started_at
    assert on_record(staged) == [(shard_id, 1, "succeeded") for shard_id in SHARDS]


def test_a_failed_shard_is_on_record_and_the_others_are_published(staged: Site, broken: Callable[..., None]) -> None:
    """One full disk would cost the work of every other shard, or leave no trace of why."""
    broken("shard_01", _no_disk)
    results = build(request(staged))
    assert isinstance(results["shard_01"].error, OSError)
    assert results["shard_01"].manifest is None
    assert results["shard_01"].attempt.error == "OSError: [Errno 28] No space left on device"
    assert on_record(staged) == [("shard_00", 1, "succeeded"), ("shard_01", 1, "failed"), ("shard_02", 1, "succeeded")]
    assert not staged.home.shard_file("shard_01").exists()
    assert staged.home.shard_file("shard_02").exists()


def test_an_unchanged_shard_is_reused_and_keeps_its_bytes(staged: Site) -> None:
    first = build(request(staged))
    before = {shard_id: staged.home.shard_file(shard_id).read_bytes() for shard_id in SHARDS}
    again = build(request(staged, run_id="later"))
    assert {result.attempt.status for result in again.values()} == {Status.REUSED}
    assert [again[shard_id].manifest for shard_id in SHARDS] == [first[shard_id].manifest for shard_id in SHARDS]
    assert {shard_id: staged.home.shard_file(shard_id).read_bytes() for shard_id in SHARDS} == before


def test_force_builds_an_unchanged_shard(staged: Site) -> None:
    first = build(request(staged))
    forced = build(request(staged, run_id="later", force=True))
    for shard_id in SHARDS:
        old, new = first[shard_id].manifest, forced[shard_id].manifest
        assert old is not None
        assert new is not None
        assert (new.run_id, new.content_hash) == ("later", old.content_hash)


def test_an_attempt_that_takes_too_long_is_interrupted_and_no_other(staged: Site, broken: Callable[..., None]) -> None:
    """A hung shard holds the whole run for ever, or takes its neighbours with it."""
    build(request(staged), ["shard_00", "shard_02"])
    broken("shard_01", _endless_query)
    results = build(request(staged, run_id="later", timeout_s=1.0, workers=1), ["shard_01", "shard_00", "shard_02"])
    assert isinstance(results["shard_01"].error, AttemptTimeoutError)
    assert (results["shard_01"].attempt.elapsed_ms or 0) < BACKSTOP_S * 1000
    assert "shard_01 took longer than ETL_SHARD_TIMEOUT_S=1 seconds" in (results["shard_01"].attempt.error or "")
    assert {name: result.attempt.status for name, result in results.items()} == {
        "shard_00": Status.REUSED,
        "shard_01": Status.FAILED,
        "shard_02": Status.REUSED,
    }
    assert not staged.home.shard_file("shard_01").exists()


def test_leaving_the_loop_cancels_what_is_under_way_and_begins_nothing_more(
    staged: Site, broken: Callable[..., None]
) -> None:
    """Ctrl-C waits for the longest query, and what it cancelled is published all the same."""
    broken("shard_00", _endless_query)
    news = build_many.build_shards(request(staged, workers=1), SHARDS)
    began = next(news)
    assert isinstance(began, Attempt)
    news.close()
    (cancelled,) = attempts.read_attempts(staged.home, SHARDS)
    assert (cancelled.shard_id, cancelled.status) == ("shard_00", Status.CANCELLED)
    assert (cancelled.elapsed_ms or 0) < BACKSTOP_S * 1000
    assert list(staged.home.root.glob("shards/*.duckdb")) == []


def test_a_retry_has_to_build_only_what_its_own_run_has_not_finished(staged: Site, broken: Callable[..., None]) -> None:
    """A retry would build, and report, everything again."""
    broken("shard_01", _no_disk)
    build(request(staged))
    assert build_many.unfinished(staged.home, "run", SHARDS) == ["shard_01"]
    assert build_many.unfinished(staged.home, "another run", SHARDS) == SHARDS


def test_a_shard_that_was_only_begun_is_unfinished(staged: Site) -> None:
    attempts.start(staged.home, "shard_02", "run", 1)
    assert build_many.unfinished(staged.home, "run", SHARDS) == SHARDS


def test_a_reused_shard_is_finished(staged: Site) -> None:
    build(request(staged))
    build(request(staged, run_id="later"), ["shard_00"])
    assert build_many.unfinished(staged.home, "later", SHARDS) == ["shard_01", "shard_02"]
    # The earlier run's work on it was overtaken by the later run's.
    assert build_many.unfinished(staged.home, "run", SHARDS) == ["shard_00"]


def test_a_shard_of_sources_that_are_not_staged_fails_its_attempt_and_says_so(sources: Path, site: Site) -> None:
    results = build(request(site), ["shard_00"])
    assert "not staged for 3 shards" in (results["shard_00"].attempt.error or "")
    assert on_record(site) == [("shard_00", 1, "failed")]


def test_small_shards_are_built_on_a_thread_each_and_large_ones_by_all_threads(staged: Site) -> None:
    """Fails: shards that do not fit in their share of the memory spill side by side, for nearly twice as long."""

    def at_once(memory_mb: int) -> int:
        return build_many.side_by_side(duck.Limits(memory_mb, threads=4), current_snapshots(staged), SHARDS)

    def claim(row_count: int) -> None:
        """Let a slice hold so many rows, by its accounting."""
        snapshot = current_snapshots(staged)["crm"]
        path = staged.home.snapshot("crm", snapshot.folder) / "snapshot.json"
        document = json.loads(path.read_text())
        more = row_count - document["slices"][1]["record_count"]
        document["slices"][1]["record_count"] = row_count
        document |= {name: document[name] + more for name in ("rows_in", "rows_accepted")}
        path.write_text(json.dumps(document))

    assert at_once(256) == 4
    claim(1_000_000)
    assert [at_once(memory_mb) for memory_mb in (100, 200, 400, 600, 10_000)] == [1, 1, 2, 3, 4]


def test_without_sources_every_shard_says_so(site: Site) -> None:
    """Fails: the run ends before it has begun a shard, and none is on record as failed."""
    results = build(request(site))
    assert {type(result.error) for result in results.values()} == {ConfigError}
    assert on_record(site) == [(shard_id, 1, "failed") for shard_id in SHARDS]


def test_a_connection_is_used_for_many_shards_until_one_fails(
    staged: Site, broken: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: making one takes as long as a small shard; or what an error left behind is in the next shard's way."""
    made: list[duckdb.DuckDBPyConnection] = []
    lock_down = duck.lock_down

    def counting(connection: duckdb.DuckDBPyConnection, *reach: Sequence[Path]) -> None:
        made.append(connection)
        lock_down(connection, *reach)

    monkeypatch.setattr(duck, "lock_down", counting)
    build(request(staged, workers=1))
    assert len(made) == 1
    made.clear()
    real: Build = build_shard

    def failing(site: Site, given: ShardInput, benches: duck.Workbenches, stop: Stop, **options: Any) -> Manifest:
        if given.shard_id == "shard_01":
            with benches.one(stop) as connection:
                connection.execute("ATTACH ':memory:' AS shard")
                raise OSError(28, "No space left on device")
        return real(site, given, benches, stop, **options)

    monkeypatch.setattr(build_many, "build_shard", failing)
    results = build(request(staged, workers=1, run_id="later", force=True))
    assert [results[shard_id].error is None for shard_id in SHARDS] == [True, False, True]
    assert len(made) == 2
    for connection in made:
        with pytest.raises(duckdb.ConnectionException):
            connection.execute("SELECT 1")


def test_a_query_that_cannot_be_right_fails_every_shard_and_publishes_none(staged: Site) -> None:
    """Fails: the run succeeds with nothing done, or the connections that were refused stay open."""
    lacking = replace(
        staged, project=Project(PROJECT.contract, "SELECT base.customer_id FROM customers", PROJECT.macros)
    )
    results = build(request(lacking))
    assert {type(result.error) for result in results.values()} == {ProfileError}
    assert on_record(staged) == [(shard_id, 1, "failed") for shard_id in SHARDS]
    assert all("does not select base.sources" in (result.attempt.error or "") for result in results.values())
    assert list(staged.home.root.glob("shards/*")) == []


def test_a_connection_that_a_project_cannot_use_is_closed(staged: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[duckdb.DuckDBPyConnection] = []
    lock_down = duck.lock_down

    def counting(connection: duckdb.DuckDBPyConnection, *reach: Sequence[Path]) -> None:
        made.append(connection)
        lock_down(connection, *reach)

    monkeypatch.setattr(duck, "lock_down", counting)
    lacking = replace(
        staged, project=Project(PROJECT.contract, "SELECT base.customer_id FROM customers", PROJECT.macros)
    )
    build(request(lacking, workers=1))
    assert made
    for connection in made:
        with pytest.raises(duckdb.ConnectionException):
            connection.execute("SELECT 1")


def test_a_shard_of_damaged_rows_says_so_and_withdraws_their_snapshot(staged: Site) -> None:
    """Fails: every later run reads the same damaged rows again."""
    crm = current_snapshots(staged)["crm"]
    path = staged.home.snapshot("crm", crm.folder) / "shard_01.parquet"
    path.write_bytes(path.read_bytes()[:100])
    results = build(request(staged), ["shard_00", "shard_01"])
    assert results["shard_00"].error is None
    error = results["shard_01"].error
    assert isinstance(error, DamagedSnapshotError)
    assert error.subject == "crm"
    with pytest.raises(ConfigError, match="Source crm not staged"):
        current_snapshots(staged)


@pytest.mark.parametrize("worker_count", [1, 3])
def test_the_shards_whose_files_are_damaged_are_found(staged: Site, worker_count: int) -> None:
    results = build(request(staged))
    manifests = [result.manifest for result in results.values() if result.manifest is not None]
    assert build_many.damaged(staged.home, manifests, worker_count) == []
    path = staged.home.shard_file("shard_01")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert build_many.damaged(staged.home, manifests, worker_count) == ["shard_01"]
