"""One `etl-assets run` or `restore` with faults, in a process forked from a server which has imported everything.

A thousand times a second of imports would keep people from ever playing all schedules. The process writes to one pipe:
the command's JSON lines, its messages, and JSON lines of the harness: `struck` for every fault it meets, `facts` at a
good end.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dagster as dg

from etl_assets.cli import main, restore_command, run_command, run_report
from etl_assets.engine import faults
from etl_assets.engine.routing import shard_keys
from etl_assets.orchestration import code_location, retry
from etl_assets.orchestration import run as launch
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets.orchestration.wiring import SHARD_PROFILES
from etl_assets_tests.whole import power
from etl_assets_tests.whole.schedules import SHARD_COUNT

# Imported so that the server, which preloads this module, has them before it forks.
PRELOADED = (launch, run_report, run_command, restore_command)
# Set for a process: its Dagster history is not kept; and the folder where it notes what it syncs (see power.py).
IN_MEMORY, JOURNAL = "HARNESS_IN_MEMORY", "HARNESS_JOURNAL"
STRUCK, FACTS = "struck", "facts"


def work(variables: Mapping[str, str], arguments: Sequence[str], sending: Connection) -> None:
    """The process: the command itself, with its waits between attempts cut short and its faults noted."""
    for number in (1, 2):
        os.dup2(sending.fileno(), number)
    sending.close()
    # As a shell starts it: what the server that forked this process ignores or catches does not count.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  lives as long as the process
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    for name in [name for name in os.environ if name.startswith(("ETL_", "DAGSTER_", "CHAOS_"))]:
        del os.environ[name]
    os.environ.update(variables)
    setattr(code_location, "shard_retry_policy", partial(retry.shard_retry_policy, 0.01))  # noqa: B010  for mypy
    act = faults._act

    def noted(fault: faults.Fault, here: faults.Scope, path: Path | None) -> None:
        _note(STRUCK, point=fault.point, action=fault.action, shard_id=here.shard_id, attempt=here.attempt)
        act(fault, here, path)

    faults._act = noted
    if variables.get(JOURNAL):
        power.record(Path(variables[JOURNAL]))
    kept = dg.DagsterInstance.ephemeral() if variables.get(IN_MEMORY) else None
    if kept is not None:
        setattr(dg.DagsterInstance, "from_ref", lambda _: contextlib.nullcontext(kept))  # noqa: B010  for mypy
    is_run = arguments[:1] != ("restore",)
    code = main.main(["run", "--events", "jsonl", *arguments] if is_run else list(arguments))
    if code == 0 and is_run:
        home = Path(variables["DAGSTER_HOME"])
        with contextlib.nullcontext(kept) if kept is not None else open_instance(home) as instance:
            _note(FACTS, versions=_data_versions(instance))
    sys.stdout.flush()
    sys.exit(code)


def _note(event: str, **facts: Any) -> None:
    # In one write of its own, so that it is whole also when the process is killed a moment later.
    os.write(2, f"\n{json.dumps({'event': event, **facts})}\n".encode())


def _data_versions(instance: dg.DagsterInstance) -> dict[str, str | None]:
    """What Dagster knows after a run that succeeded: each shard's content, by its latest materialization."""
    versions = {}
    for shard_id in shard_keys(SHARD_COUNT):
        filters = dg.AssetRecordsFilter(dg.AssetKey(SHARD_PROFILES), asset_partitions=[shard_id])
        records = instance.fetch_materializations(filters, limit=1).records
        materialization = records[0].asset_materialization if records else None
        tags = (materialization.tags if materialization else None) or {}
        versions[shard_id] = tags.get("dagster/data_version")
    return versions
