"""The Delta table in a lake: its versions, and the one commit that publishes.

A commit puts one small object under the number of the next version, which only one writer can. It is never tried again
by the library: that would double a commit that only adds files. Whether it landed is read in the table's log.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_assets.engine.lake.column_types import schema_json
from etl_assets.engine.lake.store import Store
from etl_assets.errors import AccountingError, Action, Advice, ConfigError, ShardSetError, StoreError, shown

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

# The name under which a commit says what it published.
DOCUMENT = "etl_assets.publication"
# Every version keeps the name of its document: the library would remove old commits with a checkpoint.
_CONFIGURATION = {"delta.enableExpiredLogCleanup": "false"}


@dataclass(frozen=True)
class TableFile:
    """A Parquet file of the table, by its name in the table's folder."""

    name: str
    size_bytes: int
    record_count: int
    null_counts: Mapping[str, int]


@dataclass(frozen=True)
class Version:
    """A version of the table: its number, the object that says what it was made from, its files and their sizes."""

    number: int
    document: str
    files: Mapping[str, int]
    schema: str


class LakeTable:
    """The table in the folder `name` of a store."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._folder = name
        self.url = f"{store.url}/{name}"

    def current(self) -> Version | None:
        """The latest version; None before the first. ConfigError when someone else has committed it."""
        table = self._open()
        return None if table is None else self._version(table)

    def at(self, number: int) -> Version:
        """An earlier version; ConfigError when it is not there."""
        table = self._open(number)
        if table is None:
            raise ConfigError(f"{self.url} has no version {number}.", Advice(Action.LIST_KEPT), subject=self.url)
        return self._version(table)

    def document_of(self, number: int) -> str | None:
        """The document of a version; None when it has none, or is not there.

        Deliberately not from the library's history: that begins with the last commit, and gives it the number of the
        version that was opened.
        """
        found = self._store.get(f"{self._folder}/_delta_log/{number:020d}.json")
        infos = [json.loads(line).get("commitInfo") for line in found.content.splitlines()] if found else []
        return next((str(info[DOCUMENT]) for info in infos if info and DOCUMENT in info), None)

    def commit(
        self, before: Version | None, types: Mapping[str, str], files: Sequence[TableFile], document: str, name: str
    ) -> Version:
        """Publish exactly these files as the version after `before`.

        ShardSetError when another commit came first, StoreError when the store failed and nothing was published.
        """
        from deltalake.exceptions import DeltaError

        try:
            with self._explained():
                self._write(before, types, files, _properties(document), name)
        except (DeltaError, StoreError) as error:
            # The answer may be lost, and the client is then refused because of its own commit.
            if self._number_of(document, before) is None:
                raise self._why_not(before, error) from error
        number = self._number_of(document, before)
        if number is None:
            raise StoreError(f"{self.url}: the commit was accepted, and is not in the log.", subject=self.url)
        now = self.at(number)
        if now.files != {one.name: one.size_bytes for one in files}:
            raise AccountingError(
                f"{self.url}: version {number} does not have the files that were committed.", Advice(Action.REPORT)
            )
        return now

    def _write(
        self,
        before: Version | None,
        types: Mapping[str, str],
        files: Sequence[TableFile],
        properties: "CommitProperties",
        name: str,
    ) -> None:
        from deltalake import Schema
        from deltalake.transaction import create_table_with_add_actions

        schema = Schema.from_json(schema_json(types))
        now_ms = round(time.time() * 1000)
        known = before.files if before else {}
        adds: list[Any] = [_add(one, now_ms) for one in files if one.name not in known]
        if before is None:
            create_table_with_add_actions(
                self.url,
                schema,
                adds,
                mode="error",
                name=name,
                configuration=_CONFIGURATION,
                storage_options=None,
                commit_properties=properties,
            )
            return
        table = self._open(before.number)
        assert table is not None, "it was read before"
        kept = {one.name for one in files}
        # From the table's own list: the removal of a file that is not there is accepted, and both stay live.
        removals = [_remove(path, size, now_ms) for path, size in before.files.items() if path not in kept]
        is_new_schema = json.loads(before.schema) != json.loads(schema.to_json())
        if is_new_schema and not kept & known.keys():
            # Another version of the project has other columns, and every file is another.
            table.create_write_transaction(adds, "overwrite", schema, commit_properties=properties)
        else:
            table.create_write_transaction([*removals, *adds], "append", schema, commit_properties=properties)

    def _number_of(self, document: str, before: Version | None) -> int | None:
        """The version that has this document, of those since `before`."""
        since = before.number if before else -1
        table = self._open()
        numbers = range(since + 1, table.version() + 1) if table is not None else ()
        return next((number for number in numbers if self.document_of(number) == document), None)

    def _why_not(self, before: Version | None, error: Exception) -> Exception:
        now = self.current()
        if now is not None and (before is None or now.number > before.number):
            return ShardSetError(
                f"Version {now.number} of {self.url} was published during this merge; it stays, and this one is not "
                "published.",
                Advice(Action.RUN),
            )
        return error if isinstance(error, StoreError) else StoreError(f"{self.url}: {error}", subject=self.url)

    def _open(self, number: int | None = None) -> "DeltaTable | None":
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            with self._explained():
                return DeltaTable(self.url, version=number)
        except TableNotFoundError:
            return None

    def _version(self, table: "DeltaTable") -> Version:
        document = self.document_of(table.version())
        if document is None:
            raise ConfigError(
                f"{self.url}: version {table.version()} was not published by this program. Expected a folder that no "
                "one else writes to: a table of your own belongs elsewhere, and other engines may only read this one.",
                subject=self.url,
            )
        added = table.get_add_actions(flatten=True)
        paths, sizes = (added.column(name).to_pylist() for name in ("path", "size_bytes"))
        # They become names in the scratch.
        outside = [path for path in paths if "/" in path or path.startswith(".")]
        if outside:
            raise ConfigError(
                f"{self.url}: version {table.version()} names the file {shown(outside[0])}. Expected names in its own "
                "folder only.",
                subject=self.url,
            )
        return Version(table.version(), document, dict(zip(paths, sizes, strict=True)), table.schema().to_json())

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the store as `Store` raises them; those of Delta Lake stay."""
        from deltalake.exceptions import DeltaError

        try:
            yield
        except (ConfigError, StoreError, DeltaError):
            raise
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__name__ != "PanicException":
                raise
            raise self._store.refusal("", error) from error


def _properties(document: str) -> "CommitProperties":
    from deltalake import CommitProperties

    return CommitProperties(custom_metadata={DOCUMENT: document}, max_commit_retries=0)


def _add(one: TableFile, now_ms: int) -> Any:
    from deltalake.transaction import AddAction

    # Engines may answer count(*) from it.
    stats = {"numRecords": one.record_count, "nullCount": dict(one.null_counts)}
    return AddAction(one.name, one.size_bytes, {}, now_ms, True, json.dumps(stats))


def _remove(name: str, size_bytes: int, now_ms: int) -> Any:
    from deltalake.transaction import RemoveAction

    # With a wrong size, the changes between versions cannot be read.
    return RemoveAction(path=name, data_change=True, deletion_timestamp=now_ms, size=size_bytes, partition_values={})
