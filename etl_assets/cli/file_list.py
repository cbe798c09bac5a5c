"""The files that a run has read, and the columns that it ignored, in `run` and `status`."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from etl_assets.cli import terminal
from etl_assets.engine.published.read_files import IgnoredColumn, ReadFile

# A source with more files has a line for the others together.
_FILES_SHOWN = 4
_COLUMNS_SHOWN = 20


def show(
    console: Console, files: Mapping[str, Sequence[ReadFile]], ignored: Mapping[str, Sequence[IgnoredColumn]]
) -> None:
    """A line for each file of each source, and one for the ignored columns of a source."""
    if any(files.values()):
        shown = terminal.table(("source", "left"), ("file", "left"), ("rows", "right"), ("changed", "left"))
        for source, read in files.items():
            for file in _listed(read):
                shown.add_row(
                    terminal.plain(source),
                    terminal.plain(file.name),
                    terminal.number(file.row_count),
                    terminal.moment(file.modified_at),
                )
        console.print()
        console.print(shown)
    for source, columns in ignored.items():
        if columns:
            more = f" and {len(columns) - _COLUMNS_SHOWN:,} more" if len(columns) > _COLUMNS_SHOWN else ""
            listed = ", ".join(map(_column, columns[:_COLUMNS_SHOWN]))
            console.print(terminal.plain(f"{source}: not declared, so ignored: {listed}{more}"), soft_wrap=True)


def show_unread(console: Console, names: Sequence[str]) -> None:
    """A line with the files that no source reads, if there are any."""
    if names:
        more = f" and {len(names) - _COLUMNS_SHOWN:,} more" if len(names) > _COLUMNS_SHOWN else ""
        console.print(terminal.plain(f"no source reads: {', '.join(names[:_COLUMNS_SHOWN])}{more}"), soft_wrap=True)


def _listed(read: Sequence[ReadFile]) -> Sequence[ReadFile]:
    """The first and the last files, and the others as one: of records of one key, those of the last ones count."""
    if len(read) <= _FILES_SHOWN:
        return read
    others = read[1 : 1 - _FILES_SHOWN]
    row_count = sum(file.row_count or 0 for file in others)
    return [read[0], ReadFile(f"… and {len(others):,} more", row_count, None), *read[1 - _FILES_SHOWN :]]


def _column(column: IgnoredColumn) -> str:
    # As of a comma at the end of the header.
    name = column.name if column.name.strip() else "a column without a name"
    return name + (f" (is it {column.near}, which no record has?)" if column.near else "")
