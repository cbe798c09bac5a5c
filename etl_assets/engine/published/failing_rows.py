"""Checks whose rows are failures: binding them, counting their rows, showing the first few with personal data masked.

The statements are a project's own. They run in read-only transactions over a connection that reads no file outside
ETL_HOME: a query can change data, too (`WITH gone AS (DELETE …)`).
"""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.published.masking import masked
from etl_assets.engine.published.preview import MASK
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.published.tables import table_names, warehouse_tables
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, identifiers, pattern_list
from etl_assets.project.contract import Contract
from etl_assets.project.version import plain_sql

ROWS_SHOWN = 5
# The schema of the views of sources.
STAGED = "temp"
# The errors of a statement that would fail the next time, too.
_REFUSALS = (
    duckdb.ProgrammingError,
    duckdb.NotSupportedError,
    duckdb.PermissionException,
    duckdb.TransactionException,
    duckdb.DataError,
)
# Of these, the ones whose text quotes a value.
_QUOTING = (duckdb.DataError, duckdb.InvalidInputException)
# Columns of the engine's tables that hold cells of exports.
_CELLS = frozenset({"raw_text", "cell"})


class RefusedError(Exception):
    """DuckDB refuses a statement; the text says why and quotes no value."""


@dataclass(frozen=True)
class FailingRows:
    """The rows that a check returned: how many, and the first of them in the order of their columns, masked."""

    count: int
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()


def add_source_views(
    connection: duckdb.DuckDBPyConnection, site: Site, snapshots: Mapping[str, Snapshot], statements: Sequence[str]
) -> None:
    """Let SQL read the accepted rows of each source that a statement names, under the source's name."""
    rows = {}
    for name, snapshot in snapshots.items():
        folder = site.home.snapshot(name, snapshot.folder)
        paths = pattern_list(folder / f"{part.shard_id}.parquet" for part in snapshot.slices)
        rows[name] = f"read_parquet({paths})"
    add_views(connection, site.contract, rows, statements)


def add_views(
    connection: duckdb.DuckDBPyConnection, contract: Contract, rows: Mapping[str, str], statements: Sequence[str]
) -> None:
    """Let SQL read those of the sources, each with its rows as SQL, that a statement names.

    A source that has the name of one of the warehouse's tables cannot be read.
    """
    for name in sources_named(contract, statements):
        if name not in rows:
            continue
        columns = identifiers(contract.source(name).required)
        connection.execute(f"CREATE TEMP VIEW {identifier(name)} AS SELECT {columns} FROM {rows[name]}")


def sources_named(contract: Contract, statements: Sequence[str]) -> list[str]:
    """The sources whose rows these statements may read; not those that have the name of a table of the warehouse."""
    words = {word for text in statements for word in re.findall(r"\w+", text.lower())}
    return sorted(words & set(contract.source_names) - set(table_names()))


def bind(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Bind a check without reading a row; RefusedError when it is not one query that DuckDB can run."""
    with _refusing(), _reading_only(connection):
        statements = connection.extract_statements(text)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise RefusedError("expected one SELECT")
        connection.execute(f"DESCRIBE SELECT * FROM ({_query(text)}\n)")


def failing_rows(connection: duckdb.DuckDBPyConnection, text: str, contract: Contract) -> FailingRows:
    """Run a check; RefusedError when it cannot be run."""
    bind(connection, text)
    query = _query(text)
    with _refusing(), _reading_only(connection):
        count = duck.scalar(connection, f"SELECT count(*) FROM ({query}\n)")
        assert isinstance(count, int), "a count"
        if not count:
            return FailingRows(0)
        known = _known_columns(connection, contract)
        cursor = connection.execute(f"SELECT * FROM ({query}\n) ORDER BY ALL LIMIT {ROWS_SHOWN}")
        described = [(str(name), str(kind)) for name, kind, *_ in cursor.description or []]
        is_masked = [_is_masked(contract, known, name, kind) for name, kind in described]
        rows = tuple(
            tuple(MASK if hides and cell is not None else cell for hides, cell in zip(is_masked, row, strict=True))
            for row in cursor.fetchall()
        )
        return FailingRows(count, tuple(name for name, _ in described), rows)


def _known_columns(connection: duckdb.DuckDBPyConnection, contract: Contract) -> set[str]:
    """The names, in small letters, of columns of sources and of the warehouse's tables, without cells of exports."""
    profile = [row[0] for row in connection.execute(f"DESCRIBE {PROFILES_TABLE}").fetchall()]
    names = [*profile, *(column.name for table in warehouse_tables(contract) for column in table.columns)]
    names += [column.name for source in contract.sources for column in source.columns]
    return {name.lower() for name in names} - _CELLS


def _is_masked(contract: Contract, known: Collection[str], name: str, kind: str) -> bool:
    """Whether a column may hold personal data.

    A query can give a column any name. Where the project declares personal data, text under an unknown name is masked,
    too.
    """
    personal = {column.lower() for column in contract.personal_columns}
    is_text = not re.fullmatch(r"BOOLEAN|DATE|TIME.*|INTERVAL|FLOAT|DOUBLE|DECIMAL.*|U?\w*INT(EGER)?", kind)
    return name.lower() in personal or (bool(personal) and is_text and name.lower() not in known)


def _query(text: str) -> str:
    return plain_sql(text).rstrip("; ")


@contextlib.contextmanager
def _reading_only(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("BEGIN TRANSACTION READ ONLY")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except _REFUSALS as error:
        if isinstance(error, _QUOTING):
            # Without its cause, which quotes the value.
            raise RefusedError(masked(error)) from None
        raise RefusedError(str(error).strip().splitlines()[0]) from error
