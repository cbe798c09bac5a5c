"""Runs that meet: real processes on one ETL_HOME, held at chosen moments and let go by files they wait for."""

import pytest

from etl_assets.engine.files import publishing
from etl_assets.engine.published import attempts, checks, shards
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets_tests import factory
from etl_assets_tests.whole import readers
from etl_assets_tests.whole.sandbox import CUSTOMERS, Ended, Sandbox, ended

READERS = 40
DONE = Ended(0, (), "")

pytestmark = pytest.mark.slow


def _published_shard(sandbox: Sandbox, shard_id: str) -> shards.Manifest:
    """The manifest of a shard whose file holds what it says."""
    state = shards.read_shard(sandbox.home, shard_id)
    assert state.obstacle is None
    assert state.manifest is not None
    assert factory.verify_shard(sandbox.home, state.manifest) is None
    return state.manifest


def _digest(sandbox: Sandbox) -> str:
    published = read_publication(sandbox.home)
    assert published is not None
    return published.digest


@pytest.mark.parametrize("point", ["shard.before_swap", "manifest.before_swap"])
@pytest.mark.parametrize("first_out", [0, 1])
def test_two_runs_of_the_same_shard_at_once_leave_one_whole_shard(sandbox: Sandbox, first_out: int, point: str) -> None:
    """A backfill and a re-run by hand meet; a torn or mixed shard would go into the warehouse."""
    gates = [sandbox.gate(f"gate_{number}") for number in range(2)]
    runs = [sandbox.begin("shard_00", f"run_{number}", point, gates[number]) for number in range(2)]
    for gate in gates:
        gate.wait_until_reached()
    for number in (first_out, 1 - first_out):
        gates[number].open()
        assert ended(runs[number]) == DONE
        assert _published_shard(sandbox, "shard_00").run_id == f"run_{number}"
    sandbox.do("merge", "after")
    assert sandbox.generations() == [("first", CUSTOMERS)]
    assert sandbox.leftovers() == []


def test_two_merges_at_once_both_publish_the_same_warehouse(sandbox: Sandbox) -> None:
    """Fails: which of two merges came last decides what is published."""
    gates = [sandbox.gate(f"gate_{number}") for number in range(2)]
    merges = [sandbox.begin("merge", f"merge_{number}", "warehouse.before_swap", gates[number]) for number in range(2)]
    before = _digest(sandbox)
    for gate in gates:
        gate.wait_until_reached()
    for gate, merge in zip(gates, merges, strict=True):
        gate.open()
        assert ended(merge) == DONE
        assert _digest(sandbox) == before
        assert sandbox.generations() == [("first", CUSTOMERS)]
    assert sandbox.leftovers() == []


def test_a_merge_that_was_overtaken_does_not_put_the_older_warehouse_back(sandbox: Sandbox) -> None:
    """While one merge waited for its disk, the next generation was published; the older one then replaced it."""
    gate = sandbox.gate("gate")
    late = sandbox.begin("merge", "late", "warehouse.before_swap", gate)
    gate.wait_until_reached()
    sandbox.publish("second")
    gate.open()
    refused = ended(late).error
    assert refused["kind"] == "shard_set"
    assert refused["finding"].startswith("The set of shards changed while it was merged")
    assert sandbox.generations() == [("second", CUSTOMERS)]
    assert sandbox.leftovers() == []


def test_a_shard_that_was_overtaken_does_not_put_the_older_records_back(sandbox: Sandbox) -> None:
    """Fails: a worker that was slow publishes yesterday's customers over today's."""
    gate = sandbox.gate("gate")
    late = sandbox.begin("shard_00", "late", "shard.before_swap", gate)
    gate.wait_until_reached()
    sandbox.publish("second")
    gate.open()
    assert ended(late).error["kind"] == "source_changed"
    sandbox.do("merge", "again")
    assert sandbox.generations() == [("second", CUSTOMERS)]


