"""Where the harness plays a schedule: a folder with an ETL_HOME, and what is published there as a reader sees it.

`lake/lake_places.py` has those whose shards and result are in an object store.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.sweeping import leftovers
from etl_assets.engine.published import shards
from etl_assets.engine.published.shards import Manifest, ShardSet
from etl_assets.engine.site import Site
from etl_assets.project.loading import Project
from etl_assets_tests import factory
from etl_assets_tests.whole.poller import Published, WarehouseFile
from etl_assets_tests.whole.schedules import SHARD_COUNT


class Place(Protocol):
    """A place of one schedule."""

    @property
    def has_versions(self) -> bool:
        """Whether it keeps versions that a run removes once they are old."""

    @property
    def folder(self) -> Path:
        """The folder that holds all of it but a store."""

    @property
    def site(self) -> Site:
        """The project at work there."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment that sends a run there."""

    def copied_to(self, folder: Path) -> "Place":
        """A copy of all that it holds, in a new folder."""

    def age(self) -> None:
        """Make what is published old enough to be removed once nothing names it."""

    def published(self) -> Published:
        """What is published, through a reader of its own."""

    def leftovers(self) -> list[str]:
        """What nothing needs, and no run has removed."""

    def shards(self) -> ShardSet:
        """The shards compared with the current sources."""

    def why_bad(self, manifest: Manifest) -> str | None:
        """Why a shard's file does not hold what its manifest says; None when it does."""

    def listed_attempts(self) -> list[tuple[Any, ...]]:
        """Shard, run, number, status, record count and error of the attempts that the publication lists."""

    def remove(self) -> None:
        """Remove all of it."""


PlaceKind = Callable[[Path, Project], Place]


@dataclass(frozen=True)
class LocalPlace:
    """An ETL_HOME with its warehouse."""

    folder: Path
    project: Project
    has_versions: bool = False

    @property
    def site(self) -> Site:
        """The project at work there."""
        return factory.site_at(Home(self.folder / "home"), SHARD_COUNT, self.project)

    @property
    def variables(self) -> dict[str, str]:
        """The environment that sends a run there."""
        return {"ETL_HOME": str(self.folder / "home"), "DAGSTER_HOME": str(self.folder / "dagster")}

    def copied_to(self, folder: Path) -> "LocalPlace":
        """A copy of the folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return LocalPlace(folder, self.project)

    def age(self) -> None:
        """Nothing here goes by age."""

    def published(self) -> WarehouseFile:
        """The warehouse."""
        return WarehouseFile(self.site.home.warehouse)

    def leftovers(self) -> list[str]:
        """Temporary files and folders, and write-ahead logs."""
        home = self.site.home
        return leftovers(home) + [path.name for path in home.root.rglob("*.wal")]

    def shards(self) -> ShardSet:
        """The shards compared with the current sources."""
        return shards.inspect_shards(self.site)

    def why_bad(self, manifest: Manifest) -> str | None:
        """Why a shard's file does not hold what its manifest says."""
        obstacle = factory.verify_shard(self.site.home, manifest)
        return str(obstacle) if obstacle else None

    def listed_attempts(self) -> list[tuple[Any, ...]]:
        """The rows of `shard_attempts`."""
        with duck.opened(self.site.home.warehouse) as connection:
            return connection.execute(
                "SELECT shard_id, run_id, attempt, status, record_count, error FROM shard_attempts"
            ).fetchall()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)
