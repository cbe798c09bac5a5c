"""Before the work of a run that a cluster's launcher has started: that this machine can do it as it was planned.

RayRunLauncher and the like start a run wherever there is room. What a machine has of its own is not what the others
have: its disk, its environment, its copy of the project. A run that differs is refused here, before it stages or
builds anything, and not in the words of what then goes wrong: a shard that no merge finds, or sources that seem stale
again and again.

The plan is in the snapshot of the job that Dagster keeps with each run: the code location writes it there as tags of
the assets' ops. Runs that start on the machine of their code location are not asked: a changed project counts there at
once.
"""

import os
import socket
from collections.abc import Mapping

import dagster as dg

from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.orchestration.wiring import Wiring

# DockerRunLauncher is none of them: its containers may share a volume on one machine.
CLUSTER_LAUNCHERS = frozenset(
    {"RayRunLauncher", "WaitingRayRunLauncher", "K8sRunLauncher", "CeleryK8sRunLauncher", "EcsRunLauncher"}
)
# Each of these launchers sets it for the process of a run.
LAUNCHED_VARIABLE = "DAGSTER_RUN_JOB_NAME"
_PREFIX = "etl_assets/"
_NO_LAKE = "not set"
_EXAMPLE_LAKE = "s3://bucket/prefix"
# What a person sets or installs, by the names of the tags.
_MEANINGS = {"project": "project", "engine": "engine", "shards": "ETL_NUM_SHARDS", "lake": "ETL_LAKE"}


def plan_tags(site: Site) -> dict[str, str]:
    """What all machines must have in common, as tags of the ops."""
    facts = {
        "project": site.declared_version,
        "engine": ", ".join(site.engine_versions),
        "shards": str(site.shard_count),
        "lake": site.lake_url or _NO_LAKE,
    }
    return {f"{_PREFIX}{name}": value for name, value in facts.items()}


def refuse_other_machine(context: dg.AssetExecutionContext, wiring: Wiring) -> None:
    """ConfigError where a cluster's launcher has started this run and this machine cannot do it as it was planned."""
    launcher = _launcher(context.instance)
    if launcher is None:
        return
    mine = plan_tags(wiring.site)
    planned = _planned(context)
    differing = {name: (planned[name], mine[name]) for name in mine if planned.get(name, mine[name]) != mine[name]}
    if differing:
        raise _differs(launcher, differing)
    if wiring.site.lake_url is None:
        raise ConfigError(
            f"{launcher} starts runs on other machines (this one: {socket.gethostname()}), and ETL_LAKE is not set: "
            f"what a run makes would stay in {wiring.site.home.root} of its machine, where no other run finds it. "
            "Nothing was changed. Set ETL_LAKE for the code location and on every machine, or use the launcher of the "
            "shipped dagster.yaml.",
            Advice(Action.SET, "ETL_LAKE", _EXAMPLE_LAKE),
            subject="ETL_LAKE",
        )


def _launcher(instance: dg.DagsterInstance) -> str | None:
    """The launcher that has started this process; None where it is one of this machine, or the command line."""
    if LAUNCHED_VARIABLE not in os.environ or not instance.is_persistent:
        return None
    # The data, not the launcher: making one imports its libraries, here for nothing.
    data = instance.get_ref().run_launcher_data
    return data.class_name if data is not None and data.class_name in CLUSTER_LAUNCHERS else None


def _planned(context: dg.AssetExecutionContext) -> Mapping[str, str]:
    """The tags that this op had when the run was created."""
    snapshot_id = context.run.job_snapshot_id
    if snapshot_id is None:
        return {}
    ops = context.instance.get_job_snapshot(snapshot_id).node_defs_snapshot.op_def_snaps
    return next((op.tags for op in ops if op.name == context.op_execution_context.op_def.name), {})


def _differs(launcher: str, differing: Mapping[str, tuple[str, str]]) -> ConfigError:
    facts = "; ".join(
        f"{_MEANINGS[name.removeprefix(_PREFIX)]} {here}, planned: {there}" for name, (there, here) in differing.items()
    )
    return ConfigError(
        f"The machine {socket.gethostname()}, on which {launcher} has started this run, differs from the code location "
        f"that planned it: {facts}. Nothing was changed. Give every machine the same image or runtime_env and the same "
        "ETL_ variables, reload the code location, and materialize again.",
        subject=next(iter(differing)).removeprefix(_PREFIX),
    )
