"""The values of Parquet files by their types: which are texts and ids, how they are written, which are refused.

A type is that of a whole column, so what cannot be a value is refused by name, and not row by row. An id is the same
text whatever format it comes in: 1 in CSV is 1.0 in the DOUBLE that pandas makes of a column of ids with one missing.
"""

import re
from collections.abc import Iterable

from etl_assets.engine.reading.exports import Export
from etl_assets.engine.sql_text import identifier, parquet_sql
from etl_assets.errors import Action, Advice, InputError, shown
from etl_assets.project.contract import Source

_NESTED = re.compile(r"\[|^(STRUCT|MAP|UNION|VARIANT|GEOMETRY)\b")
# No ids: what they are as text differs from one system to the next.
_NO_IDS = re.compile(r"^(BOOLEAN|TIMESTAMP|TIME|INTERVAL|JSON)\b")
# From here on not every whole number is a value of the type, so that ids may have become each other's.
_FIRST_INEXACT = {"DOUBLE": 2**53, "FLOAT": 2**24}
_DIGITS_OF_DECIMAL = "DECIMAL(38,0)"
_EXPORT_AGAIN = Advice(Action.EXPORT_AGAIN)


def text_sql(column: str, kind: str) -> str:
    """A value as the text of a cell: bytes as UTF-8, all others as DuckDB writes them."""
    return f"try(decode({column}))" if kind == "BLOB" else f"CAST({column} AS VARCHAR)"


def label_sql(column: str, kind: str) -> str:
    """A value as a text that stays one: whole numbers without `.0`, as they are in a CSV file and a workbook."""
    text = text_sql(column, kind)
    if kind not in _FIRST_INEXACT:
        return text
    whole = f"abs({column}) < {_FIRST_INEXACT[kind]} AND {column} = trunc({column})"
    return f"CASE WHEN {whole} THEN CAST({column}::BIGINT AS VARCHAR) ELSE {text} END"


def id_sql(column: str, kind: str) -> str:
    """A value as an id; NaN, as pandas writes a missing number, is none."""
    if kind in _FIRST_INEXACT:
        return f"CASE WHEN NOT isnan({column}) THEN {label_sql(column, kind)} END"
    if kind.startswith("DECIMAL"):
        whole = f"CAST(trunc({column})::{_DIGITS_OF_DECIMAL} AS VARCHAR)"
        return f"CASE WHEN {column} = trunc({column}) THEN {whole} ELSE {text_sql(column, kind)} END"
    return label_sql(column, kind)


def nested_columns(exports: Iterable[Export]) -> dict[str, str]:
    """The columns that hold lists, objects and the like instead of single values, and their types."""
    found = {column: kind for export in exports for column, kind in export.types.items()}
    return {column: kind for column, kind in found.items() if _NESTED.search(kind)}


def require_types(exports: Iterable[Export], source: Source) -> None:
    """InputError for a declared column whose type holds no single values, and for a key whose type is no id's."""
    for export in exports:
        ids = _ids(export, source)
        for column in dict.fromkeys((*export.key_columns, *export.found.values())):
            kind = export.types.get(column, "")
            if _NESTED.search(kind):
                what = "expected a single value in each row"
            elif column in ids and _NO_IDS.match(kind):
                what = "which makes no ids"
            else:
                continue
            raise InputError(
                f"{export.shown}: column '{shown(column)}' is of type {shown(kind)}; {what}. Export it as text.",
                _EXPORT_AGAIN,
                subject=export.name,
            )


def require_values(exports: Iterable[Export], source: Source) -> None:
    """InputError for ids that are no whole numbers, or too large for their type, and for texts that are not UTF-8."""
    for export in exports:
        ids = _ids(export, source)
        read = {*export.key_columns, *export.found.values()}
        asked = [(column, kind) for column, kind in export.types.items() if column in read]
        wrong = {column: _wrong_sql(identifier(column), kind, is_key=column in ids) for column, kind in asked}
        if not any(wrong.values()):
            continue
        with export.held() as path, export.reader() as connection:
            rows = parquet_sql(path, "file_row_number = true")
            for column, kind in asked:
                if not wrong[column]:
                    continue
                row = connection.execute(
                    f"SELECT file_row_number + 1, CAST({identifier(column)} AS VARCHAR) FROM {rows} "
                    f"WHERE {wrong[column]} LIMIT 1"
                ).fetchone()
                if row is not None:
                    raise _refusal(export, source, column, kind, *row)


def _ids(export: Export, source: Source) -> set[str]:
    return {*export.key_columns, *(column for name, column in export.found.items() if name in source.id_columns)}


def _wrong_sql(name: str, kind: str, *, is_key: bool) -> str | None:
    if kind == "BLOB":
        return f"{name} IS NOT NULL AND try(decode({name})) IS NULL"
    if is_key and kind in _FIRST_INEXACT:
        return f"NOT isnan({name}) AND (abs({name}) >= {_FIRST_INEXACT[kind]} OR {name} <> trunc({name}))"
    return f"{name} <> trunc({name})" if is_key and kind.startswith("DECIMAL") else None


def _refusal(export: Export, source: Source, column: str, kind: str, row: int, example: str) -> InputError:
    where = f"{export.shown}: column '{shown(column)}' is of type {shown(kind)}, and row {row:,}"
    if kind == "BLOB":
        text = f"{where} holds bytes that are not UTF-8. Export it as text."
    else:
        found = "another id" if source.has_personal_ids else shown(example)
        limit = f" below {_FIRST_INEXACT[kind]:,}, which this type holds exactly" if kind in _FIRST_INEXACT else ""
        text = f"{where} holds {found}; expected ids that are whole numbers{limit}. Export the ids as text."
    return InputError(text, _EXPORT_AGAIN, subject=export.name)
