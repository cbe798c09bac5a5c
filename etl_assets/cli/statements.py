"""Which SQL text is one statement that only reads; `query` runs no other.

DuckDB's own type of a statement is not enough: it says SELECT of a COPY inside a WITH, EXPLAIN of whatever EXPLAIN
ANALYZE would run, and MULTI of everything around a PIVOT. So the words of the text are checked, too.
"""

import re
from collections.abc import Iterator, Sequence

import duckdb

from etl_assets.cli.program import command
from etl_assets.errors import ConfigError

# PIVOT without a list of values is parsed as several statements in one.
_READING_TYPES = frozenset({"SELECT", "EXPLAIN", "MULTI"})
_READING_WORDS = frozenset(
    {
        *("SELECT", "FROM", "WITH", "VALUES", "TABLE", "DESCRIBE", "DESC", "SHOW", "SUMMARIZE"),
        *("PIVOT", "PIVOT_WIDER", "UNPIVOT", "PIVOT_LONGER"),
    }
)
# Words with which a statement of another kind begins.
_OTHER_WORDS = frozenset(
    {
        *("COPY", "INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP", "EXPORT", "IMPORT"),
        *("ATTACH", "DETACH", "SET", "RESET", "PRAGMA", "CALL", "LOAD", "INSTALL", "PREPARE", "EXECUTE", "CHECKPOINT"),
    }
)
_ALLOWED = "Use SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE, PIVOT or EXPLAIN."
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def reading_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The one statement in `sql`; ConfigError unless it is one that reads."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise ConfigError(message(error)) from error
    if len(statements) != 1:
        found = f"{len(statements)} statements" if statements else "none"
        example = command('query "SHOW TABLES"')
        raise ConfigError(f"Expected one SQL statement, found {found}. Try: {example}")
    kind = statements[0].type.name
    if kind not in _READING_TYPES:
        raise ConfigError(f"The warehouse is read-only: a statement of type {kind} is not run. {_ALLOWED}")
    # Not `sql`: DuckDB takes spaces that are not ASCII for spaces, its tokenizer takes them for letters.
    word = other_word(statements[0].query)
    if word is not None:
        raise ConfigError(
            f"The warehouse is read-only: a statement of type {word} is not run, nor inside another one. {_ALLOWED} "
            f'Write a column or a table of that name with quotes: "{word.lower()}".'
        )
    return statements[0]


def other_word(sql: str) -> str | None:
    """The word with which `sql`, or a statement inside it, begins to do something else than to read; None if none does.

    DuckDB allows a statement at the start, after EXPLAIN and its options, and in or after the brackets of a WITH. A
    name is none: it is quoted, or an operator, a comma, a bracket or the end follows it.
    """
    tokens = list(_tokens(sql))
    first = _skip_brackets(tokens, 0)
    if tokens[first : first + 1] == ["EXPLAIN"]:
        first = _skip_options(tokens, first + 1)
        first = _skip_brackets(tokens, first)
    if first < len(tokens) and tokens[first] not in _READING_WORDS:
        return tokens[first]
    # From the second token on, because the first was looked at.
    for before, word, after in zip(tokens, tokens[1:], [*tokens[2:], ""], strict=False):
        if before in ("(", ")") and word in _OTHER_WORDS and (after == "(" or _is_operand(after)):
            return word
    return None


def _is_operand(token: str) -> bool:
    return bool(token) and (token[0] in "'\"$" or _WORD.match(token) is not None)


def _skip_brackets(tokens: Sequence[str], first: int) -> int:
    while tokens[first : first + 1] == ["("]:
        first += 1
    return first


def _skip_options(tokens: Sequence[str], first: int) -> int:
    """The position after ANALYZE, or after `(ANALYZE, FORMAT json)`; brackets of the statement itself stay."""
    if tokens[first : first + 1] in (["ANALYZE"], ["ANALYSE"]):
        return first + 1
    option = tokens[first + 1 : first + 2]
    if tokens[first : first + 1] != ["("] or option == ["("] or not _READING_WORDS.isdisjoint(option):
        return first
    return tokens.index(")", first) + 1 if ")" in tokens[first:] else len(tokens)


def _tokens(sql: str) -> Iterator[str]:
    """The tokens without comments: words that are not quoted in upper case, every bracket on its own."""
    text = sql.encode()
    found = duckdb.tokenize(sql)
    # Positions are those of bytes.
    ends = [start for start, _ in found[1:]] + [len(text)]
    for (start, kind), end in zip(found, ends, strict=True):
        token = text[start:end].decode(errors="replace").strip()
        if kind is duckdb.token_type.comment or not token:
            continue
        yield token.upper() if _WORD.fullmatch(token) else token


def message(error: duckdb.Error) -> str:
    """DuckDB's own text: it points at the place in the statement and suggests names."""
    return str(error).strip()
