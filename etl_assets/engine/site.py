"""What a step needs to work, as one value that is passed to every step: project, home and number of shards.

Nothing is looked up twice, and no module keeps it as a global: two sites in one process do not touch each other.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import duckdb

from etl_assets.engine.files.layout import Home
from etl_assets.engine.lake.store import Store
from etl_assets.engine.routing import shard_keys
from etl_assets.project.contract import Contract, Source
from etl_assets.project.loading import Project
from etl_assets.project.version import source_version, version_of

# Raised whenever the engine would give other rows for the same project and the same exports; the golden result test
# fails until it is. A comment, a docstring or a rename changes no result and no version.
RESULT_VERSION = 4


@dataclass(frozen=True)
class Site:
    """A project at work in an ETL_HOME with a number of shards; with `lake_url`, what it makes lies in a store."""

    project: Project
    home: Home
    shard_count: int
    # The folder of the exports, which messages name; the steps that read it have it in their requests.
    exports: Path | None = field(default=None, compare=False)
    lake_url: str | None = None

    @cached_property
    def lake(self) -> Store | None:
        """The object store; None in the local mode."""
        return Store(self.lake_url) if self.lake_url else None

    @property
    def contract(self) -> Contract:
        """What the project declares."""
        return self.project.contract

    @cached_property
    def shard_ids(self) -> tuple[str, ...]:
        """The names of all shards, in number order."""
        return tuple(shard_keys(self.shard_count))

    @cached_property
    def profile_version(self) -> str:
        """The version of all that decides a profile: another one makes every shard stale."""
        return version_of([self.project.version, *self.engine_versions])

    @cached_property
    def declared_version(self) -> str:
        """The version of all that the project decides: which rows are accepted, and what is made of them."""
        return version_of([self.project.version, *map(source_version, self.contract.sources)])

    @property
    def engine_versions(self) -> list[str]:
        """What is not the project's: the same project gives the same rows only with the same of these."""
        # Row hashes and text forms are only the same within one version of DuckDB.
        return [f"result {RESULT_VERSION}", f"duckdb {duckdb.__version__}"]

    def staging_version(self, source: Source) -> str:
        """The version of all that decides which rows of a source are accepted, and as what."""
        return self._staging_versions[source.name]

    @cached_property
    def _staging_versions(self) -> dict[str, str]:
        return {s.name: version_of([source_version(s), *self.engine_versions]) for s in self.contract.sources}
