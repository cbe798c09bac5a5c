"""Runs that a cluster's launcher has started; `etl_assets_tests/cluster` has real ones."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.orchestration import cluster_runs
from etl_assets.orchestration.cluster_runs import LAUNCHED_VARIABLE, plan_tags
from etl_assets_tests.dagster_runs import CodeLocation, failure_text, settings_for
from etl_assets_tests.factory import generate_sample, site_at

# Neither library is installed here: reading the settings must not need them.
_RAY = "run_launcher: {module: dagster_ray, class: RayRunLauncher, config: {ray: {address: 'http://head:8265'}}}\n"
_OURS = _RAY.replace("dagster_ray, class: ", "etl_assets.orchestration.instance.ray_launcher, class: Waiting")
_DOCKER = "run_launcher: {module: dagster_docker, class: DockerRunLauncher}\n"


@pytest.fixture
def exports(sources: Path) -> Path:
    generate_sample(sources, rows=30, seed=6)
    return sources


@pytest.fixture(params=[_RAY, _OURS], ids=["dagster-ray", "ours"])
def location(
    request: pytest.FixtureRequest, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CodeLocation]:
    """A code location whose instance has this launcher, in a process that the launcher has started."""
    monkeypatch.setenv(LAUNCHED_VARIABLE, "__ASSET_JOB")
    instance_home = tmp_path / "dagster"
    instance_home.mkdir()
    (instance_home / "dagster.yaml").write_text(request.param)
    with dg.DagsterInstance.from_config(str(instance_home)) as instance:
        yield CodeLocation(settings_for(exports, Home(tmp_path / "home")), instance)


@pytest.mark.parametrize(
    ("asset", "shard_id"), [("crm", None), ("shard_profiles", "shard_00"), ("merged_profiles", None)]
)
def test_without_a_lake_every_run_on_another_machine_is_refused(
    location: CodeLocation, asset: str, shard_id: str | None
) -> None:
    """Fails: each machine of a cluster builds shards on its own disk, and the merge says that they are missing."""
    text = failure_text(location.run(asset, partition=shard_id))
    assert "RayRunLauncher starts runs on other machines" in text
    assert "ETL_LAKE is not set" in text
    assert "Set ETL_LAKE to s3://bucket/prefix." in text


@pytest.mark.parametrize("location", [_DOCKER], indirect=True)
def test_containers_of_one_machine_may_share_its_disk(location: CodeLocation) -> None:
    """Fails: containers that share a volume are refused, although they need no object store."""
    assert location.stage().success


def test_a_run_of_the_command_line_works_on_an_instance_of_a_cluster(
    location: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: `etl-assets run` refuses to work on this machine because other runs would not."""
    monkeypatch.delenv(LAUNCHED_VARIABLE)
    assert location.stage().success


@pytest.mark.parametrize("asset", ["crm", "merged_profiles"])
def test_a_machine_with_another_project_is_refused_and_both_are_named(
    location: CodeLocation, asset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a machine with an old image makes the sources stale for all others, again and again."""
    other = plan_tags(location.site) | {"etl_assets/project": "0123abcd", "etl_assets/shards": "7"}
    monkeypatch.setattr(cluster_runs, "plan_tags", lambda site: other)
    text = failure_text(location.run(asset))
    assert f"project 0123abcd, planned: {location.site.declared_version}; ETL_NUM_SHARDS 7, planned: 3" in text
    assert "Give every machine the same image" in text


def test_the_plan_names_what_decides_the_result_and_where_it_goes(tmp_path: Path) -> None:
    """Fails: a difference that changes rows, or the place of the result, goes unnoticed."""
    tags = plan_tags(site_at(Home(tmp_path)))
    assert set(tags) == {f"etl_assets/{name}" for name in ("project", "engine", "shards", "lake")}
    assert "duckdb" in tags["etl_assets/engine"]
