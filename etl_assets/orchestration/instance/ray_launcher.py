"""The run launcher for a Ray cluster: dagster-ray's, with runs that outlive a head or a node that is away.

A head that is restarted is away for half a minute. With dagster-ray alone, each run that should start in that time
fails, its repetitions too, and the backfill with them; and a run whose job is lost before it has begun counts as
starting until `start_timeout_seconds` are over, with its place in the queue.
"""

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import LaunchRunContext
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster_ray import RayRunLauncher
from dagster_ray.configs import USER_DEFINED_RAY_KEY
from dagster_ray.core.run_launcher import RayLauncherConfig, get_job_submission_id_from_run_id

from etl_assets.orchestration.instance.run_watch import RunWatch

# Each costs a request to Ray's head.
_WATCHED_EVERY_S = 5.0
# What Ray's client says when the dashboard has answered.
_ANSWER = re.compile(r"Request failed with status code (\d{3})")
_NOT_FOUND, _SERVER_ERROR = 404, 500
_KNOWN_ALREADY = "already exists"


class WaitingRayRunLauncher(RayRunLauncher):  # type: ignore[misc]
    """Starts each run as a job of Ray; while that cannot be done, the run goes back into the queue.

    How often and after how long is in dagster.yaml: max_user_code_failure_retries and user_code_failure_retry_delay.
    `shards` has what runs of single shards ask for, by the shard's name, instead of what is below `ray`.
    """

    def __init__(self, shards: Mapping[str, Mapping[str, Any]] | None = None, **options: Any) -> None:
        """Dagster passes what is in dagster.yaml."""
        super().__init__(**options)
        self._shards = shards or {}
        self._starting = RunWatch(_WATCHED_EVERY_S)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """What dagster.yaml may say below `config`."""
        of_shards = {str: RayLauncherConfig.to_fields_dict()}
        return {**super().config_type(), "shards": dg.Field(of_shards, is_required=False)}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> "WaitingRayRunLauncher":
        """Dagster calls this with what is below `config`."""
        return cls(inst_data=inst_data, shards=config_value.get("shards"), **config_value["ray"])

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run; DagsterUserCodeUnreachableError while Ray takes no jobs, others where it never will."""
        try:
            super().launch_run(self._sized(context))
        except (OSError, RuntimeError) as error:
            # Known already: an earlier request arrived, and its answer was lost.
            if _KNOWN_ALREADY not in str(error):
                if not _is_passing(error):
                    raise
                # What Dagster's queue raises itself while a code server is away, and tries again after.
                raise DagsterUserCodeUnreachableError(
                    f"Ray takes no jobs at {self.address} now: {type(error).__name__}: {error}"
                ) from error
        run_id = context.dagster_run.run_id
        self._starting.add(run_id, partial(self._has_job, run_id), partial(self._report_lost, run_id))

    def _sized(self, context: LaunchRunContext) -> LaunchRunContext:
        """With what the settings say for the run's shard; a tag that a person has given to the run comes first."""
        run = context.dagster_run
        wanted = self._shards.get(run.tags.get(PARTITION_NAME_TAG, ""))
        if wanted is None or USER_DEFINED_RAY_KEY in run.tags:
            return context
        said = json.dumps({name: value for name, value in wanted.items() if value is not None})
        return context._replace(dagster_run=run.with_tags({**run.tags, USER_DEFINED_RAY_KEY: said}))

    def _has_job(self, run_id: str) -> bool:
        """Whether Ray has a job of the run that has not ended; yes where Ray does not answer."""
        try:
            return not self._job(run_id).status.is_terminal()
        except (OSError, RuntimeError) as error:
            return _status(error) != _NOT_FOUND

    def _job(self, run_id: str) -> Any:
        return self.client.get_job_info(get_job_submission_id_from_run_id(run_id))

    def _report_lost(self, run_id: str) -> None:
        """Report a run that has no job and has not begun; what it does once it has begun, run monitoring watches."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.status is not dg.DagsterRunStatus.STARTING:
            return
        try:
            says = self._job(run_id).message
        except RuntimeError as error:
            says = error
        self._instance.report_run_failed(run, f"The job of this run ended before the run began. Ray says: {says}")


def _is_passing(error: OSError | RuntimeError) -> bool:
    """Whether the next request may succeed: there was no connection, or the answer says that the fault is not ours."""
    status = _status(error)
    return isinstance(error, OSError) if status is None else status >= _SERVER_ERROR


def _status(error: OSError | RuntimeError) -> int | None:
    answer = _ANSWER.search(str(error))
    return int(answer[1]) if answer else None
