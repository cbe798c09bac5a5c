"""What is compared with what, at every stage of a home. How it is shown is tested with the command."""

from collections.abc import Callable
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.publishing import publish_json
from etl_assets.engine.published import attempts
from etl_assets.engine.published.shards import inspect_shards
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.engine.steps import merge
from etl_assets.pipeline.configuration import exports_of, site_of
from etl_assets.pipeline.overview import Facts, MergeRefusalFacts, collect
from etl_assets.project.settings import Settings
from etl_assets_tests import factory
from etl_assets_tests.dagster_runs import settings_for
from etl_assets_tests.factory import PROJECT, row

NAMES = PROJECT.contract.source_names


@pytest.fixture
def settings(sources: Path, home: Home) -> Settings:
    customers = [row(f"c{number}") for number in range(20)]
    factory.write_exports(sources, crm=customers, billing=customers)
    return settings_for(sources, home)


@pytest.fixture
def site(settings: Settings) -> Site:
    return site_of(PROJECT, settings)


@pytest.fixture
def published(site: Site, settings: Settings) -> Site:
    """A publication by the engine."""
    factory.run_engine(exports_of(settings), site)
    return site


def states(facts: Facts) -> tuple[list[str], list[str], str, str | None]:
    """The states of sources, shards and warehouse, and the next step."""
    return (
        [source.state for source in facts.sources],
        [shard.state.value for shard in facts.shards],
        facts.warehouse.state,
        facts.next_step,
    )


CURRENT, PUBLISHED = ["current"] * 4, ["published"] * 3


def test_without_exports_nothing_helps_but_exports(tmp_path: Path, home: Home) -> None:
    settings = settings_for(tmp_path / "nowhere", home)
    facts = collect(site_of(PROJECT, settings), settings)
    assert states(facts) == (["unavailable"] * 4, ["missing"] * 3, "missing", None)
    assert not home.root.exists()


def test_with_exports_the_next_step_is_a_run(site: Site, settings: Settings) -> None:
    assert states(collect(site, settings)) == (["not_staged"] * 4, ["missing"] * 3, "missing", "run")


def test_after_a_publication_there_is_no_next_step(published: Site, settings: Settings) -> None:
    facts = collect(published, settings)
    assert states(facts) == (CURRENT, PUBLISHED, "current", None)
    assert [source.rows_in for source in facts.sources] == [20, 20, 0, 0]
    assert sum(shard.record_count or 0 for shard in facts.shards) == facts.warehouse.record_count == 20


def _stage_another(site: Site, settings: Settings) -> None:
    factory.write_exports(exports_of(settings), crm=[row("new")])
    factory.stage_all(factory.staging_request(exports_of(settings), site))


def _merge_partially(site: Site, settings: Settings) -> None:
    site.home.shard_file("shard_01").unlink()
    merge.merge_shards(site, factory.LIMITS, run_id="partial", allow_partial=True)


@pytest.mark.parametrize(
    ("change", "shards", "warehouse"),
    [
        pytest.param(_stage_another, ["stale"] * 3, "outdated", id="other data"),
        pytest.param(_merge_partially, ["published", "missing", "published"], "partial", id="a partial merge"),
        pytest.param(
            lambda site, _: site.home.shard_file("shard_01").write_bytes(b"torn"),
            ["published", "damaged", "published"],
            "outdated",
            id="a torn shard",
        ),
        pytest.param(
            lambda site, _: site.home.manifest("shard_01").unlink(),
            ["published", "missing", "published"],
            "outdated",
            id="no manifest",
        ),
        pytest.param(
            lambda site, _: factory.build_shard(site, factory.input_of(site, "shard_00"), run_id="again"),
            PUBLISHED,
            "outdated",
            id="a shard was rebuilt",
        ),
        pytest.param(lambda site, _: site.home.warehouse.write_bytes(b"torn"), PUBLISHED, "damaged", id="torn"),
        pytest.param(lambda site, _: site.home.warehouse.unlink(), PUBLISHED, "missing", id="no warehouse"),
    ],
)
def test_each_change_is_seen_and_a_run_is_the_next_step(
    published: Site,
    settings: Settings,
    change: Callable[[Site, Settings], object],
    shards: list[str],
    warehouse: str,
) -> None:
    change(published, settings)
    assert states(collect(published, settings)) == (CURRENT, shards, warehouse, "run")


@pytest.mark.parametrize("status", [Status.FAILED, Status.KILLED, Status.CANCELLED])
def test_a_shard_whose_last_attempt_ended_badly_has_failed_unless_its_file_is_current(
    published: Site, settings: Settings, status: Status
) -> None:
    begun = attempts.start(published.home, "shard_01", "run", 2)
    attempts.finish(published.home, begun, status, error="OSError: disk full\nand a stack")
    shard = collect(published, settings).shards[1]
    assert (shard.state, shard.reason) == (Status.PUBLISHED, f"attempt 2 {status}: OSError: disk full")
    published.home.shard_file("shard_01").unlink()
    shard = collect(published, settings).shards[1]
    assert (shard.state, shard.reason) == (Status.FAILED, f"attempt 2 {status}: OSError: disk full")
    assert shard.last_attempt is not None
    assert (shard.last_attempt.attempt, shard.last_attempt.error) == (2, "OSError: disk full")


def test_while_a_shard_is_being_built_there_is_no_next_step(published: Site, settings: Settings) -> None:
    attempts.start(published.home, "shard_02", "run", 1)
    facts = collect(published, settings)
    assert states(facts) == (CURRENT, ["published", "published", "running"], "current", None)


def test_another_number_of_shards_needs_force(published: Site, settings: Settings) -> None:
    four = settings.model_copy(update={"num_shards": 4})
    facts = collect(site_of(PROJECT, four), four)
    assert states(facts) == (["stale"] * 4, ["stale"] * 3 + ["missing"], "outdated", "run --force")
    assert facts.sources[0].reason == "staged for 3 shards, not 4"
    assert facts.warehouse.reason == "published from 3 shards, ETL_NUM_SHARDS is 4"


def test_a_refused_merge_is_of_the_shards_that_are_there(published: Site, settings: Settings) -> None:
    """Fails: an old refusal is shown of shards that were merged since, or a new check is said to be fulfilled."""
    refuse = {"set_hash": inspect_shards(published).set_hash, "finding": "mine: 2 failing rows", "kind": "check"}

    def seen(**changes: str) -> tuple[str, MergeRefusalFacts | None, str | None]:
        publish_json(published.home.refused_merge, {**refuse, **changes})
        facts = collect(published, settings)
        return facts.warehouse.state, facts.warehouse.refusal, facts.next_step

    later, earlier = "2100-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00"
    refusal = MergeRefusalFacts(later, "check", "mine: 2 failing rows", ())
    assert seen(refused_at=later) == ("current", refusal, "run")
    assert seen(refused_at=earlier) == ("current", None, None)
    assert seen(refused_at=later, set_hash="another") == ("current", None, None)
    published.home.warehouse.unlink()
    assert seen(refused_at=later) == ("missing", refusal, "run")


def test_a_warehouse_without_its_exports_is_current_still(published: Site, settings: Settings) -> None:
    (exports_of(settings) / "crm.csv").unlink()
    facts = collect(published, settings)
    assert states(facts) == (["unavailable", *CURRENT[1:]], PUBLISHED, "current", None)
    assert "No export of source 'crm'" in (facts.sources[0].reason or "")
