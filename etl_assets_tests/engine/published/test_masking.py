"""DuckDB's errors are shown without the values that they quote."""

import duckdb
import pytest

from etl_assets.engine.published.masking import masked

ANN = "ann(berg@x.org"


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("SELECT cast(? AS INTEGER)", "Conversion Error: Could not convert string '•••' to INT32"),
        ("SELECT strptime(?, '%Y')", "Invalid Input Error: Could not parse string '•••'"),
        ("SELECT regexp_matches('a', ?)", "Invalid Input Error: •••"),
        ("SELECT error(?)", "Invalid Input Error: •••"),
        ("SELECT error('Could not parse string of ' || ?)", "Invalid Input Error: •••"),
    ],
)
def test_no_value_is_shown(statement: str, shown: str) -> None:
    """Fails: a record's e-mail address stands in the log of its shard."""
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as raised:
        connection.execute(statement, [ANN])
    assert "berg" in str(raised.value)
    assert masked(raised.value) == shown
