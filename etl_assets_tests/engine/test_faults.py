"""Fault points: off unless asked for, never in production, aimed as they say, and really passed."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_assets import errors
from etl_assets.engine import faults
from etl_assets.engine.faults import Action, InjectedFaultError
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.publishing import publish_directory, publish_file
from etl_assets.engine.published import attempts
from etl_assets.engine.published.status import Status
from etl_assets.engine.routing import shard_key
from etl_assets.engine.stopping import Stop
from etl_assets.errors import Advice, AttemptTimeoutError, ConfigError
from etl_assets.orchestration.run import run_pipeline
from etl_assets.pipeline.configuration import arm_faults, site_of
from etl_assets.pipeline.report import Report
from etl_assets.project.settings import Settings, load_settings
from etl_assets_tests.dagster_runs import IMMEDIATELY, CodeLocation, settings_for
from etl_assets_tests.factory import PROJECT, row, write_exports

UNSET_FAULT = Advice(errors.Action.UNSET, "ETL_FAULT")


def arm(fault: str = "", chaos: str = "", *, shard_count: int = 10, is_production: bool = False) -> None:
    faults.arm(fault, chaos, is_production=is_production, shard_count=shard_count)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm()


@pytest.fixture
def settings(sources: Path, home: Home) -> Settings:
    customers = [row(f"c{number}") for number in range(40)]
    write_exports(sources, crm=[*customers, row("")], billing=customers[:20])
    return settings_for(sources, home, 4)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def test_nothing_happens_at_any_point_unless_a_setting_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a drill's leftovers break a night's run."""
    monkeypatch.setattr(faults, "_act", lambda *_: pytest.fail("a fault struck"))
    arm(" ; ", "  ", is_production=True)
    for name in faults.POINTS:
        faults.point(name)


def test_reading_settings_arms_nothing_and_a_process_that_works_arms_what_they_name() -> None:
    """Fails: a library that asks for a default has faults strike in a process that never wanted any."""
    settings = load_settings({"ETL_FAULT": "sweep raise; merge.copied raise"})
    faults.point("sweep")
    arm_faults(settings)
    for name in ("sweep", "merge.copied"):
        with pytest.raises(InjectedFaultError, match=f"injected fault at {name}, attempt 1"):
            faults.point(name)
    faults.point("merge.tables")
    arm_faults(load_settings({}))
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
        arm(text)
    assert all(name in caught.value.finding for name in (*faults.POINTS, *Action))
    assert UNSET_FAULT in caught.value.advice


@pytest.mark.parametrize(("name", "value"), [("ETL_FAULT", "sweep slow"), ("CHAOS_FAIL_SHARD", "3")])
@pytest.mark.parametrize("production", ["production", " Production "])
def test_production_refuses_to_be_armed(name: str, value: str, production: str) -> None:
    """Fails: a variable left over from a drill breaks a real run."""
    settings = load_settings({name: value, "ETL_ENV": production})
    with pytest.raises(ConfigError, match="ETL_ENV is production") as caught:
        arm_faults(settings)
    assert Advice(errors.Action.UNSET, name) in caught.value.advice
    faults.point("sweep")


@pytest.mark.parametrize("spelling", ["3", "03", "003", " 3 ", "shard_003"])
@pytest.mark.parametrize("shard_count", [10, 100, 101, 1000])
def test_the_chaos_shard_is_struck_however_many_digits_its_name_has(spelling: str, shard_count: int) -> None:
    """Fails: with more than a hundred shards, `CHAOS_FAIL_SHARD=3` never strikes and the drill passes untested."""
    arm(chaos=spelling, shard_count=shard_count)
    struck = []
    for number in range(shard_count):
        with faults.scope(shard_id=shard_key(number, shard_count)):
            try:
                faults.point("shard.begin")
            except InjectedFaultError:
                struck.append(number)
    assert struck == [3]


@pytest.mark.parametrize(("fault", "chaos"), [("shard.begin raise shard=shard_10", ""), ("", "10"), ("", "shard_010")])
def test_a_shard_that_does_not_exist_is_refused_with_the_last_one(fault: str, chaos: str) -> None:
    """Fails: a drill waits for a fault that cannot strike, and reports success."""
    with pytest.raises(ConfigError, match=r"there are 10 shards: the last is shard_09"):
        arm(fault, chaos, shard_count=10)
    arm(fault, chaos, shard_count=11)


