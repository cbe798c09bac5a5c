"""The files that were read, a line each, and the columns that were ignored, in `run` and `status`."""

import io

import pytest

from etl_assets.cli import file_list, terminal
from etl_assets.engine.published.read_files import IgnoredColumn, ReadFile


def shown(files: list[ReadFile], ignored: list[IgnoredColumn] | None = None) -> list[str]:
    stream = io.StringIO()
    file_list.show(terminal.console(stream), {"crm": files}, {"crm": ignored or []})
    return [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]


def test_each_file_has_a_line_with_its_rows_and_its_date() -> None:
    """Fails: no one notices that the newest file is not among those that were read."""
    header, line = shown([ReadFile("crm.csv", 1234, "2020-05-01T12:00:00+00:00")])
    assert header.split() == ["source", "file", "rows", "changed"]
    assert line.split()[:4] == ["crm", "crm.csv", "1,234", "2020-05-01"]


@pytest.mark.parametrize(("count", "line_count"), [(4, 4), (5, 5), (100, 5)])
def test_many_files_are_listed_by_the_first_and_the_last(count: int, line_count: int) -> None:
    lines = shown([ReadFile(f"crm/{number}.csv", 2, None) for number in range(count)])[1:]
    assert len(lines) == line_count
    assert lines[0].split()[1] == "crm/0.csv"
    assert lines[-1].split()[1] == f"crm/{count - 1}.csv"
    if count == 100:
        assert "… and 96 more" in lines[1]
        assert "192" in lines[1]


def test_a_column_without_a_name_is_said_to_be_one() -> None:
    """Fails: a line ends after `ignored:`, and no one knows what is missing."""
    lines = shown([], [IgnoredColumn(" "), IgnoredColumn("phone")])
    assert lines == ["crm: not declared, so ignored: a column without a name, phone"]


def test_ignored_columns_are_named_with_the_one_that_they_may_be() -> None:
    """Fails: a misspelt column is null for every customer, and nothing says so."""
    lines = shown([], [IgnoredColumn("phone"), IgnoredColumn("indstry", "industry")])
    assert lines == ["crm: not declared, so ignored: phone, indstry (is it industry, which no record has?)"]


def test_names_of_files_and_columns_cannot_write_lines_of_their_own() -> None:
    lines = shown([ReadFile("a\nPublished\x1b[0m", 1, None)], [IgnoredColumn("b\nPublished")])
    assert len(lines) == 3
    assert "a\\nPublished\\x1b[0m" in lines[1]
