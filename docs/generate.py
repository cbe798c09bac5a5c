"""Writes docs/reference/ from the code: `make docs`. A test fails when a file there is out of date.

What is declared in the code is said once, there: settings, tables, options, words of the contract. What needs an
argument or an example is in the other parts of docs/, written by hand.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, cast, get_args, get_origin

from pydantic import BaseModel, StringConstraints

from etl_assets.cli.arguments import EXIT_CODES, Parser
from etl_assets.cli.main import COMMANDS
from etl_assets.cli.program import program
from etl_assets.engine.faults import LAKE_STEPS, MOMENTS, PUBLICATIONS, RESTORE_STEPS, STEPS, Action
from etl_assets.engine.published.checks import warehouse_checks
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.tables import Table, warehouse_tables
from etl_assets.orchestration.component import ProfilesComponent
from etl_assets.project.columns import Relationship
from etl_assets.project.contract import Column, ColumnType, Contract, ProfileColumn, Source
from etl_assets.project.dialect import Dialect, FileDialect
from etl_assets.project.identity import Key, KeyMap
from etl_assets.project.loading import load_project, shipped_folder
from etl_assets.project.null_words import DEFAULT_NULLS, SHEET_ERRORS
from etl_assets.project.schema import SCHEMA_FILE, contract_schema
from etl_assets.project.settings import DECLARABLE, variable
from etl_assets.project.settings import table as settings_table
from etl_assets.project.severity import CheckRule

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by `make docs` from the code. Change the code, not this file. -->"
_ACTIONS = {
    Action.RAISE: "raises a transient error, as a disk that refuses a write does",
    Action.RAISE_PERMANENT: "raises a permanent error, which is not retried",
    Action.KILL: "ends the process with SIGKILL",
    Action.HANG: "waits until the work is stopped",
    Action.TORN_WRITE: "cuts the file in half and ends the process with SIGKILL",
    Action.DISK_FULL: "limits how large a file this process may write, so that the system refuses the next write",
    Action.CORRUPT: "overwrites the middle half of the file and goes on",
    Action.SLOW: "waits 0.3 s and goes on",
}
_MOMENTS = {
    "begin": "before the temporary file or folder is written",
    "before_sync": "when it is written",
    "before_swap": "when it is synced",
    "after_swap": "when it has its published name",
    "end": "when the folder around it is synced",
}
_STEPS = {
    "staging.read": "all rows of a source are parsed and routed",
    "staging.slices": "the slices of a source are complete",
    "staging.quarantine": "the quarantine of a source is written",
    "shard.joined": "the profiles of a shard are computed and written to its temporary file",
    "shard.validated": "the shard passed its checks",
    "merge.copied": "the shards' profiles are in the temporary warehouse",
    "merge.tables": "the other tables are in it too",
    "event.attempt": "an attempt at a shard has started or ended, and is about to be logged in Dagster",
    "event.sources": "the sources are staged, and are about to be reported to Dagster",
    "event.shards": "a shard is published, and is about to be reported to Dagster",
    "event.merge": "the warehouse is published, and is about to be reported to Dagster",
    "merge.kept": "the warehouse that is about to be replaced is kept, if it is to be",
    "sweep": "leftovers of killed processes are about to be removed from a folder",
}
_RESTORE_STEPS = {
    "restore.kept": "the kept warehouse is verified, and the present one is kept too",
    "restore.marked": "the mark that holds it is written",
    "restore.before_swap": "the kept one has a temporary name beside the present one",
    "restore.after_swap": "it is published",
}
_LAKE_STEPS = {
    "probe.put": "the object that tries the store's conditional puts is there",
    "sending.begin": "a source is staged, and nothing of it is in the lake",
    "sending.slice": "one of its files is about to be put",
    "sending.slices": "its files are there, its `snapshot.json` is not",
    "sending.marker": "its `snapshot.json` is there, and `current.json` names another snapshot",
    "sending.pointer": "`current.json` names it",
    "sending.attempt": "the record of an attempt that has ended is about to be put",
    "commit.document": "the document of a version is there, and the table's version that names it is not",
    "vacuum.chosen": "what nothing names is listed, and about to be removed",
    "vacuum.markers": "the `snapshot.json` of snapshots that nothing names are removed, and nothing else is",
    "vacuum.removed": "all that nothing names is removed",
}
_STATUSES = {
    Status.WAITING: "the step has not started",
    Status.RUNNING: "it is in progress",
    Status.RETRYING: "an attempt failed and another one follows",
    Status.SUCCEEDED: "the attempt built and published the shard",
    Status.REUSED: "the published shard was current; nothing was built",
    Status.FAILED: "it ended with an error",
    Status.KILLED: "its process ended without recording an end",
    Status.CANCELLED: "its run was cancelled",
    Status.PUBLISHED: "the shard is published and current",
    Status.STALE: "the shard is published, but from other data, by another version or for another number of shards",
    Status.MISSING: "no shard is published",
    Status.DAMAGED: "the shard's file is not what its manifest says",
}


def pages() -> dict[str, str]:
    """Every generated page: file name and text."""
    written = {
        "settings.md": _settings(),
        "contract.md": _contract(),
        "tables.md": _tables(),
        "command-line.md": _command_line(),
        "faults.md": _faults(),
        "component.md": _component(),
    }
    return {name: f"{_NOTE}\n\n{text.strip()}\n" for name, text in written.items()}


def schema_text() -> str:
    """The JSON schema of the contract, which is shipped in the package."""
    return json.dumps(contract_schema(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the pages that changed, and the schema."""
    FOLDER.mkdir(exist_ok=True)
    texts = {FOLDER / name: text for name, text in pages().items()}
    for path, text in {**texts, SCHEMA_FILE: schema_text()}.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(FOLDER.parent.parent)}\n")