@pytest.mark.parametrize("chaos", ["first", "-1", "3 4", "3;4", "0x3", "3.0"])
def test_a_chaos_shard_that_is_no_number_is_refused(chaos: str) -> None:
    with pytest.raises(ConfigError) as caught:
        arm(chaos=chaos)
    assert Advice(errors.Action.UNSET, "CHAOS_FAIL_SHARD") in caught.value.advice


def test_a_fault_strikes_only_the_shard_and_the_attempts_it_names() -> None:
    arm("shard.begin raise shard=2 attempts=1,3")
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
    arm("sweep raise-permanent")
    with pytest.raises(ConfigError, match=r"permanent fault at sweep\.") as caught:
        faults.point("sweep")
    assert UNSET_FAULT in caught.value.advice


def test_a_hang_ends_when_its_work_is_stopped() -> None:
    """Fails: the time limit of an attempt does not reach what hangs in it."""
    arm("sweep hang")
    stop = Stop()
    stop.request(AttemptTimeoutError("too long"))
    with faults.scope(stop=stop), pytest.raises(AttemptTimeoutError, match="too long"):
        faults.point("sweep")


def test_a_corrupted_file_keeps_its_size_and_changes_in_its_middle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    arm("sweep corrupt")
    faults.point("sweep", path)
    data = path.read_bytes()
    assert len(data) == 4096
    assert data[:1024] == bytes(1024) != data[1024:2048]
    faults.point("sweep", tmp_path / "missing")
    faults.point("sweep")


def test_a_failed_publication_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "shards" / "shard_00.duckdb"
    with publish_file(target, what="shard") as path:
        path.write_text("old")
    arm("shard.before_swap raise")
    with pytest.raises(InjectedFaultError), publish_file(target, what="shard") as path:
        path.write_text("new")
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_every_publication_passes_its_moments_in_order_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a fault between two moments of one publication cannot be armed, or strikes another one."""
    passed: list[str] = []
    monkeypatch.setattr(faults, "point", lambda name, path=None: passed.append(name))
    with publish_file(tmp_path / "shard_00.json", what="manifest") as path:
        path.write_text("{}")
    with publish_directory(tmp_path / "snapshot", what="snapshot"):
        pass
    with publish_file(tmp_path / "export.csv", what=None) as path:
        path.write_text("")
    assert passed == [f"{what}.{moment}" for what in ("manifest", "snapshot") for moment in faults.MOMENTS]


def test_the_chaos_shard_fails_once_and_heals_on_its_second_attempt(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Fails: the first thing that the README lets a newcomer try does not work."""
    arm(chaos="3", shard_count=4)
    project = CodeLocation(settings, instance)
    project.publish()
    known = attempts.read_attempts(Home(settings.home), ["shard_02", "shard_03"])
    assert [(a.shard_id, a.number, a.status) for a in known] == [
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
    monkeypatch.setattr(faults, "point", lambda name, path=None: passed.add(name))
    assert _run(settings, instance, monkeypatch).ok
    assert passed == set(faults.RUN_POINTS)


def _run(settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, fault: str = "") -> Report:
    monkeypatch.setattr("etl_assets.orchestration.code_location.shard_retry_policy", lambda: IMMEDIATELY)
    arm(fault)
    return run_pipeline(site_of(PROJECT, settings), settings, instance=instance, on_event=lambda _: None)


@pytest.mark.parametrize("point", ["event.shards", "event.attempt"])
def test_dagster_learns_of_the_shards_of_an_attempt_that_failed_after_them(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Fails: the UI shows shards as missing that are published."""
    report = _run(settings, instance, monkeypatch, f"{point} raise attempts=1")
    assert report.ok
    assert len(instance.get_materialized_partitions(dg.AssetKey("shard_profiles"))) == 4


@pytest.mark.parametrize("point", ["attempt.begin", "event.attempt", "event.shards", "event.sources"])
def test_a_permanent_error_anywhere_in_a_step_ends_it_and_is_reported(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Fails: what cannot heal is tried four times, and then no one says what it was."""
    report = _run(settings, instance, monkeypatch, f"{point} raise-permanent attempts=1")
    assert not report.ok
    reported = [str(source.error) for source in report.sources] + [str(shard.error) for shard in report.shards]
    assert any(f"permanent fault at {point}" in error for error in reported)


def test_a_run_that_failed_after_it_published_does_not_say_that_nothing_changed(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = _run(settings, instance, monkeypatch, "event.merge raise")
    assert not report.ok
    assert report.is_warehouse_replaced
    refused = _run(settings, instance, monkeypatch, "merge.copied raise")
    assert not refused.ok
    assert not refused.is_warehouse_replaced
