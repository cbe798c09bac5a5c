"""Names from headers."""

import pytest

from etl_assets.drafting.naming import MAX_CHARS, column_names, free_name, snake_case


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Account ID", "account_id"),
        ("Größe (%)", "grosse_percent"),
        ("createdAt", "created_at"),
        ("#", "number"),
        ("2025 total", "c_2025_total"),
        ("名前", "column_1"),
        ("  ", "column_1"),
    ],
)
def test_a_name_has_small_letters_digits_and_underscores(header: str, name: str) -> None:
    assert snake_case(header, "column_1") == name


def test_names_that_would_be_alike_are_numbered() -> None:
    assert column_names(["E-Mail", "E Mail", "e_mail", "??"]) == ["e_mail", "e_mail_2", "e_mail_3", "column_4"]


def test_a_long_name_stays_one_after_it_is_numbered() -> None:
    long = snake_case("x" * 100, "")
    assert len(long) == MAX_CHARS
    assert len(free_name(long, {long})) <= MAX_CHARS
