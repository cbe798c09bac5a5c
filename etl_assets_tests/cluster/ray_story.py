"""A lake whose shards are built on Ray, as tests see it: the cluster, the instance, and what came of the backfills."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
from ray.job_submission import JobDetails, JobSubmissionClient

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.attempts import latest_attempts
from etl_assets.engine.published.inspecting import fetch_state
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets_tests.cluster.daemon import ask_for_backfill, log_of, runs_of
from etl_assets_tests.cluster.deployed import dagster_home, ray_settings
from etl_assets_tests.cluster.postgres_server import PostgresServer
from etl_assets_tests.cluster.ray_cluster import Node, RayCluster
from etl_assets_tests.factory import PROJECT_FOLDER

# The slowest measured, on a machine that was busy tenfold, twice over.
WORK_S = 900
# The tag with which a run asks for more than the others, or for something else.
_CONFIG_TAG = "dagster-ray/config"
FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


@dataclass
class Story:
    """What the tests look at. `site` is that of a person with a machine of their own."""

    cluster: RayCluster
    site: Site
    sources: Path
    instance_home: Path
    variables: dict[str, str]
    backfills: dict[str, str] = field(default_factory=dict)

    def ask(self, name: str, shard_ids: list[str], **config: object) -> None:
        """Ask for a backfill whose runs carry this configuration for Ray."""
        tags = {_CONFIG_TAG: json.dumps(config)} if config else {}
        with open_instance(self.instance_home) as instance:
            self.backfills[name] = ask_for_backfill(instance, self.site.shard_count, shard_ids, tags)

    def add_node(self, cpu_count: int = 2, **changes: str) -> Node:
        """A node with the variables that every machine has."""
        return self.cluster.add_node(cpu_count, {**self.variables, **changes})

    def runs(self, name: str) -> list[dg.DagsterRun]:
        """The runs of a backfill, newest first."""
        return runs_of(self.instance_home, self.backfills[name])

    def all_runs(self) -> list[dg.DagsterRun]:
        """Those of the sensors too, newest first."""
        with open_instance(self.instance_home) as instance:
            return list(instance.get_runs())

    def states(self) -> str:
        """What has become of everything that was asked for, in a message."""
        states = {name: [run.status.value for run in self.runs(name)] for name in self.backfills}
        return f"{states}; all: {[run.status.value for run in self.all_runs()]}"

    def is_failed(self, run_id: str) -> bool:
        """Whether Dagster knows that a run has failed."""
        return any(run.run_id == run_id and run.status is dg.DagsterRunStatus.FAILURE for run in self.all_runs())

    def logs(self, name: str) -> str:
        """What the runs of a backfill say."""
        return "\n".join(log_of(self.instance_home, run.run_id) for run in self.runs(name))

    def held(self, node: Node) -> dict[str, int]:
        """The runs that hang on a node, and their processes."""
        home = Home(node.home).of_lake(str(self.site.lake_url))
        found = latest_attempts(home, self.site.shard_ids)
        return {one.run_id: one.pid for one in found if one.status is Status.RUNNING and one.pid in node.processes()}

    def built(self, name: str) -> set[str | None]:
        """The shards for which a run of the backfill has succeeded."""
        done = [run for run in self.runs(name) if run.status is dg.DagsterRunStatus.SUCCESS]
        return {run.tags.get("dagster/partition") for run in done}

    def jobs(self) -> list[JobDetails]:
        """What Ray knows of its jobs."""
        # Ray has read RAY_AUTH_MODE when it was imported.
        headers = {"Authorization": f"Bearer {self.cluster.token}"}
        return list(JobSubmissionClient(self.cluster.dashboard, headers=headers).list_jobs())

    def unfinished_jobs(self) -> list[str | None]:
        """The jobs for which Ray still keeps a place; a process ends a moment after its run."""
        return [job.submission_id for job in self.jobs() if not job.status.is_terminal()]

    def published_digest(self) -> str | None:
        """What the last version of the lake says of itself."""
        fetch_state(self.site)
        publication = read_publication(self.site.home)
        return publication.digest if publication else None


@contextmanager
def ray_story(
    cluster: RayCluster,
    postgres: PostgresServer,
    folder: Path,
    site: Site,
    shards: Mapping[str, object] | None = None,
    **changes: str,
) -> Iterator[Story]:
    """The settings of everything in one place, in this process too. Nothing is staged, and nothing has begun."""
    settings = ray_settings()
    settings["run_launcher"]["config"]["shards"] = dict(shards or {})
    # A run on a busy machine begins late, and this is no test of its speed.
    settings["run_monitoring"]["start_timeout_seconds"] = WORK_S
    variables: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        **postgres.new_database(),
        **cluster.client_variables,
        "ETL_LAKE": str(site.lake_url),
        "ETL_PROJECT": str(PROJECT_FOLDER),
        "ETL_SOURCES": str(folder / "sources"),
        "ETL_HOME": str(folder / "daemon"),
        "ETL_NUM_SHARDS": str(site.shard_count),
        **changes,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        instance_home = dagster_home(folder / "dagster", settings)
        yield Story(cluster, site, folder / "sources", instance_home, dict(variables))
