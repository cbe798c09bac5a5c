"""The checks of shards in Dagster: what a build found before it published, or refused to."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from etl_assets.errors import AccountingError
from etl_assets.project.contract import ProfileColumn
from etl_assets_tests.dagster_runs import CodeLocation, facts, failure_text, range_tags
from etl_assets_tests.factory import PROJECT, query
from etl_assets_tests.orchestration.breaking import ALWAYS, DISK_ERROR, break_shards

SHARDS = dg.AssetKey("shard_profiles")
SOUND = {"accounting_closed": True, "profiles_as_declared": True}


def passed(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Which checks of shards passed in a run; each must have been evaluated once."""
    found = [(check.check_name, check.passed) for check in _evaluations(result)]
    assert len(dict(found)) == len(found)
    return dict(found)


def figures(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    """What a check says beside its result."""
    (check,) = [check for check in _evaluations(result) if check.check_name == name]
    return facts(check.metadata)


def _evaluations(result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    return [check for check in result.get_asset_check_evaluations() if check.asset_key == SHARDS]


@pytest.fixture
def staged(location: CodeLocation) -> CodeLocation:
    assert location.stage().success
    return location


def promising(location: CodeLocation, **column: Any) -> CodeLocation:
    """The same project with one more promise of its profiles, staged; the checks need no code of their own."""
    contract = PROJECT.contract.model_copy(
        update={"profile": (*PROJECT.contract.profile, ProfileColumn.model_validate(column))}
    )
    other = CodeLocation(location.settings, location.instance, project=replace(PROJECT, contract=contract))
    assert other.stage().success
    return other


def test_a_run_of_one_shard_passes_its_checks_with_figures(staged: CodeLocation) -> None:
    result = staged.run("shard_profiles", partition="shard_01")
    assert result.success, failure_text(result)
    assert passed(result) == SOUND
    ((count,),) = query(staged.site.home.shard_file("shard_01"), "SELECT count(*) FROM profiles")
    assert count > 0
    for name in SOUND:
        assert figures(result, name) == {"shards_checked": 1, "profiles_checked": count, "shards_refused": []}


def test_a_run_of_many_shards_has_one_result_for_all_of_them(staged: CodeLocation) -> None:
    result = staged.build_all()
    assert result.success, failure_text(result)
    assert passed(result) == SOUND
    for name in SOUND:
        assert figures(result, name) == {"shards_checked": 3, "profiles_checked": 6, "shards_refused": []}


def test_shards_that_are_reused_pass_too(staged: CodeLocation) -> None:
    """Fails: the checks turn grey with the first run that has nothing to build."""
    for _ in range(2):
        result = staged.build_all()
        assert passed(result) == SOUND
    assert figures(result, "accounting_closed")["profiles_checked"] == 6


@pytest.mark.parametrize("tags", [{}, range_tags(["shard_00", "shard_01", "shard_02"])], ids=["one shard", "a range"])
def test_a_shard_that_breaks_a_promise_is_refused_and_the_check_says_so(
    location: CodeLocation, tags: Mapping[str, str]
) -> None:
    """Fails: a shard is refused and every check of it is green, or none was ever evaluated."""
    # Every customer of these exports is of that industry, or of none.
    strict = promising(location, name="industry", values=["Farming"])
    result = strict.run("shard_profiles", partition=None if tags else "shard_01", tags=dict(tags))
    assert not result.success
    assert "profiles whose values are not what the contract promises" in failure_text(result)
    assert "Change sql/profiles.sql of the project" in failure_text(result)
    assert "STEP_UP_FOR_RETRY" not in [event.event_type_value for event in result.all_events]
    refused = ["shard_00", "shard_01", "shard_02"] if tags else ["shard_01"]
    assert passed(result)["profiles_as_declared"] is False
    assert sorted(figures(result, "profiles_as_declared")["shards_refused"]) == refused
    assert not strict.instance.get_materialized_partitions(SHARDS)
    # Nothing is known of the accounts of shards that were not published.
    assert "accounting_closed" not in passed(result)


def test_one_refused_shard_of_a_range_is_named_and_the_others_are_counted(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_shards(monkeypatch, AccountingError("A customer too many."), {"shard_01": ALWAYS})
    result = staged.build_all()
    assert passed(result) == {"accounting_closed": False, "profiles_as_declared": True}
    accounts = figures(result, "accounting_closed")
    assert (accounts["shards_checked"], accounts["shards_refused"]) == (3, ["shard_01"])
    assert figures(result, "profiles_as_declared")["shards_checked"] == 2


def test_a_broken_disk_turns_no_check_red(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: what only the machine did is shown as wrong data."""
    break_shards(monkeypatch, DISK_ERROR, {"shard_01": ALWAYS})
    result = staged.run("shard_profiles", partition="shard_01")
    assert not result.success
    assert passed(result) == {}


def test_a_retry_that_heals_leaves_its_checks_green(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    break_shards(monkeypatch, DISK_ERROR, {"shard_01": 1})
    result = staged.build_all()
    assert result.success, failure_text(result)
    latest = {check.check_name: check.passed for check in _evaluations(result)}
    assert latest == SOUND
    assert facts(_evaluations(result)[-1].metadata)["shards_checked"] == 3


def test_each_check_says_in_the_ui_what_it_promises(location: CodeLocation) -> None:
    graph = location.defs.resolve_asset_graph()
    keys = graph.get_check_keys_for_assets({SHARDS})
    assert {key.name for key in keys} == SOUND.keys()
    assert all(len(graph.get_check_spec(key).description or "") > 40 for key in keys)