@pytest.mark.parametrize("point", ["shard.end", "manifest.before_swap"])
def test_a_manifest_that_comes_after_another_generations_shard_cannot_vouch_for_it(
    sandbox: Sandbox, point: str
) -> None:
    """A worker stops between its file and its manifest, and the next generation is published in between.

    Fails: the old manifest then stands beside the new file, and a merge takes rows that it does not describe.
    """
    gate = sandbox.gate("gate")
    late = sandbox.begin("shard_00", "late", point, gate)
    gate.wait_until_reached()
    sandbox.publish("second")
    gate.open()
    assert ended(late) == DONE
    refused = ended(sandbox.begin("merge", "refused")).error
    assert refused["kind"] == "shard_set"
    assert refused["advice"][0]["shards"] == ["shard_00"]
    assert sandbox.generations() == [("second", CUSTOMERS)]
    sandbox.run()
    _assert_whole(sandbox, "second")


def test_a_merge_during_the_publication_of_a_shard_sees_the_old_or_the_new_one(sandbox: Sandbox) -> None:
    """Before the swap the merge takes the old shard; when the swap comes in its middle, it publishes nothing."""
    in_shard, in_merge = sandbox.gate("in_shard"), sandbox.gate("in_merge")
    rebuild = sandbox.begin("shard_00", "rebuilt", "shard.before_swap", in_shard)
    in_shard.wait_until_reached()
    sandbox.do("merge", "before the swap")
    late = sandbox.begin("merge", "late", "warehouse.before_swap", in_merge)
    in_merge.wait_until_reached()
    in_shard.open()
    assert ended(rebuild) == DONE
    in_merge.open()
    assert ended(late).error["kind"] == "shard_set"
    assert factory.query(sandbox.home.warehouse, "SELECT run_id FROM publication") == [("before the swap",)]
    sandbox.do("merge", "after the swap")
    runs = factory.query(sandbox.home.warehouse, "SELECT run_id FROM shard_manifest ORDER BY shard_id")
    assert runs == [("rebuilt",), ("first",)]


@pytest.mark.parametrize("point", ["shard.end", "manifest.before_swap"])
def test_a_merge_between_a_shards_file_and_its_manifest_mixes_nothing(sandbox: Sandbox, point: str) -> None:
    """The file is of the second generation, its manifest still of the first.

    Fails: the merge publishes rows that no manifest describes, or the shard is broken for good.
    """
    sandbox.export("second")
    sandbox.do("stage", "second")
    gate = sandbox.gate("gate")
    rebuild = sandbox.begin("shard_00", "second", point, gate)
    gate.wait_until_reached()
    refused = ended(sandbox.begin("merge", "in between")).error
    assert refused["kind"] == "shard_set"
    assert refused["advice"] == [{"action": "run", "setting": None, "value": None, "shards": ["shard_00", "shard_01"]}]
    assert sandbox.generations() == [("first", CUSTOMERS)]
    gate.open()
    assert ended(rebuild) == DONE
    sandbox.do("shard_01", "second")
    sandbox.do("merge", "second")
    _assert_whole(sandbox, "second")


def test_files_that_change_in_the_middle_of_a_run_never_mix_two_snapshots(sandbox: Sandbox) -> None:
    """One shard of yesterday beside one of today: customers would be counted from two states of the business."""
    sandbox.export("second")
    sandbox.do("stage", "second")
    sandbox.do("shard_00", "second")
    refused = ended(sandbox.begin("merge", "mixed")).error
    assert "shard_01: built from other source data" in refused["finding"]
    assert refused["advice"] == [{"action": "run", "setting": None, "value": None, "shards": ["shard_01"]}]
    assert sandbox.generations() == [("first", CUSTOMERS)]
    sandbox.do("shard_01", "second")
    sandbox.do("merge", "second")
    assert sandbox.generations() == [("second", CUSTOMERS)]


def test_a_file_that_changes_while_it_is_staged_is_not_published_under_the_old_name(sandbox: Sandbox) -> None:
    """Fails: a snapshot that is named after the old bytes holds the new ones, and is reused for the old file."""
    sandbox.export("second")
    gate = sandbox.gate("gate")
    late = sandbox.begin("stage", "second", "snapshot.before_swap", gate)
    gate.wait_until_reached()
    sandbox.export("third")
    gate.open()
    # The snapshot holds what its name says; it is only not the current one.
    assert ended(late).error["kind"] == "source_changed"
    for generation in ("third", "second"):
        sandbox.publish(generation)
        assert sandbox.generations() == [(generation, CUSTOMERS)]


