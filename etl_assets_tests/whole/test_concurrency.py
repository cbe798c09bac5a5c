"""Runs that meet: real processes on one ETL_HOME, held at chosen moments and let go by files they wait for."""

import re

import pytest

from etl_assets.engine.published import attempts, checks, warehouse
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.steps import build as shard
from etl_assets.errors import SourceChangedError
from etl_assets_tests import factory
from etl_assets_tests.whole import readers
from etl_assets_tests.whole.sites import CUSTOMERS, Site, ended

READERS = 40

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_runs_of_the_same_shard_at_once_leave_one_whole_shard(site: Site, first_out: int) -> None:
    """A backfill and a re-run by hand meet; a torn or mixed shard would go into the warehouse."""
    gates = [site.gate(f"gate_{number}") for number in range(2)]
    runs = [site.begin("shard_00", f"run_{number}", "shard.before_swap", gates[number]) for number in range(2)]
    for gate in gates:
        gate.wait_until_reached()
    for number in (first_out, 1 - first_out):
        gates[number].open()
        assert ended(runs[number]) == (0, "")
        state = shard.read_shard(site.home, "shard_00")
        assert state.manifest is not None
        assert state.manifest.run_id == f"run_{number}"
        assert shard.verify_shard(site.home, state.manifest) is None
    site.do("merge", "after")
    assert site.generations() == [("first", CUSTOMERS)]
    assert site.leftovers() == []


def test_two_merges_at_once_both_publish_the_same_warehouse(site: Site) -> None:
    gates = [site.gate(f"gate_{number}") for number in range(2)]
    merges = [site.begin("merge", f"merge_{number}", "warehouse.before_swap", gates[number]) for number in range(2)]
    before = warehouse.read_publication(site.home)
    assert before is not None
    for number in range(2):
        gates[number].wait_until_reached()
    for number in range(2):
        gates[number].open()
        assert ended(merges[number]) == (0, "")
        published = warehouse.read_publication(site.home)
        assert published is not None
        assert published["digest"] == before["digest"]
        assert site.generations() == [("first", CUSTOMERS)]
    assert site.leftovers() == []


def test_a_merge_that_was_overtaken_does_not_put_the_older_warehouse_back(site: Site) -> None:
    """While one merge waited for its disk, the next generation was published; the older one then replaced it."""
    gate = site.gate("gate")
    late = site.begin("merge", "late", "warehouse.before_swap", gate)
    gate.wait_until_reached()
    site.publish("second")
    gate.open()
    code, out = ended(late)
    assert code == 3
    assert out.startswith("ShardSetError: The set of shards changed while it was merged")
    assert site.generations() == [("second", CUSTOMERS)]
    assert site.leftovers() == []


def test_a_shard_that_was_overtaken_does_not_put_the_older_records_back(site: Site) -> None:
    gate = site.gate("gate")
    late = site.begin("shard_00", "late", "shard.before_swap", gate)
    gate.wait_until_reached()
    site.publish("second")
    gate.open()
    code, out = ended(late)
    assert (code, out.partition(":")[0]) == (3, "SourceChangedError")
    site.do("merge", "again")
    assert site.generations() == [("second", CUSTOMERS)]


def test_a_merge_during_the_publication_of_a_shard_sees_the_old_or_the_new_one(site: Site) -> None:
    """Before the swap the merge takes the old shard; when the swap comes in its middle, it publishes nothing."""
    in_shard, in_merge = site.gate("in_shard"), site.gate("in_merge")
    rebuild = site.begin("shard_00", "rebuilt", "shard.before_swap", in_shard)
    in_shard.wait_until_reached()
    site.do("merge", "before the swap")
    late = site.begin("merge", "late", "warehouse.before_swap", in_merge)
    in_merge.wait_until_reached()
    in_shard.open()
    assert ended(rebuild) == (0, "")
    in_merge.open()
    code, out = ended(late)
    assert code == 3, out
    assert factory.query(site.home.warehouse, "SELECT run_id FROM publication") == [("before the swap",)]
    site.do("merge", "after the swap")
    runs = factory.query(site.home.warehouse, "SELECT run_id FROM shard_manifest ORDER BY shard_id")
    assert runs == [("rebuilt",), ("first",)]


