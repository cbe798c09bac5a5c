"""The data contract: which sources exist, their columns, types and ranges, and what is promised of a profile.

Models of `etl_assets.yaml` and their checks; values only. How a type is read from an export is defined by the
`parse_*.sql` macros of the engine, where the files are is a setting.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field, PrivateAttr, field_validator, model_validator

from etl_assets.project import file_patterns
from etl_assets.project.columns import (
    Bounded,
    Column,
    ColumnType,
    Model,
    Name,
    Names,
    OnInvalid,
    ProfileColumn,
    plain_name,
)
from etl_assets.project.dialect import Dialect, FileDialect
from etl_assets.project.entries import MisdeclaredError, doubled_names, with_named
from etl_assets.project.identity import Key, KeyMap
from etl_assets.project.settings import misdeclared
from etl_assets.project.severity import CheckRule

__all__ = ["Column", "ColumnType", "Contract", "ProfileColumn", "Source"]

# The struct beside those of the sources in the relation that `sql/profiles.sql` reads.
BASE = "base"
# Columns that the engine adds to every profile, besides the key.
SOURCES_COLUMN, SHARD_COLUMN, IDEMPOTENCY_COLUMN = "sources", "shard_id", "idempotency_key"
ISSUES_COLUMN = "issues"


class Rows(StrEnum):
    """How many records of a key a source has."""

    ONE = "one"
    MANY = "many"


class Source(Model):
    """One system that exports records; `columns` is in contract order, without the key."""

    name: Name = Field(description="Names the export, the asset and the relation in SQL.")
    title: str = Field(default="", description="The source as people call it; by default its name.")
    files: Names = Field(
        default=(),
        description="Patterns of its files in the folder of the exports, such as `accounts-*.csv` or `crm/**`; by "
        "default `<name>.csv`, the name with another ending, or `<name>/*`.",
    )
    ignore: Names = Field(
        default=(),
        description="Patterns of files and folders that are left out though they lie among its files, such as "
        "`crm/readme*.txt`; other files that look like its data and are not read stop the source.",
    )
    key_from: Names = Field(
        default=(),
        alias="key",
        description="The key's name in this source's headers, if another; several columns make up the key together.",
    )
    key_map: KeyMap | None = Field(
        default=None,
        description="For a source whose `key` is an id of its own: the file that says which key each of its ids is.",
    )
    csv: Dialect = Field(default=Dialect(), description="How its files are written, if not as plain CSV.")
    csv_by_file: tuple[FileDialect, ...] = Field(
        default=(),
        description="How some of its files are written otherwise: a list of `files` with words of `csv`. The first "
        "entry that names a file counts for it.",
    )
    sheet: str = Field(default="", description="The sheet of its workbooks (.xlsx); by default the first one.")
    rows: Rows = Field(
        default=Rows.ONE,
        description="`one` record of a key, the last one counts; or `many`, such as tickets, which SQL aggregates.",
    )
    row_key: Names = Field(
        default=(),
        description="With `rows: many`, the columns that name a record: of those with equal ones, the last one counts.",
    )
    latest_by: str = Field(
        default="",
        description="The record with the greatest value in this column is the last one. Without this word, the order "
        "of files and rows decides.",
    )
    columns: tuple[Column, ...] = Field(
        min_length=1, description="The columns besides the key. Their order is part of the idempotency key."
    )
    on_invalid: OnInvalid = Field(
        default=OnInvalid.SET_NULL,
        description="What becomes of a value that breaks the contract, where its column does not say.",
    )
    _key: Key = PrivateAttr(default=Key())

    @model_validator(mode="before")
    @classmethod
    def _name_columns(cls, value: Any) -> Any:
        return with_named(value, "columns")

    @model_validator(mode="after")
    def _check_names(self) -> "Source":
        wrong = doubled_names(self.columns, "columns")
        known = [column.name for column in self.columns]
        wrong += [
            (("row_key",), f"{name} is not among the columns of this source")
            for name in self.row_key
            if name not in known
        ]
        if self.latest_by and self.latest_by not in known:
            wrong.append((("latest_by",), f"{self.latest_by} is not among the columns of this source"))
        if self.row_key and not self.has_many:
            wrong.append((("row_key",), "it needs rows: many; with one record of a key, the key names it"))
        if self.latest_by and self.has_many and not self.row_key:
            wrong.append((("latest_by",), "with rows: many it needs row_key: without it no record replaces another"))
        wrong += [
            ((word, number), finding)
            for word, patterns in (("files", self.files), ("ignore", self.ignore))
            for number, pattern in enumerate(patterns)
            if (finding := file_patterns.refusal(pattern)) is not None
        ]
        wrong += [
            (("csv_by_file", number), finding)
            for number, one in enumerate(self.csv_by_file)
            if (finding := one.refusal(self.csv)) is not None
        ]
        if wrong:
            raise MisdeclaredError(wrong)
        return self

    def ignores(self, name: str, *, is_folder: bool = False) -> bool:
        """Whether a file or a folder is left out; `name` is its path in the folder of the exports."""
        names = file_patterns.names_folder if is_folder else file_patterns.matches
        return any(names(pattern, name) for pattern in self.ignore)

    def dialect_of(self, file: str) -> Dialect:
        """How a file is written; `file` is its path in the folder of the exports."""
        own = self.file_dialect(file)
        return self.csv if own is None else own.over(self.csv)

    def file_dialect(self, file: str) -> FileDialect | None:
        """The entry of `csv_by_file` that counts for a file."""
        return next((one for one in self.csv_by_file if one.names(file)), None)

    @property
    def has_many(self) -> bool:
        """Whether a key may have many records here."""
        return self.rows is Rows.MANY

    @property
    def needed(self) -> frozenset[str]:
        """The columns in which null is refused: a record without its own key cannot replace another."""
        return frozenset([*self.row_key, *(column.name for column in self.columns if column.required)])

    def nulls(self, column: Column) -> bool:
        """Whether a value that breaks this column's rules costs its cell only, not its row."""
        return column.name not in self.needed and (column.on_invalid or self.on_invalid) is OnInvalid.SET_NULL

    @property
    def has_issues(self) -> bool:
        """Whether a record may have lost a cell."""
        return any(column.can_break and self.nulls(column) for column in self.columns)

    @property
    def key(self) -> Key:
        """The contract's key, handed down so that a source knows all of its columns."""
        return self._key

    def with_key(self, key: Key) -> "Source":
        """The source in a contract with this key."""
        source = self.model_copy()
        source._key = key
        return source

    def with_files(self, patterns: tuple[str, ...]) -> "Source":
        """The same source with other files."""
        return self.model_copy(update={"files": patterns}).with_key(self._key)

    @property
    def key_headers(self) -> tuple[str, ...]:
        """The names in a header of the columns that make up the key."""
        return self.key_from or (self.key.name,)

    @property
    def words_of_headers(self) -> tuple[str, str]:
        """The words of the contract that name the headers of the key, and that of a column."""
        return "key", "from"

    @property
    def id_columns(self) -> frozenset[str]:
        """The columns that hold ids, as the key does."""
        return frozenset([self.key.name])

    @property
    def has_personal_ids(self) -> bool:
        """Whether its own ids, which a map turns into keys, are personal data."""
        ids = set(map(plain_name, self.key_headers))
        personal = [plain_name(header) for column in self.columns if column.pii for header in column.headers]
        return (self.key_map is not None and self.key_map.pii) or not ids.isdisjoint(personal)

    @property
    def label(self) -> str:
        """The source as people call it."""
        return self.title or self.name

    @property
    def required(self) -> tuple[str, ...]:
        """Every column name the export must have, the key first."""
        return (self.key.name, *(column.name for column in self.columns))


