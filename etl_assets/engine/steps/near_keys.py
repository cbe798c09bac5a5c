r"""Keys that differ in nothing a person sees as a difference: blanks, case, marks without width, leading zeros.

Two systems that write one id in two ways give two profiles, each of them half empty. Which of such keys are the same is
not for a program to guess, so they are counted and shown. Two keys that stand side by side in two sources or more are
no finding: these systems agree that they are two.
"""

import unicodedata
from collections.abc import Iterator
from enum import StrEnum

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.published.notices import Notice, NoticeKind
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.reading.forms import key_sql
from etl_assets.engine.sql_text import identifier, statement
from etl_assets.errors import shown
from etl_assets.project.contract import SOURCES_COLUMN, Contract
from etl_assets.project.identity import Case, Key, Strip

EXAMPLES_SHOWN = 3
# Keys of one plain form that are compared with each other.
_KEYS_OF_A_FORM = 8
# Blanks of every kind and everything without width, also within the key.
_NOTHING_SEEN = r"[\s\p{Z}\p{Cf}]+"
_CHARS_SHOWN = 40


class Difference(StrEnum):
    """What two keys of one plain form differ in."""

    CASE = "case"
    BLANKS = "blanks or marks without width around them"
    CASE_AND_BLANKS = "case and blanks around them"
    ZEROS = "leading zeros"
    OTHER = "blanks, marks, case, accents or leading zeros"


def plain_key(key: str) -> str:
    """SQL of a key without what is not seen as a difference. Keys of plain ASCII, the rule, take the first branch."""
    ascii_only = f"lower(replace({key}, ' ', ''))"
    any_text = f"lower(regexp_replace(nfc_normalize({key}), '{_NOTHING_SEEN}', '', 'g'))"
    is_ascii = f"strlen({key}) = length({key})"
    # What sorts from 1 on has no leading zero; to look for blanks takes half the time of replacing them.
    return (
        f"CASE WHEN {is_ascii} AND {key} >= '1' AND NOT contains({key}, ' ') THEN lower({key}) "
        f"WHEN {is_ascii} THEN ltrim({ascii_only}, '0') ELSE ltrim({any_text}, '0') END"
    )


def has_near_keys(connection: duckdb.DuckDBPyConnection, contract: Contract) -> bool:
    """Whether two profiles of the current database have the same key, or keys of one plain form.

    It costs little more than counting distinct keys does, since hashes are compared instead of texts.
    """
    plain = plain_key(identifier(contract.key.name))
    counted = f"SELECT count(*) > count(DISTINCT hash({plain})) FROM {PROFILES_TABLE}"
    return bool(duck.scalar(connection, counted))


def near_key_notices(connection: duckdb.DuckDBPyConnection, contract: Contract) -> Iterator[Notice]:
    """A notice for each pair of sources and each difference, the most keys first."""
    # Not in the warehouse, where it would be published.
    connection.execute(statement("strip").replace("CREATE MACRO", "CREATE OR REPLACE TEMP MACRO"))
    for source, other, difference, count, examples in connection.execute(_query(contract)).fetchall():
        yield _notice(
            contract, source, other, Difference(difference), count, [(one["a"], one["b"]) for one in examples]
        )


def _difference(key: Key) -> str:
    """SQL for how the keys `a` and `b` differ: under which settings of `key:` they become equal, if under any."""

    def is_joined_by(**settings: object) -> str:
        other = key.model_copy(update=settings)
        return f"{key_sql('a', other)} = {key_sql('b', other)}"

    return f"""
        CASE
            WHEN {is_joined_by(case=Case.LOWER)} THEN '{Difference.CASE}'
            WHEN {is_joined_by(strip=Strip.UNICODE)} THEN '{Difference.BLANKS}'
            WHEN {is_joined_by(case=Case.LOWER, strip=Strip.UNICODE)} THEN '{Difference.CASE_AND_BLANKS}'
            WHEN ltrim(a, '0') = ltrim(b, '0') THEN '{Difference.ZEROS}'
            ELSE '{Difference.OTHER}'
        END
    """


