"""The materializations that the instance still has in its event log. No Dagster import where the log is in SQLite.

`dagster asset wipe`, a deleted run and a deleted folder each take events away. What is known of Dagster's SQLite
schema is here only; a contract test compares its answers with Dagster's.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import yaml

if TYPE_CHECKING:
    import dagster as dg

# By asset ("crm" or "prefix/crm"), then by partition, the id of the event of its latest materialization. The partition
# of an asset without partitions is "". Can be stored as JSON.
Materializations = dict[str, dict[str, int]]

_UNPARTITIONED = ""
# Dagster mirrors the asset events of all runs in this database.
_INDEX = Path("history", "runs", "index.db")
# With one of these in dagster.yaml the event log may be in another place or another database.
_STORAGE_SETTINGS = {"storage", "event_log_storage", "instance_class"}
_LATEST = """
    SELECT coalesce(partition, ''), max(id) FROM event_logs
    WHERE asset_key = ? AND dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY partition
"""
_HELD = """
    SELECT coalesce(partition, ''), id FROM event_logs
    WHERE asset_key = ? AND dagster_event_type = 'ASSET_MATERIALIZATION' AND id IN (SELECT value FROM json_each(?))
"""


def latest_materializations(dagster_home: Path, expected: Mapping[str, Sequence[str]]) -> Materializations | None:
    """The latest materializations of some assets; `expected` has the partitions of each, or none.

    Returns None when one of them was never materialized, was wiped, or cannot be read.
    """
    latest: Materializations = {}
    try:
        with _opened(dagster_home) as log:
            for asset, partitions in expected.items():
                known = log.latest(asset)
                wanted = partitions or [_UNPARTITIONED]
                if not known.keys() >= set(wanted):
                    return None
                latest[asset] = {partition: known[partition] for partition in wanted}
    except sqlite3.Error:
        return None
    return latest


def holds_materializations(dagster_home: Path, noted: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether all the noted events are still in the log.

    Returns False when nothing is noted, of an asset or at all, and when the log is gone or cannot be read; the run that
    follows says why. It takes a few milliseconds with SQLite, and a second or two with another storage, which only
    Dagster can read.
    """
    if not noted:
        return False
    try:
        with _opened(dagster_home) as log:
            return all(events and log.holds(asset, events) for asset, events in noted.items())
    except sqlite3.Error:
        return False


class _Log(Protocol):
    """The questions to an event log."""

    def latest(self, asset: str) -> dict[str, int]:
        """The ids of the latest materializations by partition."""

    def holds(self, asset: str, events: Mapping[str, int]) -> bool:
        """Whether the log has these materializations."""


@contextlib.contextmanager
def _opened(dagster_home: Path) -> Iterator[_Log]:
    if _is_in_sqlite(dagster_home):
        # Read-only: a plain connect would create an empty database.
        address = f"{(dagster_home / _INDEX).absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as index:
            yield _SqliteLog(index)
    else:
        from etl_assets.orchestration.instance.opening import open_instance

        with open_instance(dagster_home) as instance:
            yield _DagsterLog(instance)


def _is_in_sqlite(dagster_home: Path) -> bool:
    """Whether the log is where Dagster keeps it by default."""
    try:
        settings = yaml.safe_load((dagster_home / "dagster.yaml").read_bytes())
    except FileNotFoundError:
        return True
    except (OSError, yaml.YAMLError):
        return False  # Dagster will say what is wrong
    return not (isinstance(settings, dict) and _STORAGE_SETTINGS & settings.keys())


class _SqliteLog:
    """Dagster's default log, read without Dagster."""

    def __init__(self, index: sqlite3.Connection) -> None:
        self._index = index

    def latest(self, asset: str) -> dict[str, int]:
        return dict(self._index.execute(_LATEST, [_stored_key(asset)]).fetchall())

    def holds(self, asset: str, events: Mapping[str, int]) -> bool:
        ids = json.dumps(list(events.values()))
        return set(self._index.execute(_HELD, [_stored_key(asset), ids])) == set(events.items())


def _stored_key(asset: str) -> str:
    return json.dumps(asset.split("/"))


class _DagsterLog:
    """Any log that Dagster can read."""

    def __init__(self, instance: "dg.DagsterInstance") -> None:
        self._instance = instance

    def latest(self, asset: str) -> dict[str, int]:
        import dagster as dg

        key, kind = dg.AssetKey(asset.split("/")), dg.DagsterEventType.ASSET_MATERIALIZATION
        latest = dict(self._instance.event_log_storage.get_latest_storage_id_by_partition(key, kind))
        newest = self._instance.fetch_materializations(key, limit=1).records
        if newest and newest[0].partition_key is None:
            latest[_UNPARTITIONED] = newest[0].storage_id
        return latest

    def holds(self, asset: str, events: Mapping[str, int]) -> bool:
        import dagster as dg

        wanted = dg.AssetRecordsFilter(dg.AssetKey(asset.split("/")), storage_ids=list(events.values()))
        records = self._instance.fetch_materializations(wanted, limit=len(events)).records
        return {(record.partition_key or _UNPARTITIONED, record.storage_id) for record in records} == set(
            events.items()
        )
