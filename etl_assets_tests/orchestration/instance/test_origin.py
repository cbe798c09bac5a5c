"""Runs of `etl-assets run` in the UI: on its timeline, tied together, and re-executed from there."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from etl_assets.orchestration.instance import origin
from etl_assets.orchestration.instance.tags import (
    HOST_TAG,
    INVOCATION_TAG,
    LAUNCHED_BY_TAG,
    MAX_RETRIES_TAG,
    command_tags,
)
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.factory import row, write_exports
from etl_assets_tests.orchestration.test_code_location import CHECKOUT
from etl_assets_tests.whole.served import WORK_S, Server, serve, wait_until


@dg.asset
def one() -> None:
    """An asset."""


@dg.asset
def broken() -> None:
    """An asset that cannot be made."""
    raise ValueError("broken")


JOB = dg.Definitions([one, broken]).resolve_implicit_global_asset_job_def()
LABEL = "__repository__@etl_assets"


def execute(instance: dg.DagsterInstance, name: str, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    result = origin.execute_in_process(
        JOB, instance=instance, asset_selection=[dg.AssetKey(name)], run_config={}, tags=tags or {}
    )
    return result.dagster_run


def test_a_run_belongs_to_the_code_location_whether_it_fails_or_not() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for name, status in (("one", dg.DagsterRunStatus.SUCCESS), ("broken", dg.DagsterRunStatus.FAILURE)):
            run = execute(instance, name, {"mine": "kept"})
            assert run.status is status
            assert run.remote_job_origin == origin.job_origin(JOB.name)
            assert run.tags["mine"] == "kept"
            # By this tag the UI's pages of a code location find their runs.
            assert instance.get_runs(dg.RunsFilter(run_ids=[run.run_id], tags={".dagster/repository": LABEL})) == [run]


def test_runs_that_are_created_later_are_left_alone() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        execute(instance, "one")
        assert instance.create_run_for_job(JOB).remote_job_origin is None


def test_every_way_to_load_the_code_gives_the_location_the_name_in_the_origin() -> None:
    """Fails: the UI cannot re-execute a run of the command: there is no code location of that name."""
    shipped = CHECKOUT / "etl_assets/orchestration/instance/workspace.yaml"
    for path in (CHECKOUT / "workspace.yaml", shipped):
        (module,) = [entry["python_module"] for entry in yaml.safe_load(path.read_text())["load_from"]]
        assert (module["location_name"], module["module_name"]) == (origin.LOCATION_NAME, "etl_assets.definitions")


def test_each_invocation_has_tags_of_its_own() -> None:
    first, second = command_tags(), command_tags()
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == [INVOCATION_TAG]


@dataclass(frozen=True)
class Failed:
    """An `etl-assets run` one of whose shards failed, and the UI on the same instance."""

    folder: Path
    server: Server
    runs: list[dict[str, Any]]

    @property
    def shards(self) -> dict[str, Any]:
        """The run that failed."""
        (run,) = [run for run in self.runs if run["status"] == "FAILURE"]
        return run

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as it is now."""
        (run,) = [run for run in _timeline(self.server) if run["id"] == run_id]
        return run

    def reexecute(self, strategy: str) -> str:
        """What the UI's button does; returns the new run's id."""
        done = self.server.ask(_REEXECUTE, parameters={"parentRunId": self.shards["id"], "strategy": strategy})
        return str(done["launchPipelineReexecution"]["run"]["id"])


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failed]:
    """In a folder whose name Dagster takes for a pattern."""
    folder = tmp_path_factory.mktemp("ui") / "etl [prod] *"
    sources = folder / "sources"
    sources.mkdir(parents=True)
    customers = [row(f"c{number}") for number in range(30)]
    write_exports(sources, crm=customers, billing=customers, product=customers, support=customers)
    variables = {
        "ETL_SOURCES": str(sources),
        "ETL_HOME": str(folder / "home"),
        "DAGSTER_HOME": str(folder / "dagster"),
        "ETL_NUM_SHARDS": "3",
    }
    fault = {"ETL_FAULT": "shard.begin raise-permanent shard=shard_01"}
    ended = subprocess.run(command("run"), env=environment(**variables, **fault), cwd=folder, capture_output=True)
    assert ended.returncode == 1, ended
    with serve(folder, sources, ETL_NUM_SHARDS="3") as server:
        yield Failed(folder, server, _timeline(server))


