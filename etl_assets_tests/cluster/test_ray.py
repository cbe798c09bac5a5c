"""A backfill on Ray: one daemon, a head and two nodes, of which one loses a run's process and is lost itself then.

That node hangs in the middle of every shard, so that whatever lands there has to be repeated elsewhere. Nothing merges
by hand: the sensor does.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.project.loading import load_project
from etl_assets_tests.cluster.daemon import daemon
from etl_assets_tests.cluster.postgres_server import PASSWORD, PostgresServer
from etl_assets_tests.cluster.ray_cluster import RayCluster
from etl_assets_tests.cluster.ray_story import FINISHED, WORK_S, Story, ray_story
from etl_assets_tests.factory import PROJECT, PROJECT_FOLDER, generate_sample, run_engine
from etl_assets_tests.lake.conftest import site_in
from etl_assets_tests.lake.lake_runs import stage_lake
from etl_assets_tests.whole.served import wait_until

pytestmark = pytest.mark.ray

SHARD_COUNT = 4
# For which the settings ask for more than for the others.
LARGE = "shard_03"
SMALL = ("shard_00", "shard_01", "shard_02")


@pytest.fixture(scope="module")
def story(cluster: RayCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A lake with staged sources; nothing has begun."""
    folder = tmp_path_factory.mktemp("cluster")
    generate_sample(folder / "sources", rows=600, seed=6, dirty=0.03)
    site = site_in((folder / "lake").as_uri(), folder / "here", SHARD_COUNT)
    with ray_story(cluster, postgres, folder, site, {LARGE: {"num_cpus": 2}}) as story:
        stage_lake(story.sources, story.site)
        yield story


@pytest.fixture(scope="module")
def ended(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Everything is asked for; a run's process is killed, then a whole node; everything has ended."""
    other = _copied_project(tmp_path_factory.mktemp("project"))
    profiles = other / "sql" / "profiles.sql"
    profiles.write_text(f"SELECT * FROM ({profiles.read_text().rstrip().rstrip(';')})")
    assert load_project(other).version != PROJECT.version
    # Alone at first, with room for any two of the runs.
    doomed = story.add_node(3, ETL_FAULT="shard.joined hang")
    story.ask("all", list(story.site.shard_ids))
    with daemon(story.instance_home, story.variables):
        wait_until(lambda: len(story.held(doomed)) >= 2, WORK_S, lambda: f"runs on the node: {story.states()}")
        healthy = story.add_node()
        run_id, pid = next(iter(story.held(doomed).items()))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: story.is_failed(run_id), WORK_S, lambda: f"the end of run {run_id}: {story.states()}")
        lost = story.held(doomed).keys() - {run_id}
        assert lost, "the node is not lost without work"
        doomed.kill()
        wait_until(lambda: all(map(story.is_failed, lost)), WORK_S, lambda: f"the end of {lost}: {story.states()}")
        story.ask("other project", ["shard_00"], env_vars=[f"ETL_PROJECT={other}"])
        story.ask("other lake", ["shard_01"], env_vars=["ETL_LAKE="])
        sent = {"runtime_env": {"working_dir": str(_copied_project(tmp_path_factory.mktemp("sent")))}}
        story.ask("project sent along", ["shard_00"], env_vars=["ETL_PROJECT=."], **sent)
        story.ask("large", ["shard_02"], num_cpus=2, env_vars=["ETL_WORKERS=2"])
        wait_until(lambda: _has_ended(story), WORK_S, lambda: f"the end of everything: {story.states()}")
    assert healthy.process.poll() is None
    return story


def _copied_project(folder: Path) -> Path:
    return Path(shutil.copytree(PROJECT_FOLDER, folder / "customers"))


def _has_ended(story: Story) -> bool:
    return (
        all(story.runs(name) for name in story.backfills)
        and all(run.status in FINISHED for run in story.all_runs())
        and story.built("all") == set(story.site.shard_ids)
        and bool(story.built("large"))
        and bool(story.runs("project sent along"))
        and story.published_digest() is not None
    )


def test_killed_processes_and_a_lost_node_heal_and_the_digest_is_the_local_one(ended: Story, tmp_path: Path) -> None:
    """Fails: a machine that is lost costs a shard, or its rows are others than those of a single machine."""
    repeated = [run for run in ended.runs("all") if run.status is dg.DagsterRunStatus.FAILURE]
    assert len(repeated) >= 2
    local = Site(PROJECT, Home(tmp_path / "local"), SHARD_COUNT)
    assert ended.published_digest() == run_engine(ended.sources, local).publication.digest


def test_no_run_and_no_place_is_left_over(ended: Story) -> None:
    """Fails: a lost machine keeps places of the cluster, and backfills wait for ever."""
    wait_until(lambda: not ended.unfinished_jobs(), WORK_S, lambda: f"the end of {ended.unfinished_jobs()}")


def test_a_run_may_ask_for_more_than_the_others(ended: Story) -> None:
    """Fails: the one large shard gets what a small one gets."""
    asked = ended.cluster.resources_of_jobs()
    cpus = {name: {_cpus(asked, run) for run in ended.runs(name)} for name in ("all", "large")}
    assert cpus == {"all": {(LARGE, 2), *((shard_id, 1) for shard_id in SMALL)}, "large": {("shard_02", 2)}}


def _cpus(asked: dict[str, dict[str, float]], run: dg.DagsterRun) -> tuple[str, float]:
    return run.tags["dagster/partition"], asked[f"dagster-run-{run.run_id}"]["CPU"]


def test_a_machine_with_another_project_refuses_the_run_and_names_both(ended: Story) -> None:
    """Fails: a machine with an old image builds other profiles, or calls the sources stale."""
    assert {run.status for run in ended.runs("other project")} == {dg.DagsterRunStatus.FAILURE}
    assert len(ended.runs("other project")) == 1, "to repeat it cannot help"
    log = ended.logs("other project")
    assert f"planned: {ended.site.declared_version}" in log
    assert "Give every machine the same image" in log


def test_a_project_can_be_sent_along_with_a_run(ended: Story) -> None:
    """Fails: each change of the SQL needs a new image on every machine."""
    assert [run.status for run in ended.runs("project sent along")] == [dg.DagsterRunStatus.SUCCESS]


def test_a_machine_without_the_lake_refuses_the_run(ended: Story) -> None:
    """Fails: a shard is built on the disk of a machine, where nothing finds it."""
    assert {run.status for run in ended.runs("other lake")} == {dg.DagsterRunStatus.FAILURE}
    assert f"ETL_LAKE not set, planned: {ended.site.lake_url}" in ended.logs("other lake")


def test_the_job_server_refuses_whoever_has_no_token(story: Story) -> None:
    """Fails: anyone who can reach the port can run any program on every machine."""
    assert story.cluster.ask("/api/jobs/") == 200
    assert story.cluster.ask("/api/jobs/", token="wrong") in (401, 403)


def test_no_password_is_in_a_command_line_or_in_what_ray_shows(ended: Story) -> None:
    """Fails: anyone who can see the dashboard can read the password of the database."""
    jobs = ended.jobs()
    assert jobs
    assert PASSWORD not in "\n".join(map(str, jobs))