def _settings() -> str:
    rows = [(f"`{name}`", _code(shown), meaning) for name, shown, meaning in settings_table()]
    return f"""
# Settings

Settings are environment variables. An empty one counts as not set. Relative paths start at the current folder, and `~`
is the home folder. `etl-assets` refuses a wrong value, and a name that looks like a misspelt one of these, with exit
code 2.

{_table(("variable", "default", "meaning"), rows)}

## In a project's file

`settings:` in `etl_assets.yaml` may hold these; an environment variable comes before them, the default after them.
Relative paths start at the project's folder.

{_table(("word", "variable"), [(f"`{name}`", f"`{variable(name)}`") for name in DECLARABLE])}
"""


def _code(shown: str) -> str:
    return shown if " " in shown else f"`{shown}`"


def _component() -> str:
    model = ProfilesComponent.get_model_cls()
    assert model is not None, "it has fields"
    fields = model.model_fields.items()
    rows = [(f"`{name}`", "yes" if field.is_required() else "no", field.description or "") for name, field in fields]
    return f"""
# The component

`etl_assets.ProfilesComponent` puts a project into a `dg` project ([how](../how-to/embed.md#in-a-dg-project)). These are
the `attributes:` of its `defs.yaml`. `{{{{ env.NAME }}}}` stands for an environment variable.

{_table(("field", "required", "meaning"), rows)}
"""