def test_files_that_change_in_the_middle_of_a_run_never_mix_two_snapshots(site: Site) -> None:
    """One shard of yesterday beside one of today: customers would be counted from two states of the business."""
    site.export("second")
    site.do("stage", "second")
    site.do("shard_00", "second")
    refused = site.begin("merge", "mixed")
    code, out = ended(refused)
    assert code == 3
    assert "shard_01: built from other source data" in out
    assert "etl-assets run --shards shard_01" in out
    assert site.generations() == [("first", CUSTOMERS)]
    site.do("shard_01", "second")
    site.do("merge", "second")
    assert site.generations() == [("second", CUSTOMERS)]


def test_a_file_that_changes_while_it_is_staged_is_not_published_under_the_old_name(site: Site) -> None:
    site.export("second")
    gate = site.gate("gate")
    late = site.begin("stage", "second", "snapshot.before_swap", gate)
    gate.wait_until_reached()
    site.export("third")
    gate.open()
    code, out = ended(late)
    # The snapshot holds what its name says; it is only not the current one.
    assert (code, out.partition(":")[0]) == (3, SourceChangedError.__name__)
    for generation in ("third", "second"):
        site.publish(generation)
        assert site.generations() == [(generation, CUSTOMERS)]


def test_a_source_staged_twice_at_once_is_staged_once(site: Site) -> None:
    site.export("second")
    gates = [site.gate(f"gate_{number}") for number in range(2)]
    runs = [site.begin("stage", "force", "snapshot.before_swap", gate) for gate in gates]
    for gate in gates:
        gate.wait_until_reached()
    for gate, run in zip(gates, runs, strict=True):
        gate.open()
        assert ended(run) == (0, "")
    for action in ("shard_00", "shard_01", "merge"):
        site.do(action, "second")
    assert site.generations() == [("second", CUSTOMERS)]
    assert site.leftovers() == []


def test_forty_readers_see_one_whole_generation_after_the_other(site: Site) -> None:
    """Fails: a dashboard breaks, or shows half of yesterday and half of today, while the pipeline publishes."""
    paths = [site.home.warehouse, site.home.shard_file("shard_00"), site.home.shard_file("shard_01")]
    known = {path.name: [readers.look(path)] for path in paths}
    with readers.watching(paths, READERS, site.folder / "stop") as found:
        for generation, customers in (("second", 55), ("third", 30), ("fourth", 70)):
            site.publish(generation, customers)
            for path in paths:
                known[path.name].append(readers.look(path))
    assert known[site.home.warehouse.name][-1][1:4] == (70, 70, "fourth")
    assert len(found) == READERS
    for seen in found:
        assert seen.failures == []
        assert readers.out_of_order(seen, known) == []
        assert {name: states[-1] for name, states in seen.states.items()} == {n: k[-1] for n, k in known.items()}
        assert len(seen.states[site.home.warehouse.name]) > 1, "it saw a publication from before to after"
    print(f"{sum(seen.polls for seen in found)} polls, at least {min(seen.polls for seen in found)} a reader")


def _told(site: Site) -> list[tuple[str, str]]:
    """Run and status of every attempt that the warehouse tells of, but not the shard's."""
    return factory.query(site.home.warehouse, "SELECT DISTINCT run_id, status FROM shard_attempts ORDER BY 1, 2")


def _digest(site: Site) -> str:
    published = warehouse.read_publication(site.home)
    assert published is not None
    return str(published["digest"])


def _assert_whole(site: Site, generation: str) -> None:
    """The warehouse is this generation and no other, its books are closed, and nothing lies about."""
    assert site.generations() == [(generation, CUSTOMERS)]
    assert [found.name for found in checks.check_warehouse(site.home, factory.LIMITS) if not found.passed] == []
    assert shardset.inspect_shards(site.home, 2).problems == {}
    assert site.leftovers() == []
    assert list(site.home.root.rglob("*.wal")) == []