def _query(contract: Contract) -> str:
    key = identifier(contract.key.name)
    # In the order of the contract, so that a pair of sources is the same pair both ways.
    order = f"[{', '.join(repr(name) for name in contract.source_names)}]"
    return f"""
        WITH plain AS (
            SELECT {key} AS key, {SOURCES_COLUMN} AS sources, {plain_key(key)} AS plain FROM {PROFILES_TABLE}
        ), forms AS (
            SELECT plain FROM plain GROUP BY plain HAVING count(*) > 1
        ), near AS (
            SELECT * FROM plain SEMI JOIN forms USING (plain)
            QUALIFY row_number() OVER (PARTITION BY plain ORDER BY key) <= {_KEYS_OF_A_FORM}
        ), pairs AS (
            SELECT
                one.key AS a, other.key AS b, one.sources AS a_sources, other.sources AS b_sources,
                list_intersect(one.sources, other.sources) AS common
            FROM near AS one JOIN near AS other ON one.plain = other.plain AND one.key < other.key
        ), placed AS (
            SELECT a, b, common[1] AS a_source, common[1] AS b_source FROM pairs WHERE len(common) = 1
            UNION ALL
            SELECT a, b, a_source, unnest(b_sources) AS b_source
            FROM (SELECT *, unnest(a_sources) AS a_source FROM pairs WHERE len(common) = 0)
        ), ordered AS (
            SELECT
                list_position({order}, a_source) > list_position({order}, b_source) AS is_turned,
                CASE WHEN is_turned THEN b_source ELSE a_source END AS source,
                CASE WHEN is_turned THEN a_source ELSE b_source END AS other_source,
                {_difference(contract.key)} AS difference,
                CASE WHEN is_turned THEN {{a: b, b: a}} ELSE {{a: a, b: b}} END AS example
            FROM placed
        )
        SELECT source, other_source, difference, count(*), min(example, {EXAMPLES_SHOWN})
        FROM ordered
        GROUP BY source, other_source, difference
        ORDER BY count(*) DESC, list_position({order}, source), list_position({order}, other_source), difference
    """


def _notice(
    contract: Contract, source: str, other: str, difference: Difference, count: int, examples: list[tuple[str, str]]
) -> Notice:
    is_personal = any(contract.source(name).has_personal_ids for name in (source, other))
    listed = "" if is_personal else f", such as {', '.join(f'{_cell(a)} and {_cell(b)}' for a, b in examples)}"
    where = source if source == other else f"{source} and {other}"
    pairs = (
        f"{count:,} pair of {contract.key.name} differs"
        if count == 1
        else f"{count:,} pairs of {contract.key.name} differ"
    )
    return Notice(
        NoticeKind.NEAR_KEYS,
        where,
        f"{where}: {pairs} only in {difference}{listed}. If they mean the same, {_remedy(contract, difference)}.",
        {"pair_count": count},
    )


def _remedy(contract: Contract, difference: Difference) -> str:
    """What joins them: the line of YAML, if there is one."""
    key = contract.key
    folds = difference in (Difference.CASE, Difference.CASE_AND_BLANKS)
    strips = difference in (Difference.BLANKS, Difference.CASE_AND_BLANKS)
    if not folds and not strips:
        return (
            "export them alike (as text, with the same number of digits), or declare a key_map for one of the sources"
        )
    words = [f"name: {key.name}"]
    words += ["case: lower"] if folds or key.case is Case.LOWER else []
    words += ["strip: unicode"] if strips or key.strip is Strip.UNICODE else []
    return f"write in etl_assets.yaml: key: {{{', '.join(words)}}}"


def _cell(key: str) -> str:
    text = key if len(key) <= _CHARS_SHOWN else f"{key[:_CHARS_SHOWN]}…"
    # A letter with its accent as a code point of its own looks like the letter that has both.
    return f"'{shown(text)}'" if unicodedata.is_normalized("NFC", text) else ascii(text)
