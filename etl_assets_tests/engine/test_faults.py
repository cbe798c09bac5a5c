"""Fault points: off unless asked for, never in production, aimed as they say, and really passed."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine import faults
from etl_assets.engine.faults import Action, InjectedFaultError
from etl_assets.engine.files.publishing import Home, publish_file
from etl_assets.engine.published import attempts
from etl_assets.engine.published.attempts import Status
from etl_assets.engine.workers import Stop
from etl_assets.errors import AttemptTimeoutError, ConfigError
from etl_assets.orchestration import run as launch
from etl_assets.project.settings import Settings, load_settings
from etl_assets_tests.dagster_runs import IMMEDIATELY, CodeLocation, settings_for
from etl_assets_tests.factory import row, write_exports


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm({})


@pytest.fixture
def settings(sources: Path, home: Home) -> Settings:
    customers = [row(f"c{number}") for number in range(40)]
    write_exports(sources, crm=[*customers, row("")], billing=customers[:20])
    return settings_for(sources, home, 4)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def test_nothing_happens_at_any_point_unless_a_variable_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a drill's leftovers break a night's run."""
    monkeypatch.setattr(faults, "_act", lambda *_: pytest.fail("a fault struck"))
    faults.arm({"ETL_ENV": "production", "PATH": "/bin", faults.FAULT_VARIABLE: " ; ", faults.CHAOS_VARIABLE: ""})
    for name in faults.POINTS:
        faults.point(name)


def test_settings_arm_what_the_environment_names_and_disarm_what_it_does_not(tmp_path: Path) -> None:
    load_settings({faults.FAULT_VARIABLE: "sweep raise; merge.copied raise"})
    for name in ("sweep", "merge.copied"):
        with pytest.raises(InjectedFaultError, match=f"injected fault at {name}, attempt 1"):
            faults.point(name)
    faults.point("merge.tables")
    load_settings({})
    faults.point("sweep")


@pytest.mark.parametrize(
    "text",
    [
        "shard.before_swop kill",
        "shard.before_swap kil",
        "shard.before_swap",
        "kill",
        "shard.before_swap kill shards=shard_01",
        "shard.before_swap kill attempts=one",
        "shard.before_swap kill attempts=1,",
        "shard.before_swap kill attempts=-1",
        "shard.before_swap kill shard=shard_01 attempts=1 now",
        "shard.before_swap kill now",
        "shard.before_swap kill shard_03",
        "shard.before_swap kill shard=sahrd_03",
        "shard.before_swap kill shard=",
        "shard.before_swap, kill",
        "sweep raise; nonsense",
    ],
)
def test_a_misspelt_fault_is_refused_with_what_can_be_spelt(text: str) -> None:
    """Fails: a drill proves that everything survives a fault that never struck."""
    with pytest.raises(ConfigError) as caught:
        faults.arm({faults.FAULT_VARIABLE: text})
    message = str(caught.value)
    assert all(name in message for name in (*faults.POINTS, *Action))
    assert f"Try: unset {faults.FAULT_VARIABLE}" in message


@pytest.mark.parametrize(("name", "value"), [("ETL_FAULT", "sweep slow"), ("CHAOS_FAIL_SHARD", "3")])
@pytest.mark.parametrize("production", ["production", " Production "])
def test_production_refuses_to_be_armed(name: str, value: str, production: str) -> None:
    """Fails: a variable left over from a drill breaks a real run."""
    with pytest.raises(ConfigError, match=f"ETL_ENV is production.*unset .*{name}"):
        load_settings({name: value, "ETL_ENV": production})


def test_a_fault_strikes_only_the_shard_and_the_attempts_it_names() -> None:
    faults.arm({faults.FAULT_VARIABLE: "shard.begin raise shard=2 attempts=1,3"})
    struck = []
    for shard_id in ("shard_01", "shard_02"):
        for attempt in (1, 2, 3, 4):
            with faults.scope(shard_id=shard_id, attempt=attempt):
                try:
                    faults.point("shard.begin")
                except InjectedFaultError:
                    struck.append((shard_id, attempt))
    assert struck == [("shard_02", 1), ("shard_02", 3)]


def test_a_permanent_fault_names_its_point_and_how_to_end_it() -> None:
    faults.arm({faults.FAULT_VARIABLE: "sweep raise-permanent"})
    with pytest.raises(ConfigError, match=r"permanent fault at sweep\. Try: unset ETL_FAULT"):
        faults.point("sweep")