# As the timeline asks; it leaves out runs without `repositoryOrigin`.
_TIMELINE = """
    query Timeline($filter: RunsFilter!) {
        runsOrError(filter: $filter, limit: 500) {
            ... on Runs {
                results {
                    id status pipelineName startTime endTime tags { key value }
                    repositoryOrigin {
                        id repositoryName repositoryLocationName repositoryLocationMetadata { key value }
                    }
                }
            }
        }
    }"""
_SENSOR = """
    query Sensor($selector: SensorSelector!) {
        sensorOrError(sensorSelector: $selector) {
            ... on Sensor { description assetSelection { assetSelectionString assetKeys { path } } }
        }
    }"""
_REEXECUTE = """
    mutation Reexecute($parameters: ReexecutionParams) {
        launchPipelineReexecution(reexecutionParams: $parameters) {
            ... on LaunchRunSuccess { run { id parentRunId } }
            ... on PythonError { message stack }
        }
    }"""


def _timeline(server: Server) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = server.ask(_TIMELINE, filter={"createdAfter": 0})["runsOrError"]["results"]
    return [run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in runs]


def _settings(server: Server) -> dict[str, Any]:
    """The settings of dagster.yaml that an instance shows as they are."""
    shown = yaml.safe_load(server.ask("{ instance { info } }")["instance"]["info"])
    return {name: shown[name] for name in _shipped_settings()}


def _shipped_settings() -> dict[str, Any]:
    settings = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())
    return {name: settings[name] for name in ("telemetry", "run_monitoring", "run_retries")}


@pytest.mark.slow
class TestInTheUi:
    def test_a_folder_with_brackets_has_the_shipped_settings(self, failed: Failed) -> None:
        """Fails: telemetry is on, no run is monitored, and no killed one is repeated."""
        assert _settings(failed.server) == _shipped_settings()

    def test_so_has_the_read_only_one(self, failed: Failed) -> None:
        with serve(failed.folder, failed.server.sources, read_only=True) as server:
            assert _settings(server) == _shipped_settings()

    def test_the_runs_of_a_command_are_on_the_timeline_of_the_code_location(self, failed: Failed) -> None:
        """Fails: the first page of the UI is empty after `make run`."""
        loaded = failed.server.ask(
            "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
        )
        (repository,) = loaded["repositoriesOrError"]["nodes"]
        assert len(failed.runs) == 2
        for run in failed.runs:
            assert run["repositoryOrigin"]["repositoryName"] == repository["name"]
            assert run["repositoryOrigin"]["repositoryLocationName"] == repository["location"]["name"]
            assert run["startTime"]
        assert len({run["tags"][INVOCATION_TAG] for run in failed.runs}) == 1

    def test_the_page_of_the_merge_sensor_names_its_target(self, failed: Failed) -> None:
        """Fails: its target reads `AndAssetSelection(operands=[…`, as it does for assets together with their checks."""
        selector = {
            "repositoryName": "__repository__",
            "repositoryLocationName": origin.LOCATION_NAME,
            "sensorName": "publish_when_complete",
        }
        sensor = failed.server.ask(_SENSOR, selector=selector)["sensorOrError"]
        selection = sensor["assetSelection"]
        assert selection["assetSelectionString"] == 'key:"merged_profiles" and code_location:"etl_assets"'
        assert selection["assetKeys"] == [{"path": ["merged_profiles"]}]
        # What a person reads beside it; Dagster takes none from a docstring.
        assert sensor["description"].startswith("Merges when every shard is published from the current sources")

    @pytest.mark.parametrize("strategy", ["FROM_FAILURE", "ALL_STEPS"])
    def test_a_failed_run_can_be_re_executed(self, failed: Failed, strategy: str) -> None:
        """Fails: HTTP 500, "Expected non-None value"."""
        run_id = failed.reexecute(strategy)
        wait_until(lambda: failed.run(run_id)["status"] in ("SUCCESS", "FAILURE"), WORK_S, lambda: "the run to end")
        run = failed.run(run_id)
        assert run["status"] == "SUCCESS", failed.server.log.read_text()
        assert failed.server.published_shards() == {"shard_00", "shard_01", "shard_02"}
        # It is the daemon's now: it is repeated when its process is killed, and is not the command's any more.
        assert (run["tags"][MAX_RETRIES_TAG], run["tags"][LAUNCHED_BY_TAG]) == ("3", "re-execution")
        assert failed.shards["tags"][LAUNCHED_BY_TAG] == "etl-assets run"
        assert HOST_TAG in failed.shards["tags"]