def _contract() -> str:
    parts: list[tuple[str, type[BaseModel], str]] = [
        ("The file", Contract, ""),
        ("`key`", Key, ""),
        ("A source", Source, "`sources` maps names to sources, or is a list of sources with a `name` each."),
        (
            "`csv`, in a source",
            Dialect,
            "How the files of a source are written. The first eight words concern text files only, the others the cells of "
            "every format. A cell in a form that is not declared is invalid: nothing is read with another meaning.",
        ),
        (
            "`csv_by_file`, in a source",
            FileDialect,
            "A list, for a system whose files are not all written in one way. An entry has `files` and those words of "
            "`csv` that differ for these files.",
        ),
        (
            "`key_map`, in a source",
            KeyMap,
            "For a system that knows none of the keys, only ids of its own ([how](../how-to/own-exports.md"
            "#systems-that-share-no-id)). Ids and keys have the forms of `key`: what does not count there, blanks around "
            "them or case, does not count here. Rows without an id or without a key are ignored and counted.",
        ),
        (
            "A column of a source",
            Column,
            "`columns` maps names to columns. A list of names declares columns of text.",
        ),
        (
            "A column of the profile",
            ProfileColumn,
            "`profile` is optional. It lists columns that `sql/profiles.sql` computes. SQL that gives a column of "
            "another type is refused before anything is built. A shard whose profiles break a "
            "promise is not published.",
        ),
        (
            "`relationships`, in a column",
            Relationship,
            "Each value of the column must occur there. [Checks of your own](../how-to/checks.md) has examples.",
        ),
        (
            "A check",
            CheckRule,
            "`checks` maps the names of checks to what is declared of them: of files in `sql/checks/`, and of `unique` and "
            "`relationships` on columns (`unique_email` of the profile, `unique_crm__email` of the source crm).",
        ),
    ]
    sections = "\n".join(
        f"\n## {title}\n{note and chr(10)}{note}{note and chr(10)}\n{_fields(model)}" for title, model, note in parts
    )
    nulls, errors = (", ".join(f"`{word}`" for word in words) for words in (DEFAULT_NULLS, SHEET_ERRORS))
    return f"""
# The project folder

| file | holds |
|---|---|
| `etl_assets.yaml` | the contract: sources, columns, key, promises about the profile |
| `sql/profiles.sql` | the profile: one SELECT |
| `sql/macros/*.sql` | macros for it, one `CREATE MACRO` a file; each can use the others |
| `sql/checks/*.sql` | [checks of the warehouse](../how-to/checks.md): a SELECT each for the rows that should not be there |

The folder is named by `--project` or by `ETL_PROJECT`. Otherwise it is the nearest folder upwards that holds a project,
else the only one right below the current folder, else the shipped one, `etl_assets/project/customer360`. The command
`etl-assets check` reports every mistake in the files with its line, all of them at once. `etl-assets init` writes a JSON
schema beside `etl_assets.yaml`, `.etl_assets.schema.json`, so that editors complete and check the file.
{sections}

## Types

| type | DuckDB | read from |
|---|---|---|
| `text` | {ColumnType.TEXT.duckdb} | any text; an empty cell, or one of white space only, is null |
| `int` | {ColumnType.INT.duckdb} | `12`, `+12`, `12.0`, `1.2e3`; not `12.7`, `1_000` or `1.2E+3` |
| `float` | {ColumnType.FLOAT.duckdb} | `12`, `12.5`, `.5`, `1.2e3`; not `nan` or `inf`. Minus zero becomes zero |
| `decimal(p,s)` | {ColumnType.DECIMAL.duckdb}(p,s) | as `float`, exactly: a number with more than `s` digits after the point is invalid, not rounded |
| `bool` | {ColumnType.BOOL.duckdb} | `true`, `yes`, `1`, `false`, `no`, `0`, … (`true_words`, `false_words`), in any case |
| `date` | {ColumnType.DATE.duckdb} | `2026-05-01`; of a moment, its day in UTC; other forms by `dates` |
| `timestamp` | {ColumnType.TIMESTAMP.duckdb}, in UTC | `2026-05-01T14:22:33Z`, `2026-05-01 14:22:33 +0200`, `2026-05-01 14:22`; without a zone, UTC |

White space around numbers, dates and truth values is ignored. Numbers with other marks, signs or words need `csv`.
A whole number or a decimal may have an exponent (`9.9213206E7`), but not `1.23E+12`: a spreadsheet leaves that of more digits.

A value that is not of its type, or breaks `min`, `max`, `values` or `pattern`, is invalid. By default its cell becomes
null: the row stays, the cell is in `quarantine`, and the profile's `issues` name it. `on_invalid: reject_row` rejects the
row, and so does a column that is `required`. Rows with such a cell count for `ETL_MAX_REJECT_RATIO`. All bad cells of a
row are in `quarantine`, also those of a row that is rejected for another reason.

## Null words

Besides the empty cell, these words mean null: {nulls}. In texts case counts, because `Null`, `NONE` and `Nan` are names,
and so are null: {errors}. In numbers, dates and truth values case does not count, and an error of a spreadsheet is a bad
cell. A row whose key is such a word, in any case, is rejected as `missing_<key>`. `NA` is no such word: it is Namibia, North
America and a grade. Neither are `none`, `unknown` and `--`.

`nulls` in `csv` replaces the words for a source or a file, `nulls` in a column for that column. `nulls: []` keeps every word
as a text, such as the last name None. Words that a column lists under `values` are values. A key refuses the default words
beside declared ones; only `csv: {{nulls: []}}` makes keys of them.

## The relations that `sql/profiles.sql` reads

| relation | one row for | columns |
|---|---|---|
| the entity, `customers` by default | each key in any source | `base`, and a struct for each source with `rows: one`, with null fields where it has no record of the key |
| each source, by its name | each accepted record of that source | the key and the source's columns |

`base` holds the key, `sources` (the names of the sources that have a record), `issues` (what is missing because it was
invalid: `<source>.<column>`, `<source>: row rejected`), `shard_id` and `idempotency_key`. The query must return all of
them; `issues` may be left out where every source has `on_invalid: reject_row`. It returns one row for each key: records
of a source with `rows: many` are counted or summed first. The query can use the macros of the project and `strip(text)`.

## Exports

Each source is one file, such as `<source>.csv`, or a folder `<source>/` of such files, or what its `files` patterns name.
Formats are known by the ending: .csv, .tsv and .tab (with tabs, unless `delimiter` says otherwise), .txt, .jsonl
and .ndjson, .xlsx and .xlsm, .parquet. A text may be packed as .gz, .zst or .zip with one file in it. Files are read in the natural order of their names: `billing-9` before `billing-10`,
`billing` before `billing (1)`. CSV has a header, with or without a byte order mark. The order of the columns, upper and
lower case, blanks and punctuation in the header do not matter: `Company Name` is `company_name`. Columns that the
contract does not name are ignored and reported. A missing file or column stops the source.

JSON Lines have an object on each line. Its fields are columns, and `from: address.city` is a field of an object in it.
A field that is left out or null is null. Numbers and truth values keep their text as it is written; a number that is an
id has to be whole. A list or an object
where a column is declared is a bad cell; in a source whose columns all take any text, it costs the row. A line that is no
object, or has a field twice, is a malformed row. A field of the key, or one that is `required`, must be in one of a file's
first 1,000 records; other fields may be missing in all, which `check` reports.

Of a workbook, one sheet is read: the first, or the one that `sheet:` names. Its header is the row after `skip_lines`, a
line is a row of the sheet. Numbers have all their digits and no `.0`, dates are ISO dates, errors such as `#N/A` are
their text. In cells that hold texts, numbers and dates are read as `csv:` says.

In Parquet, the type of a column counts. Ids are the same texts as in CSV: whole numbers of type DOUBLE below 2^53, FLOAT
below 2^24 and DECIMAL are integers (`1.0` is `1`, as in JSON), NaN is no id, a UUID and a DATE are as they are written.
Other numbers as ids, and BOOLEAN, TIMESTAMP, TIME, INTERVAL and JSON, are refused by name. Bytes without a type (BLOB)
are UTF-8, or refused. Lists, structs, maps and unions in a declared column are refused. Other values are read by
DuckDB's text; whole numbers of type DOUBLE in a column of texts have no `.0`.

Rows of a text or a sheet whose cells are all empty (`,,,,`, also with blanks and quotes) are left out as blank lines are,
and counted in `rows_empty` of `source_snapshots`.

Folders of Parquet files may name columns, as in `crm/day=2026-05-01/part-0.parquet` (`files: crm/**`). They are columns
that can be declared, unless the file has one of that name. Their texts are decoded as in addresses;
`__HIVE_DEFAULT_PARTITION__` is null.

If a source with `rows: one` has several rows of one key, the last one in file order counts, or the greatest by
`latest_by`. With `rows: many` all count; those with an equal `row_key` replace each other.

## Reasons for quarantine

A rejected row goes to the table `quarantine` with its file, line, raw text and reason. Its neighbours are not affected.

| reason | the row |
|---|---|
| `missing_<key>` | has no key |
| `unmapped_<key>` | has an id that the source's `key_map` does not have; in the quarantine the id stands in the place of the key |
| `ambiguous_<key>` | has an id to which the `key_map` gives several keys; here and in the row above, the quarantine shows the id in the place of the key |
| `missing:<column>` | has no value in a column that is required |
| `invalid:<column>` | has a value in that column that breaks the contract; for the key, one that is too long, or that a spreadsheet damaged: `1.23457E+12`, `1E+15`, `#REF!`, `####` (`key: {{damaged: keep}}` takes them). With a `cell`, the row was accepted without it, or rejected for another reason |
| `malformed_row` | is not a sound record: too few or too many fields, broken quotes, bytes that are not of its declared encoding, no JSON object; or is over 1 MB, in Parquet too |
| `not_utf8` | holds bytes that are not UTF-8, in a file for which no other encoding is declared |
| `superseded` | was sound, but a later row with the same key replaced it |
"""


