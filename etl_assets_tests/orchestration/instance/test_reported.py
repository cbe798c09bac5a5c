"""Whether an instance knows of all that is published: what lets `etl-assets run` end at once, or not."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.engine.steps.merge import merge_shards
from etl_assets.orchestration.instance.history import synced_once
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets.orchestration.instance.reported import is_reported, remember
from etl_assets_tests.factory import LIMITS, PROJECT, build_shard, input_of, row, run_engine, site_at, write_exports

SHARDS = ["shard_00", "shard_01", "shard_02"]
MARKER = "etl_assets_reported.json"
NAMES = [*PROJECT.contract.source_names, "shard_profiles", "merged_profiles"]


@pytest.fixture
def published(sources: Path, site: Site) -> Site:
    """A publication by the engine."""
    run_engine(write_exports(sources, crm=[row(name) for name in "abcdef"]), site)
    return site


@pytest.fixture
def dagster_home(tmp_path: Path) -> Path:
    folder = tmp_path / "dagster"
    folder.mkdir()
    return folder


@pytest.fixture
def instance(dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    with synced_once(), open_instance(dagster_home) as opened:
        yield opened


def report(instance: dg.DagsterInstance, *names: str, prefix: str = "") -> None:
    """Materializations of these assets, in the event log."""
    for name in names:
        for partition in SHARDS if name == "shard_profiles" else [None]:
            materialization = dg.AssetMaterialization(f"{prefix}{name}".split("/"), partition=partition)
            instance.report_runless_asset_event(materialization)


@pytest.fixture
def reported(published: Site, instance: dg.DagsterInstance, dagster_home: Path) -> Site:
    """The instance knows of the publication."""
    report(instance, *NAMES)
    remember(published, dagster_home)
    return published


def test_a_publication_is_reported_once_it_was_remembered(
    published: Site, instance: dg.DagsterInstance, dagster_home: Path
) -> None:
    """Fails: events that a killed run did not write are never written, and the UI shows an older result for ever."""
    assert not is_reported(published, dagster_home)
    report(instance, *NAMES)
    assert not is_reported(published, dagster_home)
    remember(published, dagster_home)
    assert is_reported(published, dagster_home)


@pytest.mark.parametrize("missing", NAMES)
def test_nothing_is_remembered_that_the_event_log_does_not_have(
    published: Site, instance: dg.DagsterInstance, dagster_home: Path, missing: str
) -> None:
    report(instance, *(name for name in NAMES if name != missing))
    remember(published, dagster_home)
    assert not is_reported(published, dagster_home)


@pytest.mark.parametrize("name", NAMES)
def test_after_a_wipe_it_is_not_reported_until_it_is_again(
    reported: Site, instance: dg.DagsterInstance, dagster_home: Path, name: str
) -> None:
    """Fails: after `dagster asset wipe` a run says "Unchanged" for ever."""
    instance.wipe_assets([dg.AssetKey(name)])
    assert not is_reported(reported, dagster_home)
    remember(reported, dagster_home)
    assert not is_reported(reported, dagster_home)
    report(instance, name)
    remember(reported, dagster_home)
    assert is_reported(reported, dagster_home)


@pytest.mark.parametrize("gone", ["history", "history/runs/index.db", MARKER])
def test_with_its_history_or_its_marker_deleted_it_is_not_reported(
    reported: Site, dagster_home: Path, gone: str
) -> None:
    path = dagster_home / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not is_reported(reported, dagster_home)


def _rebuild(site: Site) -> None:
    build_shard(site, input_of(site, "shard_01"), run_id="again")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_rebuild, id="a shard"),
        pytest.param(lambda site: merge_shards(site, LIMITS, run_id="again"), id="the warehouse"),
        pytest.param(lambda site: site.home.warehouse.unlink(), id="no warehouse"),
        pytest.param(lambda site: site.home.manifest("shard_01").unlink(), id="no manifest"),
        pytest.param(lambda site: site.home.source_pointer("crm").write_text("{}"), id="a source"),
    ],
)
def test_what_was_published_later_is_not_reported(
    reported: Site, dagster_home: Path, change: Callable[[Site], object]
) -> None:
    change(reported)
    assert not is_reported(reported, dagster_home)


def test_what_was_not_checked_is_not_reported(reported: Site, dagster_home: Path) -> None:
    """Fails: a check that someone wrote or changed today is not executed before the next change of the exports."""
    checked = dataclasses.replace(PROJECT, checks={"own": "SELECT true AS passed"})
    assert not is_reported(site_at(reported.home, project=checked), dagster_home)
    remember(site_at(reported.home, project=checked), dagster_home)
    changed = dataclasses.replace(PROJECT, checks={"own": "SELECT false AS passed"})
    assert not is_reported(site_at(reported.home, project=changed), dagster_home)


def test_another_instance_knows_nothing_of_it(reported: Site, tmp_path: Path) -> None:
    assert not is_reported(reported, tmp_path)


def test_each_home_is_remembered(reported: Site, sources: Path, dagster_home: Path, tmp_path: Path) -> None:
    """Fails: two homes that take turns on one instance each forget the other."""
    other = site_at(Home(tmp_path / "other"))
    run_engine(sources, other)
    assert not is_reported(other, dagster_home)
    remember(other, dagster_home)
    assert is_reported(other, dagster_home)
    assert is_reported(reported, dagster_home)


def test_assets_under_a_prefix_are_those_that_are_looked_for(
    published: Site, instance: dg.DagsterInstance, dagster_home: Path
) -> None:
    report(instance, *NAMES)
    remember(published, dagster_home, key_prefix="emea/")
    assert not is_reported(published, dagster_home)
    report(instance, *NAMES, prefix="emea/")
    remember(published, dagster_home, key_prefix="emea/")
    assert is_reported(published, dagster_home)


@pytest.mark.parametrize("text", ["", "[]", "no json", '{"HOME": 7}', '{"HOME": {"stamp": null}}'])
def test_a_marker_that_holds_anything_else_reports_nothing(reported: Site, dagster_home: Path, text: str) -> None:
    (dagster_home / MARKER).write_text(text.replace("HOME", str(reported.home.root)))
    assert not is_reported(reported, dagster_home)
    remember(reported, dagster_home)
    assert is_reported(reported, dagster_home)
