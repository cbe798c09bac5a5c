"""Texts made from a pattern match it; a pattern that is not simple makes none, and counting makes no text twice."""

import re

import pytest

from etl_assets.samples.chances import Counting, Dice
from etl_assets.samples.matching import text_maker

SIMPLE = (
    "TICKET-[0-9]{4,8}",
    r"[A-Z]{2}\d{3}",
    r"(low|mid|high)",
    r"^(?:AT|DE)-?\d+$",
    r"[a-z_.-]+@[a-z]+\.(com|org)",
    r"\w+\s?x*",
    "a.c",
    r"[\d\-]{3}[a-]",
    "v{2,}",
)


@pytest.mark.parametrize("pattern", SIMPLE)
def test_every_text_matches_its_pattern(pattern: str) -> None:
    make = text_maker(pattern)
    assert make is not None
    texts = [make(Dice(pattern, number)) for number in range(200)]
    assert [text for text in texts if not re.fullmatch(pattern, text)] == []


@pytest.mark.parametrize(
    "pattern", ["(?i)a", "(?=a)b", "[^a]", r"\bword", "a{2}{3}", "a**", "(a", "[a", "a)", "[[:alpha:]]", "\\", "*"]
)
def test_a_pattern_that_is_not_simple_makes_none(pattern: str) -> None:
    """Fails: a text that breaks the contract is written as a sound one, or the command ends in a traceback."""
    assert text_maker(pattern) is None


@pytest.mark.parametrize(("pattern", "count"), [("T-[0-9]{1,3}", 1000), ("[ab][01]?", 4), ("(x|y)[0-9]", 10)])
def test_counting_makes_each_text_once_until_nothing_is_left(pattern: str, count: int) -> None:
    """Fails: two records have one row key, and one of them goes to quarantine."""
    make = text_maker(pattern)
    assert make is not None
    counters = [Counting(number) for number in range(count + 5)]
    texts = [make(counter) for counter in counters]
    assert len(set(texts[:count])) == count
    assert [counter.left > 0 for counter in counters] == [False] * count + [True] * 5