def _fields(model: type[BaseModel]) -> str:
    rows = []
    for attribute, field in model.model_fields.items():
        name = field.alias or attribute
        if field.exclude or (model is FileDialect and attribute in Dialect.model_fields):
            continue
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        is_name = any(isinstance(one, StringConstraints) for one in field.metadata)
        kind = "a name: `a-z`, `0-9`, `_`" if is_name else _kind(field.annotation)
        rows.append((f"`{name}`", kind, default, field.description or ""))
    return _table(("word", "value", "default", "meaning"), rows)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Key):
        return f"`{{name: {value.name}, max_chars: {value.max_chars}}}`"
    if isinstance(value, Dialect):
        return "plain CSV"
    if isinstance(value, tuple) and value:
        return ", ".join(f"`{one}`" for one in value)
    return "none" if value in (None, "", ()) else f"`{value}`"


def _kind(annotation: Any) -> str:
    """The type of a value in the words of YAML."""
    words = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "`true` or `false`",
        Key: "see `key`",
        Dialect: "see `csv`",
        KeyMap: "see `key_map`",
        Relationship: "see `relationships`",
    }
    if get_origin(annotation) is Mapping:
        return "see [Settings](settings.md)"
    if get_origin(annotation) is tuple:
        (item, _) = get_args(annotation)
        is_texts = item is str or get_args(item)[:1] == (str,)
        return (
            "text, or list of texts" if is_texts and item is not str else "list of texts" if is_texts else "see below"
        )
    # Annotated[…], and a word without a default of its own.
    options = [one for one in get_args(annotation) if one is not type(None) and isinstance(one, type)]
    for option in [annotation, *options]:
        if isinstance(option, type) and issubclass(option, StrEnum):
            return ", ".join(f"`{kind}`" for kind in option)
    if type(None) in get_args(annotation):
        return next((words[one] for one in options if one in (Relationship, KeyMap, str)), "number")
    return words[annotation]