def test_two_whole_runs_at_once_leave_one_right_result_and_tell_of_both(site: Site) -> None:
    """A schedule and a person start the same thing: fails when they tear it, lose it, or hide one of the two."""
    digest = _digest(site)
    gates = [site.gate(f"gate_{number}") for number in range(2)]
    runs = [site.begin("run", "--force", "staging.read", gate) for gate in gates]
    for gate in gates:
        gate.wait_until_reached()
    for gate in gates:
        gate.open()
    ends = [ended(run) for run in runs]
    assert 0 in [code for code, _ in ends], ends
    for code, out in ends:
        # Who is overtaken says so, and what to do.
        is_told = re.search("(during the merge|while it was merged).*etl-assets run", out, re.DOTALL)
        assert code == 0 or (code == 1 and is_told), out
    print([code for code, _ in ends])
    assert _digest(site) == digest
    known = attempts.read_attempts(site.home, ["shard_00", "shard_01"])
    assert len({attempt.run_id for attempt in known}) == 2
    assert [attempt.status for attempt in known] == ["succeeded"] * 4
    _assert_whole(site, "first")
    site.do("merge", "again")
    assert _told(site) == sorted({(attempt.run_id, "succeeded") for attempt in known})
    assert _digest(site) == digest


def test_exports_that_change_after_they_were_staged_belong_to_the_next_run(site: Site) -> None:
    """Fails: what a run publishes depends on the second at which an upload ended."""
    site.export("second")
    gate = site.gate("gate")
    run = site.begin("run", "", "shard.begin", gate)
    gate.wait_until_reached()
    site.export("third")
    gate.open()
    code, out = ended(run)
    assert code == 0, out
    _assert_whole(site, "second")
    site.run()
    _assert_whole(site, "third")


def test_a_run_whose_sources_are_staged_anew_in_its_middle_publishes_no_mixture(site: Site) -> None:
    """One shard is of the old snapshot and one of the new one: fails when both are merged, or when it is not told."""
    site.export("second")
    gate = site.gate("gate")
    run = site.begin("run", "--shards shard_01", "shard.joined", gate)
    gate.wait_until_reached()
    site.export("third")
    site.do("stage", "third")
    gate.open()
    code, out = ended(run)
    assert code == 1
    assert "shard_00: built from other source data" in out
    assert "etl-assets run --shards shard_00" in out
    # Overtaken, it was built again in the same run, from the new snapshot alone.
    assert [row[0] for row in _attempts_of(site, "shard_01")] == ["failed", "succeeded"]
    assert "SourceChangedError" in _attempts_of(site, "shard_01")[0][1]
    emails = factory.query(site.home.shard_file("shard_01"), "SELECT DISTINCT email FROM profiles")
    assert emails == [("third",)]
    assert site.generations() == [("first", CUSTOMERS)]
    site.run()
    _assert_whole(site, "third")


def _attempts_of(site: Site, shard_id: str) -> list[tuple[str, str]]:
    known = attempts.read_attempts(site.home, [shard_id])
    return [(str(attempt.status), attempt.error or "") for attempt in known]


@pytest.mark.parametrize("point", ["shard.before_swap", "shard.after_swap"])
def test_an_attempt_that_was_given_up_and_wakes_up_later_changes_nothing(site: Site, point: str) -> None:
    """A worker hangs, its shard is built by another one and published; fails when the first one then spoils that."""
    digest = _digest(site)
    gate = site.gate("gate")
    zombie = site.begin("run", "--force --shards shard_00", point, gate)
    gate.wait_until_reached()
    site.run("--force")
    assert _digest(site) == digest
    # It is neither dead nor done: nothing is said of it yet, and its file is not swept from under it.
    assert {status for _, status in _told(site)} == {"succeeded"}
    assert len(_told(site)) == 1
    assert len(site.leftovers()) > 0
    gate.open()
    code, out = ended(zombie)
    assert code == 0, out
    assert _digest(site) == digest
    assert len(_told(site)) == 2
    assert [row[0] for row in _attempts_of(site, "shard_00")] == ["succeeded", "succeeded"]
    site.do("merge", "again")
    assert _digest(site) == digest
    _assert_whole(site, "first")