def test_a_hang_ends_when_its_work_is_stopped() -> None:
    """Fails: the time limit of an attempt does not reach what hangs in it."""
    faults.arm({faults.FAULT_VARIABLE: "sweep hang"})
    stop = Stop()
    stop.request(AttemptTimeoutError("too long"))
    with faults.scope(stop=stop), pytest.raises(AttemptTimeoutError, match="too long"):
        faults.point("sweep")


def test_a_corrupted_file_keeps_its_size_and_changes_in_its_middle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    faults.arm({faults.FAULT_VARIABLE: "sweep corrupt"})
    faults.point("sweep", path)
    data = path.read_bytes()
    assert len(data) == 4096
    assert data[:1024] == bytes(1024) != data[1024:2048]
    faults.point("sweep", tmp_path / "missing")
    faults.point("sweep")


def test_a_failed_publication_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "shards" / "shard_00.duckdb"
    with publish_file(target) as path:
        path.write_text("old")
    faults.arm({faults.FAULT_VARIABLE: "shard.before_swap raise"})
    with pytest.raises(InjectedFaultError), publish_file(target) as path:
        path.write_text("new")
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_the_chaos_shard_fails_once_and_heals_on_its_second_attempt(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Fails: the first thing that the README lets a newcomer try does not work."""
    faults.arm({faults.CHAOS_VARIABLE: "3"})
    project = CodeLocation(settings, instance)
    project.publish()
    known = attempts.read_attempts(settings.home, ["shard_02", "shard_03"])
    told = [(a.shard_id, a.attempt, a.status) for a in known]
    assert told == [
        ("shard_02", 1, Status.SUCCEEDED),
        ("shard_03", 1, Status.FAILED),
        ("shard_03", 2, Status.SUCCEEDED),
    ]
    assert "injected fault at shard.begin, attempt 1" in (known[1].error or "")


def test_every_point_that_has_a_name_is_passed_and_no_other(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a fault is armed at a moment that never comes, or comes at one that cannot be armed."""
    passed = set()
    monkeypatch.setattr("etl_assets.orchestration.code_location.shard_retry_policy", lambda: IMMEDIATELY)
    monkeypatch.setattr(faults, "point", lambda name, path=None: passed.add(name))
    report = launch.run_pipeline(settings, instance=instance, on_event=lambda _: None)
    assert report.ok
    # Files that are not published one by one pass through the same moments, under names that cannot be armed.
    unnamed = {name for name in passed if name.partition(".")[2] in faults.MOMENTS} - set(faults.POINTS)
    assert passed - unnamed == set(faults.POINTS)


def _run(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, fault: str
) -> launch.Report:
    monkeypatch.setattr("etl_assets.orchestration.code_location.shard_retry_policy", lambda: IMMEDIATELY)
    faults.arm({faults.FAULT_VARIABLE: fault})
    return launch.run_pipeline(settings, instance=instance, on_event=lambda _: None)


@pytest.mark.parametrize("point", ["event.shards", "event.attempt"])
def test_dagster_learns_of_the_shards_of_an_attempt_that_failed_after_them(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Fails: the UI shows shards as missing that are published."""
    report = _run(settings, instance, monkeypatch, f"{point} raise attempts=1")
    assert report.ok
    assert len(instance.get_materialized_partitions(dg.AssetKey("shard_profiles"))) == 4


@pytest.mark.parametrize("point", ["attempt.begin", "event.attempt", "event.shards", "event.sources"])
def test_a_permanent_error_anywhere_in_a_step_ends_it_and_is_told(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Fails: what cannot heal is tried four times, and then nobody says what it was."""
    report = _run(settings, instance, monkeypatch, f"{point} raise-permanent attempts=1")
    assert not report.ok
    errors = [source.error for source in report.sources] + [found.error for found in report.shards]
    assert any(f"permanent fault at {point}" in (error or "") for error in errors)


def test_a_run_that_failed_after_it_published_does_not_say_that_nothing_changed(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = _run(settings, instance, monkeypatch, "event.merge raise")
    assert not report.ok
    assert report.is_warehouse_replaced
    refused = _run(settings, instance, monkeypatch, "merge.copied raise")
    assert not refused.ok
    assert not refused.is_warehouse_replaced