def _tables() -> str:
    project = load_project(shipped_folder())
    tables = warehouse_tables(project.contract)
    checks = [(f"`{check.name}`", check.description) for check in warehouse_checks(project)]
    listed = _table(("table", "holds"), [(f"[`{table.name}`](#{table.name})", f"{table.meaning}.") for table in tables])
    statuses = _table(("word", "meaning"), [(f"`{status}`", f"{_STATUSES[status]}") for status in Status])
    return f"""
# The warehouse

`$ETL_HOME/warehouse.duckdb`, in storage version 1.5. The comments below are in the file too: `FROM duckdb_tables()` and
`FROM duckdb_columns()`. The columns of `merged_profiles` are those of the shipped project; in a project of your own,
`sql/profiles.sql` decides. Every merge writes all tables again: do not keep tables or views of your own in the file.

{listed}

{"".join(_columns(table, project.contract) for table in tables)}## Checks

Each merge runs these checks on the published file. Their results are on the page of `merged_profiles` in the Dagster UI
and in the exit code of `etl-assets run`. A project adds to them: [checks of your own](../how-to/checks.md).

{_table(("check", "passes when"), checks)}

## What a status means

{statuses}
"""


def _columns(table: Table, contract: Contract) -> str:
    has_types = any(column.type for column in table.columns)
    heading = ("column", "type", "meaning") if has_types else ("column", "meaning")
    # The profiles' columns have no order of their own: the key, the sources' in contract order, then the others.
    first = [contract.key.name, *(column.name for source in contract.sources for column in source.columns)]
    columns = table.columns if has_types else sorted(table.columns, key=lambda one: _place(first, one.name))
    rows = [(f"`{column.name}`", *([column.type] if has_types else []), column.meaning) for column in columns]
    return f"## {table.name}\n\n{table.meaning}.\n\n{_table(heading, rows)}\n\n"