def test_a_source_staged_twice_at_once_is_staged_once(sandbox: Sandbox) -> None:
    """Fails: two runs that stage the same export tear its snapshot or leave files behind."""
    sandbox.export("second")
    gates = [sandbox.gate(f"gate_{number}") for number in range(2)]
    runs = [sandbox.begin("stage", "force", "snapshot.before_swap", gate) for gate in gates]
    for gate in gates:
        gate.wait_until_reached()
    for gate, run in zip(gates, runs, strict=True):
        gate.open()
        assert ended(run) == DONE
    for action in ("shard_00", "shard_01", "merge"):
        sandbox.do(action, "second")
    assert sandbox.generations() == [("second", CUSTOMERS)]
    assert sandbox.leftovers() == []


def test_forty_readers_see_one_whole_generation_after_the_other(sandbox: Sandbox) -> None:
    """Fails: a dashboard breaks, or shows half of yesterday and half of today, while the pipeline publishes."""
    home = sandbox.home
    paths = [
        home.warehouse,
        *(path(name) for name in sandbox.site.shard_ids for path in (home.shard_file, home.manifest)),
    ]
    known = {path.name: [readers.look(path)] for path in paths}
    with readers.watching(paths, READERS, sandbox.folder / "stop") as found:
        for generation, customers in (("second", 55), ("third", 30), ("fourth", 70)):
            sandbox.publish(generation, customers)
            for path in paths:
                known[path.name].append(readers.look(path))
    last = known[home.warehouse.name][-1]
    assert last[1:] == (70, 70, "fourth", "fourth", 2)
    assert len(found) == READERS
    for seen in found:
        assert seen.failures == []
        assert readers.out_of_order(seen, known) == []
        assert {name: states[-1] for name, states in seen.states.items()} == {n: k[-1] for n, k in known.items()}
        assert len(seen.states[home.warehouse.name]) > 1, "it saw a publication from before to after"
    print(f"{sum(seen.polls for seen in found)} polls, at least {min(seen.polls for seen in found)} a reader")


def _runs_in_the_warehouse(sandbox: Sandbox) -> list[tuple[str, str]]:
    """Run and status of the attempts that the warehouse lists, each pair once."""
    return factory.query(sandbox.home.warehouse, "SELECT DISTINCT run_id, status FROM shard_attempts ORDER BY 1, 2")


def _assert_whole(sandbox: Sandbox, generation: str) -> None:
    """The warehouse is this generation and no other, its books are closed, and no file is left behind."""
    assert sandbox.generations() == [(generation, CUSTOMERS)]
    wanted = checks.warehouse_checks(sandbox.site.project)
    findings = checks.check_warehouse(sandbox.site, factory.LIMITS, wanted)
    assert [finding.name for finding in findings if not finding.passed] == []
    assert shards.inspect_shards(sandbox.site).obstacles == {}
    assert sandbox.leftovers() == []
    assert list(sandbox.home.root.rglob("*.wal")) == []


def test_two_whole_runs_at_once_leave_one_right_result_and_report_both(sandbox: Sandbox) -> None:
    """A schedule and a person start the same thing: fails when they tear it, lose it, or hide one of the two."""
    digest = _digest(sandbox)
    gates = [sandbox.gate(f"gate_{number}") for number in range(2)]
    runs = [sandbox.begin("run", "--force", "staging.read", gate) for gate in gates]
    for gate in gates:
        gate.wait_until_reached()
    for gate in gates:
        gate.open()
    ends = [ended(run) for run in runs]
    assert 0 in [end.code for end in ends], ends
    for end in ends:
        # The one that is overtaken reports it, and what to do.
        is_explained = end.merge_error_kinds == ["shard_set"] and end.report["recovery"] is not None
        assert end.code == 0 or (end.code == 1 and is_explained), end
    print([end.code for end in ends])
    assert _digest(sandbox) == digest
    known = attempts.read_attempts(sandbox.home, sandbox.site.shard_ids)
    assert len({attempt.run_id for attempt in known}) == 2
    assert [attempt.status for attempt in known] == [Status.SUCCEEDED] * 4
    _assert_whole(sandbox, "first")
    sandbox.do("merge", "again")
    assert _runs_in_the_warehouse(sandbox) == sorted({(attempt.run_id, "succeeded") for attempt in known})
    assert _digest(sandbox) == digest


