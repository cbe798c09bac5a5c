"""Runs a job in this process as a run of the code location that the UI loads.

`execute_in_process` records no origin. The UI's first page, the timeline, leaves out runs without one, and the UI
cannot re-execute them: the request ends with HTTP 500.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

# The name in workspace.yaml and dg.toml. The UI finds a run's code location by its name.
LOCATION_NAME = "etl_assets"


def execute_in_process(
    job: dg.JobDefinition,
    *,
    instance: dg.DagsterInstance,
    asset_selection: Sequence[dg.AssetKey],
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> dg.ExecuteInProcessResult:
    """Run a part of the job; a failure is in the result and is not raised."""
    with _origin_recorded(instance, job_origin(job.name)):
        return job.execute_in_process(
            instance=instance,
            asset_selection=list(asset_selection),
            run_config=run_config,
            tags=tags,
            raise_on_error=False,
        )


def job_origin(job_name: str) -> RemoteJobOrigin:
    """The origin of a job in the code location; names only, as this process does not know a code server."""
    location = RegisteredCodeLocationOrigin(LOCATION_NAME)
    return RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME).get_job_origin(job_name)


@contextlib.contextmanager
def _origin_recorded(instance: dg.DagsterInstance, origin: RemoteJobOrigin) -> Iterator[None]:
    """Give the runs created inside this origin, which `execute_in_process` has no parameter for."""
    create_run = partial(instance.create_run_for_job, remote_job_origin=origin)
    instance.create_run_for_job = create_run  # type: ignore[method-assign]
    try:
        yield
    finally:
        del instance.create_run_for_job  # uncovers the class's method
