"""The harness's places in a lake, and the reader that polls its table as another engine does."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import obstore
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from obstore.exceptions import BaseError

from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.sweeping import leftovers
from etl_assets.engine.lake.delta import DOCUMENT
from etl_assets.engine.lake.store import Store
from etl_assets.engine.published.inspecting import fetch_state, inspect
from etl_assets.engine.published.lake_shards import LakeManifest, read_lake_manifest
from etl_assets.engine.published.shards import Manifest, ShardSet
from etl_assets.engine.site import Site
from etl_assets.engine.steps.vacuuming import vacuum
from etl_assets.project.loading import Project
from etl_assets_tests.whole.poller import Seen
from etl_assets_tests.whole.schedules import SHARD_COUNT

KEEP_COUNT = 1
_LOG = re.compile(r"profiles/_delta_log/([0-9]{20}\.(json|checkpoint\.parquet)|_last_checkpoint)")
_TWO_DAYS_S = 2 * 24 * 3600
# An object that is younger than this is old, too.
_NO_GRACE_S = -60.0


class TableReader:
    """The last version of a lake's table, through deltalake's list of files and DuckDB, and nothing of the engine.

    AssertionError when it is older than one that this reader has seen.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._store = obstore.store.from_url(url)
        self._latest = -1

    # Opening a Delta table takes more than opening a file.
    poll_s = 0.1

    def stamp(self) -> str:
        """The name of the latest commit."""
        with _as_os_errors():
            listed = [one["path"] for batch in obstore.list(self._store, "profiles/_delta_log") for one in batch]
        return max((key for key in listed if key.endswith(".json")), default="")

    def greet(self) -> str:
        """Open the table, as any reader does."""
        self._open()
        return self.stamp()

    def look(self) -> Seen:
        """Every row of it, and the document that it was published with."""
        with _as_os_errors(), TemporaryDirectory() as scratch:
            table = self._open()
            document = self.document(table.version())
            files = self._fetched([f"profiles/{name}" for name in _files(table)], Path(scratch))
            rejected = self._fetched(document["quarantine"], Path(scratch))
            with duckdb.connect() as connection:
                rows = connection.execute(
                    "SELECT count(*), bit_xor(hash(profile)) FROM read_parquet(?) profile", [files]
                ).fetchone()
                quarantined = connection.execute("SELECT count(*) FROM read_parquet(?)", [rejected]).fetchone()
            assert rows, "an aggregate"
            assert quarantined, "an aggregate"
            (publication,), manifests = document["tables"]["publication"], document["tables"]["shard_manifest"]
            promised = sum(one["record_count"] for one in manifests)
            counts = (*rows, *quarantined, len(manifests), promised)
            return Seen(publication["digest"], publication["record_count"], *counts)

    def version(self) -> int:
        """The number of the last version."""
        return int(self._open().version())

    def document(self, version: int) -> dict[str, Any]:
        """The document that a version names."""
        log = self._get(f"profiles/_delta_log/{version:020d}.json").splitlines()
        infos = [json.loads(line).get("commitInfo") or {} for line in log]
        (name,) = [info[DOCUMENT] for info in infos if DOCUMENT in info]
        return dict(json.loads(self._get(name)), name=name)

    def _open(self) -> DeltaTable:
        with _as_os_errors():
            table = DeltaTable(f"{self._url}/profiles")
            assert table.version() >= self._latest, f"version {table.version()} after {self._latest}"
            self._latest = table.version()
            return table

    def _get(self, key: str) -> bytes:
        return bytes(obstore.get(self._store, key).bytes())

    def _fetched(self, keys: list[str], folder: Path) -> list[str]:
        paths = [folder / key.replace("/", "-") for key in keys]
        for key, path in zip(keys, paths, strict=True):
            path.write_bytes(self._get(key))
        return list(map(str, paths))


