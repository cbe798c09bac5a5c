"""The checks that the words `unique` and `relationships` declare on columns of the profile and of sources."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from etl_assets.project.columns import Bounded, Relationship
from etl_assets.project.contract import Contract, Source


class Word(StrEnum):
    """The words that declare a check of the warehouse; the other words are promises, which each shard keeps."""

    UNIQUE = "unique"
    RELATIONSHIPS = "relationships"


@dataclass(frozen=True)
class ColumnCheck:
    """One check of one column; `source` is None for a column of the profile, `relationship` for `unique`."""

    word: Word
    column: str
    source: Source | None = None
    relationship: Relationship | None = None

    @property
    def name(self) -> str:
        """Its name: `unique_email` of the profile, `unique_crm__email` of the source crm."""
        owner = f"{self.source.name}__" if self.source else ""
        return f"{self.word}_{owner}{self.column}"


def column_checks(contract: Contract) -> list[ColumnCheck]:
    """The checks of the profile's columns, then those of each source's, in contract order."""
    found = [check for column in contract.profile for check in _of(column, None)]
    return found + [check for source in contract.sources for column in source.columns for check in _of(column, source)]


def _of(column: Bounded, source: Source | None) -> Iterator[ColumnCheck]:
    if column.unique:
        yield ColumnCheck(Word.UNIQUE, column.name, source)
    if column.relationships:
        yield ColumnCheck(Word.RELATIONSHIPS, column.name, source, column.relationships)