def test_exports_that_change_after_they_were_staged_belong_to_the_next_run(sandbox: Sandbox) -> None:
    """Fails: what a run publishes depends on the second at which an upload ended."""
    sandbox.export("second")
    gate = sandbox.gate("gate")
    run = sandbox.begin("run", "", "shard.begin", gate)
    gate.wait_until_reached()
    sandbox.export("third")
    gate.open()
    assert ended(run).code == 0
    _assert_whole(sandbox, "second")
    sandbox.run()
    _assert_whole(sandbox, "third")


def test_a_run_whose_sources_are_staged_again_in_its_middle_publishes_no_mixture(sandbox: Sandbox) -> None:
    """One shard is of the old snapshot and one of the new one: fails when both are merged, or nothing is reported."""
    sandbox.export("second")
    gate = sandbox.gate("gate")
    run = sandbox.begin("run", "--shards shard_01", "shard.joined", gate)
    gate.wait_until_reached()
    sandbox.export("third")
    sandbox.do("stage", "third")
    gate.open()
    end = ended(run)
    assert end.code == 1
    assert end.merge_error_kinds == ["shard_set"]
    assert "shard_00: built from other source data" in end.report["merge_error"]
    # Overtaken, it was built again in the same run, from the new snapshot alone.
    assert [status for status, _ in _attempts_of(sandbox, "shard_01")] == [Status.FAILED, Status.SUCCEEDED]
    assert "SourceChangedError" in _attempts_of(sandbox, "shard_01")[0][1]
    emails = factory.query(sandbox.home.shard_file("shard_01"), "SELECT DISTINCT email FROM profiles")
    assert emails == [("third",)]
    assert sandbox.generations() == [("first", CUSTOMERS)]
    sandbox.run()
    _assert_whole(sandbox, "third")


def _attempts_of(sandbox: Sandbox, shard_id: str) -> list[tuple[Status, str]]:
    known = attempts.read_attempts(sandbox.home, [shard_id])
    return [(attempt.status, attempt.error or "") for attempt in known]


def test_a_killed_attempt_is_listed_although_its_shard_was_reused_since(sandbox: Sandbox) -> None:
    """Fails: the warehouse hides that a worker died, because the next run finds all shards current."""
    sandbox.run()
    gate = sandbox.gate("gate")
    killed = sandbox.begin("run", "--force --shards shard_00", "shard.joined", gate)
    gate.wait_until_reached()
    killed.kill()
    killed.wait()
    assert sandbox.run("--shards", "shard_00").report["is_warehouse_replaced"]
    assert {status for _, status in _runs_in_the_warehouse(sandbox)} == {"killed", "reused"}
    before = publishing.stamp(sandbox.home.warehouse)
    again = sandbox.run()
    assert again.report["is_unchanged"]
    assert publishing.stamp(sandbox.home.warehouse) == before


@pytest.mark.parametrize("point", ["shard.before_swap", "shard.after_swap", "manifest.before_swap"])
def test_an_abandoned_attempt_that_wakes_up_later_changes_nothing(sandbox: Sandbox, point: str) -> None:
    """A worker hangs, another one builds and publishes its shard; fails when the first one then spoils that."""
    digest = _digest(sandbox)
    gate = sandbox.gate("gate")
    zombie = sandbox.begin("run", "--force --shards shard_00", point, gate)
    gate.wait_until_reached()
    sandbox.run("--force")
    assert _digest(sandbox) == digest
    # It is neither dead nor done: nothing is said of it yet, and its file is not swept from under it.
    assert {status for _, status in _runs_in_the_warehouse(sandbox)} == {"succeeded"}
    assert len(_runs_in_the_warehouse(sandbox)) == 1
    assert len(sandbox.leftovers()) > 0
    gate.open()
    assert ended(zombie).code == 0
    assert _digest(sandbox) == digest
    assert len(_runs_in_the_warehouse(sandbox)) == 2
    assert [status for status, _ in _attempts_of(sandbox, "shard_00")] == [Status.SUCCEEDED, Status.SUCCEEDED]
    sandbox.do("merge", "again")
    assert _digest(sandbox) == digest
    _assert_whole(sandbox, "first")