def _files(table: DeltaTable) -> list[str]:
    return [str(name) for name in table.get_add_actions(flatten=True).column("path").to_pylist()]


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """What the libraries raise when they cannot read, as the errors that the harness expects of a reader."""
    try:
        yield
    except (DeltaError, BaseError) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class FolderLakePlace:
    """An ETL_HOME, and a lake in a folder beside it."""

    folder: Path
    project: Project
    has_versions: bool = True
    credentials: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The lake."""
        return (self.folder / "lake").as_uri()

    @property
    def site(self) -> Site:
        """The project at work there."""
        home = Home(self.folder / "home").of_lake(self.url)
        return Site(self.project, home, SHARD_COUNT, lake_url=self.url)

    @property
    def store(self) -> Store:
        """Its objects."""
        return Store(self.url)

    @property
    def variables(self) -> dict[str, str]:
        """The environment that sends a run there."""
        return {
            "ETL_HOME": str(self.folder / "home"),
            "ETL_LAKE": self.url,
            "ETL_KEEP_WAREHOUSES": str(KEEP_COUNT),
            "DAGSTER_HOME": str(self.folder / "dagster"),
            **self.credentials,
        }

    def at(self, folder: Path) -> "FolderLakePlace":
        """A place of the same kind."""
        return FolderLakePlace(folder, self.project)

    def copied_to(self, folder: Path) -> "FolderLakePlace":
        """A copy of the home and of all objects."""
        copy = self.at(folder)
        shutil.copytree(self.folder, folder, symlinks=True)
        # The scratch is named after the lake's URL.
        (folder / self.site.home.root.relative_to(self.folder)).rename(copy.site.home.root)
        return copy

    def age(self) -> None:
        """Date all objects back by two days."""
        then_s = time.time() - _TWO_DAYS_S
        for path in (self.folder / "lake").rglob("*"):
            os.utime(path, (then_s, then_s))

    def published(self) -> TableReader:
        """The table."""
        return TableReader(self.url)

    def leftovers(self) -> list[str]:
        """What the scratch holds of killed processes, and objects that nothing names after a vacuum of all ages."""
        found = [*leftovers(self.site.home), *(path.name for path in self.site.home.root.rglob("*.wal"))]
        vacuum(self.site, KEEP_COUNT, grace_s=_NO_GRACE_S)
        listed = set(self.store.list(""))
        return [*found, *sorted(listed - self._named(listed)), *self._unlisted(listed)]

    def _unlisted(self, listed: set[str]) -> list[str]:
        """Files of the folder that are no objects: what a killed PUT leaves there."""
        lake = self.folder / "lake"
        names = {path.relative_to(lake).as_posix() for path in lake.rglob("*") if path.is_file()}
        return sorted(name for name in names - listed if not name.startswith("."))

    def _named(self, listed: set[str]) -> set[str]:
        """The objects that the kept versions and the current sources name, read without the vacuum's own code."""
        reader = TableReader(self.url)
        latest = reader.version()
        versions = range(max(0, latest - KEEP_COUNT), latest + 1)
        documents = [reader.document(number) for number in versions]
        files = {one["name"] for document in documents for one in document["files"]}
        snapshots = {key.rpartition("/")[0] for document in documents for key in document["quarantine"]}
        pointers = {key for key in listed if key.startswith("staged/") and key.endswith("/current.json")}
        for key in pointers:
            found = self.store.get(key)
            assert found is not None, "it is listed"
            snapshots.add(f"{key.rpartition('/')[0]}/{json.loads(found.content)['folder']}")
        whole = {folder for folder in snapshots if f"{folder}/snapshot.json" in listed}
        manifests = [state.manifest for state in self.shards().states]
        files |= {one.file for one in manifests if isinstance(one, LakeManifest)}
        return {
            "lake.json",
            *pointers,
            *(document["name"] for document in documents),
            *(f"profiles/{name}" for name in files),
            *(key for key in listed if _LOG.fullmatch(key) or self._is_attempt(key)),
            *(key for key in listed if key.startswith("manifests/") and self._file_of(key) in files),
            *(key for key in listed if key.startswith("staged/") and key.rpartition("/")[0] in whole),
        }

    def _is_attempt(self, key: str) -> bool:
        return key.startswith(tuple(f"attempts/{shard_id}/" for shard_id in self.site.shard_ids))

    def _file_of(self, key: str) -> str:
        found = self.store.get(key)
        manifest = read_lake_manifest(found.content) if found else None
        return manifest.file if manifest else ""

    def shards(self) -> ShardSet:
        """The shards compared with the current sources."""
        fetch_state(self.site)
        return inspect(self.site)

    def why_bad(self, manifest: Manifest) -> str | None:
        """Read the shard's file: it has the rows that its manifest counts, and all are of this shard."""
        assert isinstance(manifest, LakeManifest), "its shards are in a lake"
        with TemporaryDirectory() as scratch:
            path = Path(scratch) / manifest.file
            if not self.store.download(f"profiles/{manifest.file}", path):
                return "its file is gone"
            with duckdb.connect() as connection:
                found = connection.execute(
                    "SELECT count(*), list(DISTINCT shard_id) FROM read_parquet(?)", [str(path)]
                ).fetchone()
        expected = (manifest.record_count, [manifest.shard_id])
        return None if found == expected else f"expected {expected}, found {found}"

    def listed_attempts(self) -> list[tuple[Any, ...]]:
        """The attempts in the last version's document."""
        reader = TableReader(self.url)
        rows = reader.document(reader.version())["tables"]["shard_attempts"]
        names = ("shard_id", "run_id", "attempt", "status", "record_count", "error")
        return [tuple(row[name] for name in names) for row in rows]

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)


@dataclass(frozen=True)
class BucketLakePlace(FolderLakePlace):
    """An ETL_HOME, and a lake under a prefix of a bucket; its objects cannot be dated back."""

    bucket: str = ""

    @property
    def url(self) -> str:
        """The lake."""
        return f"{self.bucket}/{self.folder.name}"

    def at(self, folder: Path) -> "BucketLakePlace":
        """A place of the same kind."""
        return BucketLakePlace(folder, self.project, self.has_versions, self.credentials, self.bucket)

    def copied_to(self, folder: Path) -> "BucketLakePlace":
        """A copy of the home and of all objects."""
        super().copied_to(folder)
        copy = self.at(folder)
        for key in self.store.list(""):
            found = self.store.get(key)
            assert found is not None, "it is listed"
            copy.store.put(key, found.content)
        return copy

    def age(self) -> None:
        """Nothing can be done."""

    def _unlisted(self, _listed: set[str]) -> list[str]:
        return []
