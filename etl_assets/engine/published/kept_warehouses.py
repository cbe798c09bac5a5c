"""The warehouses that were replaced: the last few stay in `warehouses/`, so that a bad publication can be undone.

A kept warehouse is a hard link to the file that was published, so that keeping one writes no bytes and leaves no moment
without a warehouse. Its name has the time of its publication and a part of its digest. The one that is published
now may have a name there as well, after a restore; it is none of those that are kept.
"""

import logging
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from etl_assets.engine import faults
from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.files.folder_entries import ABSENT, list_files
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.wal import WAL_SUFFIX
from etl_assets.engine.published.warehouse import Publication, read_publication
from etl_assets.errors import Action, Advice, ConfigError, shown

# How long a warehouse stays after it was replaced, whatever their number.
KEPT_DAYS = 30
_DAY_S = 24 * 3600.0
_SUFFIX = ".duckdb"
_NAME = re.compile(rf"(?P<time>[0-9]{{8}}T[0-9]{{6}}\.[0-9]{{6}})Z-[0-9a-f]{{8}}{re.escape(_SUFFIX)}")
_TIME = "%Y%m%dT%H%M%S.%f"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptWarehouse:
    """One of them, by its name: `published_at` is when it was published (UTC)."""

    path: Path
    published_at: datetime
    is_present: bool = False

    @property
    def when(self) -> str:
        """Its time as a person reads and types it."""
        return f"{self.published_at:%Y-%m-%d %H:%M:%S}"


def kept_warehouses(home: Home, *, with_present: bool = False) -> list[KeptWarehouse]:
    """Those that are kept, the last published first; `with_present` also the published one, if it has a name there."""
    found = []
    for path in list_files(home.kept, _SUFFIX):
        match = _NAME.fullmatch(path.name)
        if match is None or not publishing.is_regular(path):
            continue
        moment = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)
        found.append(KeptWarehouse(path, moment, publishing.is_same_file(path, home.warehouse)))
    found.sort(key=lambda one: one.published_at, reverse=True)
    return found if with_present else [one for one in found if not one.is_present]


def keep(home: Home, publication: Publication) -> Path | None:
    """Keep the published warehouse, of which this is the publication; None, with a warning, where that is impossible.

    Deliberately never as a copy, which takes the space and the time of a whole warehouse.
    """
    digest = publication.digest.rpartition("-")[2][:8].rjust(8, "0")
    path = home.kept / f"{publication.published_at.astimezone(UTC):{_TIME}}Z-{digest}{_SUFFIX}"
    try:
        publishing.ensure_directory(home.kept)
        if not publishing.is_same_file(path, home.warehouse):
            sweeping.remove(path)
            publishing.link_published(home.warehouse, path)
            publishing.sync(home.kept)
    except OSError as error:
        # A file system without hard links, or a folder on another one.
        _LOG.warning(
            "warning: the replaced warehouse is not kept in %s (%s). It cannot be restored.",
            shown(str(home.kept)),
            error.strerror or error,
        )
        return None
    return path


def keep_replaced(home: Home, coming: Publication, count: int) -> None:
    """Keep the published warehouse before `coming` replaces it, unless it holds just the same rows, or none are kept.

    Else a merge that repeats a publication would push those out that are worth restoring.
    """
    present = read_publication(home) if count else None
    if present is not None and (present.digest, present.is_partial) != (coming.digest, coming.is_partial):
        keep(home, present)
    faults.point("merge.kept")


def sweep_kept(home: Home, count: int) -> None:
    """Remove those beyond the last `count`, and those that were replaced more than KEPT_DAYS ago."""
    # A link changes a file's time of change, so that tells when it was replaced.
    oldest_s = time.time() - KEPT_DAYS * _DAY_S
    for number, one in enumerate(kept_warehouses(home)):
        if number >= count or _changed_s(one.path) < oldest_s:
            _remove(one)


def chosen(home: Home, when: str | None) -> KeptWarehouse:
    """The one that `when` names, the beginning of its time; without it, the last that was published before the present.

    ConfigError when there is none, or more than one.
    """
    if when is None:
        publication = read_publication(home)
        earlier = [
            one
            for one in kept_warehouses(home)
            if publication is None or one.published_at < publication.published_at.astimezone(UTC)
        ]
        if not earlier:
            raise ConfigError(f"No warehouse of before the present one is kept in {home.kept}. {_listed(home)}")
        return earlier[0]
    matching = _matching(home, when)
    if len(matching) != 1:
        found = f"{len(matching)} kept warehouses were" if matching else "No kept warehouse was"
        raise ConfigError(f"{found} published at '{when}' (UTC). {_listed(home)}", Advice(Action.LIST_KEPT))
    return matching[0]


def forget(home: Home, when: str | None) -> list[KeptWarehouse]:
    """Remove those of this time, all without one; returns them. OSError when one stays."""
    doomed = kept_warehouses(home) if when is None else [one for one in _matching(home, when) if not one.is_present]
    for one in doomed:
        sweeping.remove(one.path)
        sweeping.remove(one.path.with_name(one.path.name + WAL_SUFFIX))
    # The name of the present one holds no bytes of its own; those that it may get when it is replaced are kept again.
    return doomed


def _matching(home: Home, when: str) -> list[KeptWarehouse]:
    # As `--list --json` writes it, with the offset of UTC.
    digits = re.sub(r"[^0-9]", "", re.sub(r"([+-]00:?00|Z)$", "", when.strip()))
    if not digits:
        return []
    return [
        one
        for one in kept_warehouses(home, with_present=True)
        if f"{one.published_at:%Y%m%d%H%M%S%f}".startswith(digits)
    ]


def _listed(home: Home) -> str:
    found = [one.when for one in kept_warehouses(home)]
    return f"Kept are: {', '.join(found)}." if found else "None is kept."


def _remove(one: KeptWarehouse) -> None:
    sweeping.discard(one.path)
    sweeping.discard(one.path.with_name(one.path.name + WAL_SUFFIX))


def _changed_s(path: Path) -> float:
    try:
        return path.lstat().st_ctime
    except ABSENT:
        return 0.0
