"""Whether a Dagster instance knows a publication: a marker in its folder, and its event log. No Dagster import."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from etl_assets.engine.files import publishing
from etl_assets.engine.files.documents import Form, read_json
from etl_assets.engine.hashing import stable_hash
from etl_assets.engine.published.checks import warehouse_checks
from etl_assets.engine.published.inspecting import stamp_of
from etl_assets.engine.site import Site
from etl_assets.orchestration.instance.event_log import (
    Materializations,
    holds_materializations,
    latest_materializations,
)

_MARKER = "etl_assets_reported.json"


@dataclass(frozen=True)
class _Reported:
    """What is known of one ETL_HOME: the stamp of what was published, and the events that reported it."""

    stamp: str
    materializations: Materializations


_FORM = Form(_Reported)


def is_reported(site: Site, dagster_home: Path) -> bool:
    """Whether the instance still has the events of all that is published in this ETL_HOME now.

    They may never have been written, when a process was killed, or be lost since: wiped, deleted with the folder.
    """
    entry = _FORM.shaped(_read(dagster_home).get(str(site.home.root)))
    if entry is None or entry.stamp != _stamp(site):
        return False
    return holds_materializations(dagster_home, entry.materializations)


def remember(site: Site, dagster_home: Path, key_prefix: str = "") -> None:
    """Record, after a run that succeeded, that the instance has the events of all that is published now."""
    expected: dict[str, tuple[str, ...]] = {f"{key_prefix}{name}": () for name in site.contract.source_names}
    expected |= {f"{key_prefix}shard_profiles": site.shard_ids, f"{key_prefix}merged_profiles": ()}
    materializations = latest_materializations(dagster_home, expected)
    if materializations is None:
        return
    entry = asdict(_Reported(_stamp(site), materializations))
    publishing.publish_json(dagster_home / _MARKER, {**_read(dagster_home), str(site.home.root): entry})


def _stamp(site: Site) -> str:
    """Changes with everything that is published, and with the checks of it."""
    checks = [
        f"{check.name} {check.severity} {check.is_blocking} {check.statement}"
        for check in warehouse_checks(site.project)
    ]
    return stable_hash("\n".join([stamp_of(site), *checks]))


def _read(dagster_home: Path) -> Mapping[str, Any]:
    return read_json(dagster_home / _MARKER) or {}
