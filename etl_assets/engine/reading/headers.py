"""Which column of a file is which column of the contract: names in headers are written in many ways.

Upper and lower case and blanks around a name never count. Where no header has a name just so, everything between its
letters and digits counts as one underscore: `Part Number` and `part-number` are `part_number`.
"""

from collections.abc import Sequence
from difflib import get_close_matches

from etl_assets.errors import Action, Advice, InputError, shown
from etl_assets.project.columns import plain_name
from etl_assets.project.contract import Source

_EXPORT_AGAIN = Advice(Action.EXPORT_AGAIN)
_EDIT = Advice(Action.EDIT, value="etl_assets.yaml")
_CHARS_SHOWN = 500
_NEAREST_SHOWN = 5


def find_columns(source: Source, columns: Sequence[str], name: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The header's name of each column of the contract, and those of the columns that make up the key.

    `name` is the file's, for errors: InputError when a column is missing or is there more than once.
    """
    # Two mappings: a header of the key may be the name of a column that has another header.
    keys = {header: _find(source, columns, name, (header,)) for header in source.key_headers}
    found = {column: _find(source, columns, name, column.headers) for column in source.columns}
    of_key, of_column = source.words_of_headers
    missing: list[tuple[Sequence[str], str]] = [((header,), of_key) for header, match in keys.items() if match is None]
    missing += [(column.headers, of_column) for column, match in found.items() if match is None]
    if missing:
        raise lacks_columns(source, missing, columns, name, "Its header has")
    columns_found = {column.name: match for column, match in found.items() if match is not None}
    return columns_found, tuple(match for match in keys.values() if match is not None)


def missing_columns(source: Source, columns: Sequence[str]) -> list[tuple[Sequence[str], str]]:
    """The columns that a file with this header would lack: the names looked for, and the word that changes them."""
    of_key, of_column = source.words_of_headers
    wanted: list[tuple[Sequence[str], str]] = [((header,), of_key) for header in source.key_headers]
    wanted += [(column.headers, of_column) for column in source.columns]
    return [(headers, word) for headers, word in wanted if not any(_matching(one, columns) for one in headers)]


def lacks_columns(
    source: Source, missing: Sequence[tuple[Sequence[str], str]], columns: Sequence[str], name: str, has: str
) -> InputError:
    """The error for a file without columns that it must have; `has` introduces the columns that it has.

    `missing` has the names that were looked for, and the word of the contract that changes them.
    """
    return InputError(
        f"{name} of source '{source.name}' lacks the column{'s' if len(missing) > 1 else ''} "
        f"{', '.join(' or '.join(headers) for headers, _ in missing)}. "
        f"{has}: {shown(', '.join(columns)[:_CHARS_SHOWN])}.{_nearest(missing, columns)}",
        _EXPORT_AGAIN,
        _EDIT,
        subject=source.name,
    )


def _find(source: Source, columns: Sequence[str], name: str, headers: Sequence[str]) -> str | None:
    """The column of the first of these headers that the file has, None without one; InputError for several."""
    matches = next(filter(None, (_matching(header, columns) for header in headers)), [])
    if len(matches) > 1:
        raise InputError(
            f"{name} of source '{source.name}' has the column {headers[0]} more than once"
            f"{'' if len(set(matches)) == 1 else ': ' + shown(', '.join(matches))}.",
            _EXPORT_AGAIN,
            subject=source.name,
        )
    return matches[0] if matches else None


def _matching(header: str, columns: Sequence[str]) -> list[str]:
    """The columns with this name, as written; by their plain names only where none is written just so."""
    exact = [column for column in columns if column.strip().lower() == header.strip().lower()]
    wanted = plain_name(header)
    return exact or [column for column in columns if wanted and plain_name(column) == wanted]


def _nearest(missing: Sequence[tuple[Sequence[str], str]], columns: Sequence[str]) -> str:
    """A sentence for each missing column with the header that it may be, where there is a near one.

    `missing` has the names that were looked for, and the word of the contract that changes them.
    """
    named = {plain_name(column): column for column in columns}
    sentences = []
    for headers, word in missing:
        wanted = plain_name(headers[0])
        # An id is never meant by the name of anything else: `visit_id` is no `last_visit_date`.
        near = [one for one in named if one.endswith("_id") <= wanted.endswith("_id")]
        close = get_close_matches(wanted, near, n=1)
        if close:
            name = shown(named[close[0]])
            sentences.append(f" Is {headers[0]} the column '{name}'? Then write for it: {word}: \"{name}\".")
    return "".join(sentences[:_NEAREST_SHOWN])
