"""The dirt of the sample: which flaws there are, and which row of an export shows which.

The rows of an export are cut into blocks of 1/share rows. Dice choose one dirty row of each block, and the block takes
the next flaw of the schedule. All of it follows from the row number, so no chunk depends on another. About three in
five dirty rows break the contract; the others are unusual but valid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etl_assets.project.contract import Source
from etl_assets.samples.customers import KEY, duckdb_type
from etl_assets.samples.dice import literal, multiplier, text_list

PER_MILLION = 1_000_000
# SQL holds text only, so this character stands for a byte that is not UTF-8 until the lines are encoded: é in Latin-1,
# the usual accident.
NOT_UTF8_STAND_IN, NOT_UTF8 = "\ue000", b"\xe9"
# The file of such a source begins with a byte order mark; the others show that one file's habit is not every file's.
BOM_SOURCES = frozenset({"crm", "support"})
# Longer than the shipped contract allows (128).
_LONG_ID_CHARS = 200
# The row itself is sound; the next block brings a newer version of it.
_SUPERSEDED = "superseded"
# How many flaws the schedules of two neighbouring sources are apart, so that no customer is unlucky in every source.
_SHIFT = 7


@dataclass(frozen=True)
class Flaw:
    """One kind of dirt: `sql` makes it from the sound cell `column` or, when `column` is None, from the sound line."""

    name: str
    column: str | None
    sql: str


@dataclass(frozen=True)
class Dirt:
    """The flaws of one export: how many rows show one, which flaws take turns, and which of them comes first."""

    source_name: str
    seed: int
    dirty_ppm: int
    schedule: tuple[Flaw, ...]
    first: int

    def flawed_sql(self, column: str | None, sound: str) -> str:
        """SQL for the cell (or the line, when `column` is None) with the flaw of its row, if it has one there."""
        flaws = (flaw for flaw in self.schedule if flaw.column == column)
        whens = dict.fromkeys(f"WHEN '{flaw.name}' THEN {flaw.sql}" for flaw in flaws)
        return f"CASE flaw {' '.join(whens)} ELSE {sound} END" if whens else sound


_KEY_FLAWS = (
    Flaw("missing_id", KEY, "NULL"),
    Flaw("blank_id", KEY, "'   '"),
    Flaw("long_id", KEY, f"rpad({KEY}, {_LONG_ID_CHARS}, '0')"),
    # Valid: the id is trimmed.
    Flaw("spaced_id", KEY, f"'  ' || {KEY} || ' '"),
)
_LINE_FLAWS = (
    Flaw("too_few_fields", None, "regexp_replace(line, ',[^,]*$', '')"),
    Flaw("too_many_fields", None, "line || ',surplus'"),
    Flaw("open_quote", None, r"""regexp_replace(line, ',([^,]*)$', ',"note: \1')"""),
    Flaw("text_after_quote", None, r"""regexp_replace(line, ',([^,]*)$', ',"note: \1"x')"""),
    Flaw("not_utf8", None, f"regexp_replace(line, ',', ',Andr{NOT_UTF8_STAND_IN} ')"),
    Flaw("nul", None, "regexp_replace(line, ',', ',' || chr(0))"),
    Flaw("lone_cr", None, "regexp_replace(line, ',', ',' || chr(13))"),
    # Valid: a line may end in CRLF, and a blank line is not a row.
    Flaw("crlf", None, "line || chr(13)"),
    Flaw("blank_line", None, "chr(10) || line"),
)
# Values that their column cannot hold, by source.
_BAD_CELLS: Mapping[str, Sequence[tuple[str, str]]] = {
    "crm": (
        *(("employee_count", "tbd"), ("employee_count", "12.7")),
        *(("deal_value", "1.234,50"), ("last_contact", "2024-02-30")),
    ),
    "billing": (("mrr", "tbd"), ("subscription_start", "03/31/2025"), ("last_payment", "2024-02-30")),
    "product": (
        *(("total_sessions", "tbd"), ("features_used", "12.7")),
        *(("usage_pct", "130"), ("last_active", "2024-02-30")),
    ),
    "support": (
        *(("total_tickets", "12.7"), ("open_tickets", "tbd"), ("last_ticket_date", "2024-02-30")),
        *(("nps_score", "11"), ("csat_score", "9.9")),
    ),
}


def dirt_of(source: Source, number: int, seed: int, dirty_ppm: int, *, has_lines: bool) -> Dirt:
    """The dirt of a source; `number` is its place in the contract, from 0.

    Without lines (Parquet), only cells have flaws.
    """
    schedule = _schedule(source)
    if not has_lines:
        schedule = [flaw for flaw in schedule if flaw.column is not None or flaw.name == _SUPERSEDED]
    return Dirt(source.name, seed, dirty_ppm, tuple(schedule), number * _SHIFT)


def _schedule(source: Source) -> list[Flaw]:
    """The flaws in turn, every kind at least once: at most 40, so that 2,000 rows at 2 % show each kind."""
    twice = [Flaw(_SUPERSEDED, None, "line"), *_note_flaws(source)]
    bad = [Flaw(f"{column}={text}", column, literal(text)) for column, text in _BAD_CELLS.get(source.name, ())]
    return [*twice, *_KEY_FLAWS, *bad, *twice, *_LINE_FLAWS]


def _note_flaws(source: Source) -> list[Flaw]:
    """What people type into a text cell, all of it valid."""
    texts = text_columns(source)
    if not texts:
        return []
    column = texts[1] if len(texts) > 1 else texts[0]
    known = f"coalesce({column}, 'unknown')"
    return [
        Flaw("quoted_newline", column, f"{known} || chr(10) || '(see note)'"),
        Flaw("unicode", column, f"{known} || ' – Zoë, Łódź, 東京 🚀'"),
    ]


def text_columns(source: Source) -> list[str]:
    """The columns of the source that hold text, without the key."""
    return [column.name for column in source.columns if duckdb_type(column) == "VARCHAR"]


def wanted_sql(numbers: str, dirt: Dirt | None) -> str:
    """SQL for which record stands at each position: position, customer, version and flaw.

    `numbers` is a query for the positions. The record at a position belongs to the customer of the same number. A
    position that brings the newer version of an earlier record has two: its own (version 0), then the newer one (1).
    """
    if dirt is None:
        return f"SELECT position, position AS customer, 0 AS version, NULL::VARCHAR AS flaw FROM ({numbers})"
    names, count = text_list([flaw.name for flaw in dirt.schedule]), len(dirt.schedule)
    return f"""
        WITH numbers AS ({numbers}),
        blocks AS (SELECT position, position * {dirt.dirty_ppm} // {PER_MILLION} AS block FROM numbers),
        -- A block begins at the first position that divides into it.
        bounds AS (
            SELECT position, block, {_block_start_sql(dirt, "block - 1")} AS start_before,
                {_block_start_sql(dirt, "block")} AS start, {_block_start_sql(dirt, "block + 1")} AS start_after
            FROM blocks
        ),
        throws AS (
            SELECT position, block, start + {_throw_sql(dirt, "start", "start_after")} AS dirty_position,
                start_before + {_throw_sql(dirt, "start_before", "start")} AS dirty_position_before
            FROM bounds
        ),
        versions AS (
            SELECT *, {names}[1 + (block + {dirt.first}) % {count}] AS block_flaw,
                {names}[1 + (block + {dirt.first + count - 1}) % {count}] AS block_flaw_before,
                unnest(CASE WHEN position = dirty_position AND block > 0 AND block_flaw_before = '{_SUPERSEDED}'
                    THEN [0, 1] ELSE [0] END) AS version
            FROM throws
        )
        SELECT position, CASE version WHEN 0 THEN position ELSE dirty_position_before END AS customer, version,
            CASE WHEN position = dirty_position AND version = 0 THEN block_flaw END AS flaw
        FROM versions"""


def _block_start_sql(dirt: Dirt, block: str) -> str:
    return f"greatest(0, (({block}) * {PER_MILLION} + {dirt.dirty_ppm - 1}) // {dirt.dirty_ppm})"


def _throw_sql(dirt: Dirt, start: str, end: str) -> str:
    """SQL for how far into its block the dirty row is; the block before the first has no rows and counts as one."""
    key = f"mix(xor({start}::UBIGINT, {dirt.seed}::UBIGINT))"
    return f"roll({key}, {multiplier(f'dirt in {dirt.source_name}')}, greatest(1, {end} - {start}))"