class Contract(Model):
    """A project's declarations, in the order in which the idempotency key takes them."""

    name: Name = Field(description="The project's name.")
    entity: Name = Field(default="customers", description="What a profile describes; the joined relation in SQL.")
    key: Key = Field(default=Key(), description="The column that tells whose record a row is.")
    sources: tuple[Source, ...] = Field(
        min_length=1, description="The systems. Their order is part of the idempotency key."
    )
    profile: tuple[ProfileColumn, ...] = Field(
        default=(), description="What is promised of columns that sql/profiles.sql computes."
    )
    checks: tuple[CheckRule, ...] = Field(
        default=(), description="How bad it is that a check fails, by the name of the check."
    )
    settings: Mapping[str, Any] = Field(
        default={},
        description="Settings of this project, by the end of their names: `sources`, `home`, `num_shards` and so on. "
        "Folders count from the project's folder; environment variables come before these.",
    )

    @field_validator("settings")
    @classmethod
    def _check_settings(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        wrong = [((name,), text) for name, text in misdeclared(value)]
        if wrong:
            raise MisdeclaredError(wrong)
        return value

    @model_validator(mode="before")
    @classmethod
    def _name_all(cls, value: Any) -> Any:
        return with_named(with_named(with_named(value, "sources"), "profile"), "checks")

    @model_validator(mode="after")
    def _check_whole(self) -> "Contract":
        wrong = [
            *doubled_names(self.sources, "sources"),
            *doubled_names(self.profile, "profile"),
            *doubled_names(self.checks, "checks"),
            *self._unrelated(),
        ]
        for number, source in enumerate(self.sources):
            if source.name in (self.entity, BASE):
                wrong.append((("sources", number), "a source may not have this name: the joined relation uses it"))
            wrong += [
                (("sources", number, "columns", place), "this is the key, which every source has; leave it out")
                for place, column in enumerate(source.columns)
                if column.name == self.key.name
            ]
        if wrong:
            raise MisdeclaredError(wrong)
        # Frozen: the one moment at which the key can be handed to the sources.
        object.__setattr__(self, "sources", tuple(source.with_key(self.key) for source in self.sources))
        return self

    def _unrelated(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Relationships to columns that do not exist or have another type."""
        types = {
            (source.name, name): kind
            for source in self.sources
            for name, kind in {self.key.name: ColumnType.TEXT, **{c.name: c.type for c in source.columns}}.items()
        }
        places: list[tuple[tuple[str | int, ...], Bounded]] = [
            (("sources", number, "columns", place), column)
            for number, source in enumerate(self.sources)
            for place, column in enumerate(source.columns)
        ]
        places += [(("profile", number), column) for number, column in enumerate(self.profile)]
        for where, column in places:
            if column.relationships is None:
                continue
            to, name = column.relationships.to, column.relationships.column or self.key.name
            if to not in self.source_names:
                yield (*where, "relationships", "to"), f"{to} is not among the sources"
            elif (to, name) not in types:
                yield (*where, "relationships", "column"), f"{name} is not among the columns of {to}"
            elif types[to, name] is not column.type:
                text = f"{name} of {to} is of type {types[to, name].value}, {column.name} of type {column.type.value}"
                yield (*where, "relationships"), text

    def rule_of(self, check: str) -> CheckRule:
        """What is declared of the check called `check`."""
        return next((rule for rule in self.checks if rule.name == check), CheckRule(name=check))

    def source(self, name: str) -> Source:
        """The source called `name`; KeyError when the contract has none."""
        return {source.name: source for source in self.sources}[name]

    @property
    def source_names(self) -> tuple[str, ...]:
        """The sources in contract order."""
        return tuple(source.name for source in self.sources)

    @property
    def personal_columns(self) -> frozenset[str]:
        """Columns of sources and profile that hold personal data."""
        columns: Sequence[Bounded] = [*self.profile, *(c for source in self.sources for c in source.columns)]
        return frozenset(column.name for column in columns if column.pii)

    def meanings(self) -> dict[str, str]:
        """The meaning of each column of a profile, by name: the profile's own words before those of the sources."""
        from_sources = {
            column.name: f"{column.meaning or column.name} ({source.label})"
            for source in reversed(self.sources)
            for column in source.columns
        }
        return from_sources | {column.name: column.meaning for column in self.profile if column.meaning}
