"""Hypotheses about how numbers, dates and truth values are written."""

import pytest

from etl_assets.engine.reading import cell_forms


@pytest.mark.parametrize(
    ("cells", "delimiter", "marks"),
    [
        (["1.5", "20"], ",", (".", "", (), False, False)),
        (["1,234.50", "7"], ",", (".", ",", (), False, False)),
        (["1.234,50", "7"], ";", (",", ".", (), False, False)),
        (["12,50", "7"], ",", (",", "", (), False, False)),
        (["1\u00a0234,50"], ";", (",", " ", (), False, False)),
        (["1'234.50"], ";", (".", "'", (), False, False)),
        (["$1,234.50", "-$7.00", "($3.00)"], ",", (".", ",", ("$",), False, True)),
        (["12 €", "3,5 €"], ";", (",", "", ("€",), False, False)),
        (["85%", "7.5 %"], ",", (".", "", (), True, False)),
        # A group of three may be a fraction; where cells are separated by semicolons, a comma is the decimal mark.
        (["1,234"], ",", (".", ",", (), False, False)),
        (["1,234"], ";", (",", "", (), False, False)),
        (["3.019", "986"], ";", (",", ".", (), False, False)),
        (["3.019", "986"], ",", (".", "", (), False, False)),
        (["0.019", "986"], ";", (".", "", (), False, False)),
        (["1.250", "0.500", "2.750"], ";", (".", "", (), False, False)),
        (["0,500", "1,250", "2,125"], ",", (",", "", (), False, False)),
        (["17", "986"], ";", (".", "", (), False, False)),
        # One remark among many numbers.
        ([*(f"1.234,{cents}" for cents in range(10, 40)), "about 2 m."], ";", (",", ".", (), False, False)),
    ],
)
def test_the_marks_of_numbers(
    cells: list[str], delimiter: str, marks: tuple[str, str, tuple[str, ...], bool, bool]
) -> None:
    assert cell_forms.number_marks([cells], delimiter) == marks


def test_the_marks_are_those_under_which_most_columns_are_numbers() -> None:
    """Fails: one column that looks plain makes the others text."""
    found = cell_forms.number_marks([["1.234,50"], ["12,5"], ["Alpine 3.5"], ["17"]], ";")
    assert found[:2] == (",", ".")


def test_a_mark_that_may_mean_either_is_a_guess_unless_another_cell_tells() -> None:
    """Fails: three thousand is read as three, and the draft does not say that it guessed."""
    guess = "decimal: in size, such as 3.019, . is read as the decimal mark; no cell tells"
    assert cell_forms.doubtful_numbers({"size": ["986", "3.019"], "age": ["17"]}, ".", "") == [guess]
    assert cell_forms.doubtful_numbers({"size": ["3.019"]}, ",", ".") == [
        guess.replace("decimal mark", "thousands mark")
    ]
    for telling in ("1.5", "0.125", "1.000.000", "3.019,5", "12.0195"):
        columns = {"size": ["3.019"], "other": [telling]}
        marks = cell_forms.number_marks(list(columns.values()), ";")[:2]
        assert marks == ((".", "") if telling in ("1.5", "0.125", "12.0195") else (",", "."))
        assert cell_forms.doubtful_numbers(columns, *marks) == []
    assert cell_forms.doubtful_numbers({"size": ["3", "986"]}, ".", "") == []


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["31.12.2026", "1.2.2026"], "%d.%m.%Y"),
        (["12/31/2026"], "%m/%d/%Y"),
        (["31/12/2026"], "%d/%m/%Y"),
        (["31.12.26"], "%d.%m.%y"),
        (["5 May 2026"], "%d %b %Y"),
        (["May 5, 2026 2:05 PM"], "%b %d, %Y %I:%M %p"),
        (["12/31/2026 14:22"], "%m/%d/%Y %H:%M"),
        (["05/May/26 2:22 PM"], "%d/%b/%y %I:%M %p"),
    ],
)
def test_the_form_of_dates(cells: list[str], form: str) -> None:
    assert cell_forms.date_forms({"day": cells}, ",") == ({"day": form}, [])


def test_a_day_that_may_be_a_month_is_a_guess_unless_another_column_tells() -> None:
    """Fails: days and months are swapped, and the draft does not say that it guessed."""
    chosen, guesses = cell_forms.date_forms({"began": ["1/2/2026"]}, ",")
    assert chosen == {"began": "%m/%d/%Y"}
    assert guesses == ["dates: began is read as %m/%d/%Y; no day above 12 tells day and month apart"]
    assert cell_forms.date_forms({"began": ["1/2/2026"]}, ";")[0] == {"began": "%d/%m/%Y"}
    chosen, guesses = cell_forms.date_forms({"began": ["1/2/2026"], "ended": ["31/2/2026", "28/2/2026"]}, ",")
    assert (chosen, len(guesses)) == ({"began": "%m/%d/%Y"}, 1)
    assert cell_forms.date_forms({"began": ["1/2/2026"], "ended": ["28/2/2026"]}, ",") == (
        {"ended": "%d/%m/%Y", "began": "%d/%m/%Y"},
        [],
    )


def test_numbers_count_seconds_only_under_a_header_of_a_moment() -> None:
    assert cell_forms.counted_form(["1777648953"], "Created") == "epoch"
    assert cell_forms.counted_form(["1777648953000"], "created_at") == "epoch_ms"
    assert cell_forms.counted_form(["1777648953"], "Phone") is None
    for header in ("Attendee #", "Candidate", "Units on hand", "lifetime_value", "Mandate", "sentiment"):
        assert cell_forms.counted_form(["1777648953"], header) is None
    assert cell_forms.counted_form(["1777648953"], "Period end") == "epoch"
    assert cell_forms.counted_form(["1777648953"], "createdAt") == "epoch"


@pytest.mark.parametrize(
    ("cells", "pair"),
    [
        (["Yes", "no"], ("yes", "no")),
        (["TRUE"], ("true", "false")),
        (["ja", "nein"], ("ja", "nein")),
        (["1", "0"], None),
        (["yes", "maybe"], None),
        ([], None),
    ],
)
def test_the_words_of_truth(cells: list[str], pair: tuple[str, str] | None) -> None:
    assert cell_forms.truth_words(cells) == pair
