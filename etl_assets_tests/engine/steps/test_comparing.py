"""What is unusual: the rule, on figures; and the figures that go from warehouse to warehouse."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.notices import Notice, NoticeKind, read_notices
from etl_assets.engine.published.publication_figures import (
    MAX_PUBLICATIONS,
    Figure,
    FigureKind,
    Past,
    PublishedFigures,
    read_past,
)
from etl_assets.engine.steps.comparing import comparison_notices
from etl_assets.engine.steps.merge import Merged, merge_shards
from etl_assets_tests import factory
from etl_assets_tests.factory import alter, query, row, run_engine, site_at, write_exports

START = datetime(2026, 5, 1, tzinfo=UTC)


def _published(number: int, *figures: Figure, code_version: str = "v1") -> PublishedFigures:
    return PublishedFigures(START + timedelta(days=number), f"input {number}", code_version, figures)


def _compared(present: Sequence[Figure], *past: Sequence[Figure]) -> list[Notice]:
    earlier = tuple(_published(number, *figures) for number, figures in enumerate(past))
    return list(comparison_notices(_published(99, *present), Past(earlier), "customers"))


def rows(amount: int, source: str = "crm") -> Figure:
    return Figure(FigureKind.ROWS, source, "", "", amount)


def nulls(amount: int, total: int = 1000) -> Figure:
    return Figure(FigureKind.NULLS, "", "plan", "", amount, total)


def words(total: int = 1000) -> Figure:
    return Figure(FigureKind.WORDS, "", "plan", "", 3, total)


def word(amount: int, total: int = 1000, text: str = "pro") -> Figure:
    return Figure(FigureKind.VALUE, "", "plan", text, amount, total)


def rejected(amount: int, total: int = 1000) -> Figure:
    return Figure(FigureKind.REJECTED, "crm", "", "invalid:mrr", amount, total)


@pytest.mark.parametrize(
    ("present", "past", "is_noticed"),
    [
        ([rows(1200)], [rows(1000)], False),
        ([rows(1201)], [rows(1000)], True),
        ([rows(799)], [rows(1000)], True),
        # Under twenty rows, any number is chance.
        ([rows(19)], [rows(0)], False),
        ([rows(20)], [rows(0)], True),
        ([nulls(200)], [nulls(100)], False),
        ([nulls(201)], [nulls(100)], True),
        ([nulls(100)], [nulls(201)], True),
        ([nulls(19, 100)], [nulls(0, 100)], False),
        ([words(), word(600)], [words(), word(500)], False),
        ([words(), word(601)], [words(), word(500)], True),
        # A word that comes up, and one that is gone.
        ([words(), word(150)], [words()], True),
        ([words()], [words(), word(150)], True),
        # The column had many words before, or has now: nothing was counted.
        ([words(), word(150)], [nulls(0)], False),
        ([nulls(0)], [nulls(0), words(), word(150)], False),
        ([rows(1000), rejected(30)], [rows(1000), rejected(20)], False),
        ([rows(1000), rejected(41)], [rows(1000), rejected(20)], True),
        ([rows(1000), rejected(30)], [rows(1000)], True),
        # Fewer rejects than usual are no warning.
        ([rows(1000)], [rows(1000), rejected(300)], False),
        # A new source and a new column have no past.
        ([rows(1000), rows(500, "new"), nulls(900)], [rows(1000)], False),
    ],
)
def test_the_rule_is_what_the_documentation_says(
    present: Sequence[Figure], past: Sequence[Figure], is_noticed: bool
) -> None:
    """Fails: a person cannot tell from the numbers why something is a warning and something else is not."""
    assert bool(_compared(present, past)) is is_noticed


def test_the_usual_is_the_median_of_the_last_five_publications() -> None:
    """Fails: one odd publication makes the next sound one a warning, or hides the one after it."""
    past = [[rows(9000)], [rows(1000)], [rows(1000)], [rows(5000)], [rows(1000)], [rows(1000)]]
    assert _compared([rows(1100)], *past) == []
    (notice,) = _compared([rows(2000)], *past)
    assert notice.finding == "crm has 2,000 rows (+100%); in the last 5 publications 1,000."
    assert (notice.kind, notice.subject, notice.figures) == ("row_count", "crm", {"amount": 2000, "usual": 1000})


def test_the_largest_move_of_a_kind_comes_first_and_row_counts_before_shares() -> None:
    found = _compared(
        [nulls(300), rows(100), rows(500, "billing"), words(), word(400), word(900, text="x\u202ey")],
        [nulls(100), rows(1000), rows(1000, "billing"), words(), word(100), word(100, text="x\u202ey")],
    )
    assert [(notice.kind, notice.subject) for notice in found] == [
        (NoticeKind.ROW_COUNT, "crm"),
        (NoticeKind.ROW_COUNT, "billing"),
        (NoticeKind.NULL_SHARE, "plan"),
        (NoticeKind.VALUE_SHARE, "plan"),
        (NoticeKind.VALUE_SHARE, "plan"),
    ]
    assert "plan is 'x\\u202ey' in 900 of the 1,000 customers" in found[3].finding, "no word can turn a message round"
    assert found[2].finding == "plan is null in 300 of 1,000 customers (30.0%); in the last publication 10.0%."


def test_publications_of_another_version_of_the_project_are_not_compared_and_that_is_said() -> None:
    """Fails: a score whose rule was changed on purpose warns until it is old."""
    other = _published(1, rows(1000), code_version="v0")
    (notice,) = comparison_notices(_published(2, rows(1)), Past((other,)), "customers")
    assert "another version of the project" in notice.finding
    assert not notice.is_warning
    same = replace(other, code_version="v1")
    mixed = comparison_notices(_published(3, rows(1000)), Past((same, _published(2, rows(1), code_version="v0"))), "x")
    assert list(mixed) == []


def _exports(folder: Path, statuses: Sequence[str]) -> Path:
    customers = [row(f"c{number}", payment_status=status) for number, status in enumerate(statuses)]
    return write_exports(folder, crm=customers, billing=customers, product=customers, support=customers)


def _merged(root: Path, *statuses: str, shard_count: int = 3) -> Merged:
    return run_engine(_exports(root / "sources", statuses), site_at(Home(root / "home"), shard_count))


def _warnings(merged: Merged) -> list[str]:
    return [notice.finding for notice in merged.noticed.notices if notice.is_warning]


def test_a_category_that_moved_is_noticed_with_its_numbers(tmp_path: Path) -> None:
    """Fails: a renamed status (`unpaid`) moves the scores of a third of the customers, and nothing says so."""
    first = _merged(tmp_path, *["active"] * 100)
    assert [notice.kind for notice in first.noticed.notices] == [NoticeKind.FIGURES_NOT_COMPARED]
    second = _merged(tmp_path, *["active"] * 68, *["unpaid"] * 32)
    texts = _warnings(second)
    word = "payment_status is 'unpaid' in 32 of the 100 customers that have one (32.0%); in the last publication 0.0%."
    assert word in texts
    assert read_notices(Home(tmp_path / "home")) == second.noticed.notices


def test_merging_the_same_exports_again_is_no_further_publication(tmp_path: Path) -> None:
    """Fails: a run that is repeated five times makes what was unusual the usual."""
    home = Home(tmp_path / "home")
    _merged(tmp_path, *["active"] * 100)
    moved = ["active"] * 60 + ["unpaid"] * 40
    texts = _warnings(_merged(tmp_path, *moved))
    for shard_count in (3, 3, 4):
        assert _warnings(_merged(tmp_path, *moved, shard_count=shard_count)) == texts
    assert len(read_past(home).publications) == 2
    # The exports of before: a publication after the others.
    _merged(tmp_path, *["active"] * 100)
    assert len(read_past(home).publications) == 3


def test_the_figures_of_ten_publications_are_kept(tmp_path: Path) -> None:
    """Fails: the table grows for ever."""
    for number in range(MAX_PUBLICATIONS + 2):
        _merged(tmp_path, *["active"] * (30 + number))
    home = Home(tmp_path / "home")
    kept = read_past(home).publications
    assert [one.by_subject[FigureKind.PROFILES, "", "", ""].amount for one in kept] == [*range(32, 42)]
    assert query(home.warehouse, "SELECT count(DISTINCT published_at) FROM publication_figures") == [(10,)]


def test_words_of_few_profiles_and_of_personal_data_are_not_kept(tmp_path: Path) -> None:
    """Fails: what a deleted customer had stays in the figures of ten publications."""
    _merged(tmp_path, *["active"] * 100, *["rare"] * 19)
    found = query(
        Home(tmp_path / "home").warehouse, "SELECT column_name, value FROM publication_figures WHERE kind = 'value'"
    )
    assert ("payment_status", "active") in found
    assert ("payment_status", "rare") not in found
    assert not {column for column, _ in found} & {"email", "customer_id"}


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        ("DROP TABLE publication_figures", "could not be read"),
        ("UPDATE publication_figures SET kind = 'of another release'", "could not be read"),
        ("DELETE FROM publication_figures", "has no figures"),
    ],
)
def test_a_last_warehouse_that_cannot_be_compared_stops_no_merge_and_is_told(
    tmp_path: Path, break_it: str, why: str
) -> None:
    """Fails: a damaged warehouse keeps the next one from being published."""
    _merged(tmp_path, *["active"] * 100)
    alter(Home(tmp_path / "home").warehouse, break_it)
    merged = _merged(tmp_path, *["unpaid"] * 100)
    (notice,) = merged.noticed.notices
    assert (notice.kind, notice.is_warning) == (NoticeKind.FIGURES_NOT_COMPARED, False)
    assert why in notice.finding
    assert _warnings(_merged(tmp_path, *["failed"] * 100)) != []


def test_a_damaged_last_warehouse_is_replaced_without_a_comparison(tmp_path: Path) -> None:
    _merged(tmp_path, *["active"] * 100)
    Home(tmp_path / "home").warehouse.write_bytes(b"no database")
    (notice,) = _merged(tmp_path, *["unpaid"] * 100).noticed.notices
    assert "could not be read" in notice.finding


def test_the_figures_change_neither_profiles_nor_digest(tmp_path: Path) -> None:
    """Fails: the same exports give another result where more was published before."""
    alone = _merged(tmp_path / "alone", *["active"] * 100)
    _merged(tmp_path / "after", *["failed"] * 50)
    after = _merged(tmp_path / "after", *["active"] * 100)
    assert alone.publication.digest == after.publication.digest
    statement = "SELECT * FROM merged_profiles ORDER BY customer_id"
    assert query(Home(tmp_path / "alone/home").warehouse, statement) == query(
        Home(tmp_path / "after/home").warehouse, statement
    )


def test_a_partial_publication_is_no_measure_for_the_next(tmp_path: Path) -> None:
    """Fails: after a merge without three shards, the whole result is a warning."""
    home = Home(tmp_path / "home")
    _merged(tmp_path, *["active"] * 100)
    site = site_at(home)
    home.shard_file("shard_01").unlink()
    partial = merge_shards(site, factory.LIMITS, run_id="partial", allow_partial=True)
    assert [notice.finding.split(". ")[1] for notice in partial.noticed.notices] == ["This publication is partial."]
    assert len(read_past(home).publications) == 1
    assert _warnings(_merged(tmp_path, *["active"] * 101)) == []