def _place(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _command_line() -> str:
    sections = "\n\n".join(_command(name) for name in COMMANDS)
    commands = _table(("command", "does"), [(f"[`{name}`](#{name})", does) for name, does in COMMANDS.items()])
    return f"""
# The command `etl-assets`

The same texts are in `etl-assets --help` and `etl-assets COMMAND --help`. [Settings](settings.md) are environment
variables.

{commands}

{sections}

## Exit codes

{_exit_codes()}

A reader that closes the pipe (`etl-assets query … | head`) ends the command with 141, as a shell reports SIGPIPE.
"""


def _command(name: str) -> str:
    module = importlib.import_module(f"etl_assets.cli.{name}_command")
    parser = cast("Parser", module.add_parser(Parser().add_subparsers()))
    examples = (
        (parser.epilog or "").removeprefix("examples:\n").removesuffix(EXIT_CODES).replace(program(), "etl-assets")
    )
    lines = "\n".join(line.removeprefix("  ") for line in examples.strip("\n").splitlines()).strip()
    rows = list(_arguments(parser))
    options = f"\n\n{_table(('argument', 'meaning'), rows)}" if rows else ""
    return f"## {name}\n\n{' '.join((parser.description or '').split())}{options}\n\n```sh\n{lines}\n```"


def _arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = "|".join(map(str, action.choices)) if action.choices else action.metavar or action.dest.upper()
        takes_value = action.nargs != 0
        words = [f"{option} {value}" if takes_value else option for option in action.option_strings]
        shown = ", ".join(f"`{word}`" for word in words or [str(value)]).replace("|", "\\|")
        yield shown, " ".join((action.help or "").split())


def _exit_codes() -> str:
    rows = [line.strip().split(maxsplit=1) for line in EXIT_CODES.splitlines()[1:]]
    return _table(("exit code", "meaning"), [(code, meaning) for code, meaning in rows])


def _faults() -> str:
    return f"""
# Fault points

A fault point is a named moment at which a test or a drill can break the pipeline. `ETL_FAULT` arms faults:

```sh
ETL_FAULT="shard.before_swap kill shard=shard_03 attempts=1" etl-assets run
```

A fault is `POINT ACTION [shard=…] [attempts=…]`; several are separated by semicolons. Without `shard` it strikes any
shard, without `attempts` every attempt. `CHAOS_FAIL_SHARD=3` is short for `shard.begin raise shard=3 attempts=1`. With
`ETL_ENV=production` both are refused. Dagster loads the file `.env` of the folder in which it is started: a fault in it
arms the runs of `etl-assets ui` and `dagster dev` there, not those of `etl-assets run`.

## Actions

{_table(("action", "what it does"), [(f"`{action}`", _ACTIONS[action]) for action in Action])}

## Points of a publication

`{"`, `".join(PUBLICATIONS)}` are published in the same way. Each has these points, such as `shard.begin`:

{_table(("point", "reached"), [(f"`….{moment}`", _MOMENTS[moment]) for moment in MOMENTS])}

## Points of the work

{_table(("point", "reached when"), [(f"`{step}`", _STEPS[step]) for step in STEPS])}

## Points of a restore

`etl-assets restore` passes these, and no run does:

{_table(("point", "reached when"), [(f"`{step}`", _RESTORE_STEPS[step]) for step in RESTORE_STEPS])}

With a lake, it passes the last two, before and after the commit.

## Points of a run with a lake

With `ETL_LAKE`, a run passes these too:

{_table(("point", "reached when"), [(f"`{step}`", _LAKE_STEPS[step]) for step in LAKE_STEPS])}

Of `shard`, `manifest` and `warehouse`, it passes `….before_swap` and `….after_swap`, which are before and after the shard's
file, its manifest and the table's version are put, and `shard.begin`. It passes neither `merge.copied` nor `merge.kept`.
"""


def _table(heading: tuple[str, ...], rows: list[Any]) -> str:
    lines = [f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text).replace("<", "&lt;") if "`" not in text else text


if __name__ == "__main__":
    main()
