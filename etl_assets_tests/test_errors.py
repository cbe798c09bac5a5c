"""What a message shows of names that strangers choose."""

import pytest

from etl_assets.errors import shown


@pytest.mark.parametrize("name", ["crm/a.csv", "größe 客户.csv", "it's [a]*.csv", "100%", "a\\b", "", 'say "hi"'])
def test_plain_names_stay_plain(name: str) -> None:
    assert shown(name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a\nb\r\n", "a\\nb\\r\\n"),
        ("\x1b[31m\x07\x9b", "\\x1b[31m\\x07\\x9b"),
        ("\u202egnp.csv", "\\u202egnp.csv"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("tag\U000e0041", "tag\\U000e0041"),
        # Letters and marks that Python calls printable, and that are shown as nothing.
        ("\u3164\u034f\U000e0100", "\\u3164\\u034f\\U000e0100"),
        ("not text \udcff", "not text \\udcff"),
        ("ü\n", "ü\\n"),
    ],
)
def test_characters_that_are_not_seen_are_escaped(name: str, text: str) -> None:
    """Fails: a name begins a line of the log, hides its own end, or moves the terminal's cursor."""
    assert shown(name) == text
