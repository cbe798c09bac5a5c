"""Whether a Dagster instance knows a publication: a marker in its folder, and its event log. No Dagster import."""

from pathlib import Path
from typing import Any

from etl_assets.engine.files import publishing
from etl_assets.engine.hashing import stable_hash
from etl_assets.engine.published.checks import warehouse_checks
from etl_assets.engine.published.shards import published_stamp
from etl_assets.engine.site import Site
from etl_assets.orchestration.instance.event_log import holds_materializations, latest_materializations

_MARKER = "etl_assets_reported.json"


def is_reported(site: Site, dagster_home: Path) -> bool:
    """Whether the instance still has the events of all that is published in this ETL_HOME now.

    They may never have been written, when a process was killed, or be lost since: wiped, deleted with the folder.
    """
    entry = _read(dagster_home).get(str(site.home.root))
    if not isinstance(entry, dict) or entry.get("stamp") != _stamp(site):
        return False
    materializations = entry.get("materializations")
    return isinstance(materializations, dict) and holds_materializations(dagster_home, materializations)


def remember(site: Site, dagster_home: Path, key_prefix: str = "") -> None:
    """Record, after a run that succeeded, that the instance has the events of all that is published now."""
    expected: dict[str, tuple[str, ...]] = {f"{key_prefix}{name}": () for name in site.contract.source_names}
    expected |= {f"{key_prefix}shard_profiles": site.shard_ids, f"{key_prefix}merged_profiles": ()}
    materializations = latest_materializations(dagster_home, expected)
    if materializations is None:
        return
    entry = {"stamp": _stamp(site), "materializations": materializations}
    publishing.publish_json(dagster_home / _MARKER, _read(dagster_home) | {str(site.home.root): entry})


def _stamp(site: Site) -> str:
    """Changes with everything that is published, and with the checks of it."""
    checks = [
        f"{check.name} {check.severity} {check.is_blocking} {check.statement}"
        for check in warehouse_checks(site.project)
    ]
    return stable_hash("\n".join([published_stamp(site), *checks]))


def _read(dagster_home: Path) -> dict[str, Any]:
    document = publishing.read_json(dagster_home / _MARKER)
    return document if isinstance(document, dict) else {}
