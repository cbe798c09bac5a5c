"""Whose record a row is: the key, and the map that leads from a system's own ids to it."""

from enum import StrEnum

from pydantic import Field, field_validator, model_validator

from etl_assets.project import file_patterns
from etl_assets.project.columns import Model, Name, Names, plain_name
from etl_assets.project.dialect import Dialect, FileDialect


class Case(StrEnum):
    """What becomes of capitals in a key."""

    KEEP = "keep"
    LOWER = "lower"


class Strip(StrEnum):
    """Which blanks around a key do not count."""

    ASCII = "ascii"
    UNICODE = "unicode"


class Damaged(StrEnum):
    """What becomes of rows whose id a spreadsheet has damaged."""

    REJECT = "reject"
    KEEP = "keep"


class Key(Model):
    """The column that tells whose record a row is; in every source, never null."""

    name: Name = Field(default="customer_id", description="The key's column in every source and in the result.")
    max_chars: int = Field(default=128, ge=1, le=4096, description="A row with a longer key goes to quarantine.")
    case: Case = Field(default=Case.KEEP, description="Whether capitals count in it; `lower` folds them.")
    strip: Strip = Field(
        default=Strip.ASCII,
        description="The blanks around it that do not count; `unicode` includes no-break and zero-width ones.",
    )
    damaged: Damaged = Field(
        default=Damaged.REJECT,
        description="What becomes of rows with ids such as `1.23457E+12`, `#REF!` and `####`, which spreadsheets leave "
        "of long numbers and failed formulas; `keep` takes them for ids.",
    )


class KeyMap(Model):
    """Files with a row for each id of a system: the id, and the key that it stands for."""

    files: Names = Field(
        min_length=1,
        description="Patterns of its files in the folder of the exports. Sources may share a file, and the export of "
        "another source may be the map.",
    )
    from_: Names = Field(
        min_length=1,
        alias="from",
        description="The column that has the ids of this source; several columns make up an id together.",
    )
    to: Names = Field(min_length=1, description="The column that has the key; several columns make it up together.")
    csv: Dialect = Field(default=Dialect(), description="How its files are written, if not as plain CSV.")
    csv_by_file: tuple[FileDialect, ...] = Field(
        default=(), description="How some of its files are written otherwise, as in a source."
    )
    sheet: str = Field(default="", description="The sheet of its workbooks (.xlsx); by default the first one.")
    pii: bool = Field(default=False, description="Whether the ids are personal data, which no message shows.")

    @field_validator("files")
    @classmethod
    def _check_files(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refusals = [finding for pattern in value if (finding := file_patterns.refusal(pattern)) is not None]
        if refusals:
            raise ValueError("; ".join(refusals))
        return value

    @model_validator(mode="after")
    def _check_dialects(self) -> "KeyMap":
        refusals = [finding for one in self.csv_by_file if (finding := one.refusal(self.csv)) is not None]
        if refusals:
            raise ValueError(f"csv_by_file: {'; '.join(refusals)}")
        return self

    @model_validator(mode="after")
    def _check_columns(self) -> "KeyMap":
        doubled = [name for name in self.to if plain_name(name) in map(plain_name, self.from_)]
        if doubled:
            raise ValueError(
                f"from and to both name the column {', '.join(doubled)}; expected the column that has the source's ids "
                "and the one that has the keys"
            )
        return self
