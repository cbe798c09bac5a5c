"""The columns that a project declares: types, bounds, and what is promised or required of their values.

How a type is read from an export is defined by the `parse_*.sql` macros of the engine.
"""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

# Names become SQL identifiers, file names and asset keys; none begins with an underscore, which the engine's own do.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


Bound = Annotated[int | float, BeforeValidator(_number)]


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_BETWEEN_WORDS = re.compile(r"[\W_]+")
# One text, or a list of them.
Names = Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], BeforeValidator(_several)]


def plain_name(header: str) -> str:
    """A header's name without case, blanks and punctuation: `Account ID` is `account_id`."""
    return _BETWEEN_WORDS.sub("_", header).strip("_").lower()


class ColumnType(StrEnum):
    """The value types of the contract."""

    TEXT = "text"
    INT = "int"
    FLOAT = "float"
    DECIMAL = "decimal"
    BOOL = "bool"
    DATE = "date"
    TIMESTAMP = "timestamp"

    @property
    def duckdb(self) -> str:
        """The DuckDB type that holds such a value; that of a decimal also has its digits."""
        return _DUCKDB_TYPES[self]


_DUCKDB_TYPES = {
    ColumnType.TEXT: "VARCHAR",
    ColumnType.INT: "BIGINT",
    ColumnType.FLOAT: "DOUBLE",
    ColumnType.DECIMAL: "DECIMAL",
    ColumnType.BOOL: "BOOLEAN",
    ColumnType.DATE: "DATE",
    # Without a zone: all moments are in UTC.
    ColumnType.TIMESTAMP: "TIMESTAMP",
}
_NUMBERS = (ColumnType.INT, ColumnType.FLOAT, ColumnType.DECIMAL)
_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
# What Python's regular expressions have, and DuckDB's have not.
_NOT_IN_RE2 = re.compile(r"\(\?(?:[=!]|<[=!]|P=)|\\[1-9]")
# Digits that DuckDB can hold.
MAX_PRECISION = 38


class Model(BaseModel):
    """What a user writes: frozen, and every unknown word is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Relationship(Model):
    """Where each value of a column must occur."""

    to: Name = Field(description="The source whose accepted rows must have each value.")
    column: str = Field(default="", description="Its column; by default the key.")


class Bounded(Model):
    """A column with a type and inclusive bounds; None means unbounded."""

    name: Name = Field(description="The column's name; in a source, also in the header of its exports.")
    type: ColumnType = Field(
        default=ColumnType.TEXT, description="The type of the values; `decimal(12,2)` says precision and scale too."
    )
    precision: int = Field(default=18, ge=1, le=MAX_PRECISION, description="Digits of a decimal in all.")
    scale: int = Field(default=2, ge=0, le=MAX_PRECISION, description="Digits of a decimal after the point.")
    min: Bound | None = Field(default=None, description="The smallest value allowed, for numbers.")
    max: Bound | None = Field(default=None, description="The largest value allowed, for numbers.")
    values: tuple[str, ...] = Field(default=(), description="The only values that are allowed; empty allows all.")
    required: bool = Field(default=False, description="Whether null is refused.")
    unique: bool = Field(
        default=False, description="Whether a value may occur only once; null does not count. A check of the warehouse."
    )
    relationships: Relationship | None = Field(
        default=None,
        description="Where each value must occur, such as `{to: accounts, column: account_id}`; null does not count. A "
        "check of the warehouse.",
    )
    pii: bool = Field(default=False, description="Personal data: masked in the previews of the Dagster UI.")
    meaning: str = Field(default="", description="What the column means; shown in the UI and in the warehouse.")

    @property
    def is_number(self) -> bool:
        """Whether its values can be added up."""
        return self.type in _NUMBERS

    @property
    def duckdb(self) -> str:
        """The DuckDB type of its values."""
        digits = f"({self.precision},{self.scale})" if self.type is ColumnType.DECIMAL else ""
        return f"{self.type.duckdb}{digits}"

    @model_validator(mode="before")
    @classmethod
    def _take_digits(cls, value: Any) -> Any:
        """`type: decimal(12,2)` as type, precision and scale."""
        text = value.get("type") if isinstance(value, Mapping) else None
        found = _DECIMAL.fullmatch(text.strip()) if isinstance(text, str) else None
        if found is None:
            return value
        return {**value, "type": ColumnType.DECIMAL.value, "precision": int(found[1]), "scale": int(found[2])}

    @model_validator(mode="after")
    def _check_bounds(self) -> "Bounded":
        if (self.min is not None or self.max is not None) and not self.is_number:
            raise ValueError(f"min and max need a column of type int, float or decimal, found type {self.type.value}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is greater than max {self.max}")
        if self.values and self.type is not ColumnType.TEXT:
            raise ValueError(f"values need a column of type text, found type {self.type.value}")
        if self.scale > self.precision:
            raise ValueError(f"a decimal of {self.precision} digits cannot have {self.scale} after the point")
        return self


class OnInvalid(StrEnum):
    """What becomes of a value that breaks the contract."""

    SET_NULL = "set_null"
    REJECT_ROW = "reject_row"


class Column(Bounded):
    """One column of a source besides the key."""

    from_: Names = Field(
        default=(), alias="from", description="The column's name in the header, if another; a list names alternatives."
    )
    pattern: str = Field(default="", description="A regular expression that the whole text must match.")
    nulls: tuple[str, ...] | None = Field(
        default=None,
        description="Cells of this column that mean null, in the place of those of `csv`; `[]` keeps every word, such "
        "as the last name None.",
    )
    on_invalid: OnInvalid | None = Field(
        default=None,
        description="What becomes of a value that breaks the contract: `set_null` takes out the cell, `reject_row` the "
        "row. By default what the source says.",
    )

    @model_validator(mode="after")
    def _check_pattern(self) -> "Column":
        if self.pattern and self.type is not ColumnType.TEXT:
            raise ValueError(f"a pattern needs a column of type text, found type {self.type.value}")
        if self.pattern and _NOT_IN_RE2.search(self.pattern):
            raise ValueError("a pattern may not look around itself or refer back to its groups: (?=…), (?<…), \\1")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"the pattern is no regular expression: {error}") from error
        if self.required and self.on_invalid is OnInvalid.SET_NULL:
            raise ValueError("a required column cannot be set to null: leave out required, or write reject_row")
        return self

    @property
    def can_break(self) -> bool:
        """Whether there is any text that it refuses."""
        return self.type is not ColumnType.TEXT or bool(self.values or self.pattern)

    @property
    def headers(self) -> tuple[str, ...]:
        """The names that the column may have in a header."""
        return self.from_ or (self.name,)


class ProfileColumn(Bounded):
    """The promises about one column that `sql/profiles.sql` computes."""
