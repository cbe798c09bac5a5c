"""Finding the files of a source and judging them as a whole, before a row is read."""

import gzip
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.reading import exports, parquet, surveying
from etl_assets.engine.reading.exports import Export
from etl_assets.engine.reading.verified import hash_files, stat_files
from etl_assets.engine.sql_text import identifier
from etl_assets.errors import Action, Advice, InputError
from etl_assets_tests.factory import PROJECT, row, write_csv

CRM = PROJECT.contract.source("crm")
HEADER = ",".join(CRM.required)


def names_of(sources: Path) -> list[str]:
    return [export.name for export in exports.open_exports(CRM, sources)]


def refusal(sources: Path) -> str:
    with pytest.raises(InputError) as caught:
        exports.open_exports(CRM, sources)
    return str(caught.value)


def write_bytes(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_parquet(path: Path, *columns: str, rows: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = ", ".join(f"'x' AS {identifier(column)}" for column in columns)
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {cells} FROM range({rows})) TO '{path}' (FORMAT parquet)")
    return path


def exported(path: Path, columns: Sequence[str]) -> Export:
    """The file as an export with these columns."""
    (stat,) = stat_files([path], path.parent)
    return Export(path.parent, stat, tuple(columns))


def test_a_source_is_one_csv_file(sources: Path) -> None:
    write_csv(sources / "crm.csv", CRM, [row("a")])
    (export,) = exports.open_exports(CRM, sources)
    assert (export.name, export.columns, export.extra_columns) == ("crm.csv", CRM.required, ())
    assert not export.is_parquet


def test_a_source_is_one_packed_file(sources: Path) -> None:
    write_bytes(sources / "crm.csv.gz", gzip.compress(f"{HEADER}\n".encode()))
    assert names_of(sources) == ["crm.csv.gz"]


def test_a_source_is_one_parquet_file(sources: Path) -> None:
    write_parquet(sources / "crm.parquet", *CRM.required)
    (export,) = exports.open_exports(CRM, sources)
    assert export.is_parquet
    assert export.columns == CRM.required
    assert parquet.row_count(export, 1 << 20) == 1


def test_a_source_is_a_folder_of_files_in_name_order(sources: Path) -> None:
    """Fails: another row than the last one of the last file wins for a customer."""
    for name in ("2026-10.csv", "2026-09.csv", "2026-11.csv"):
        write_csv(sources / "crm" / name, CRM, [])
    write_bytes(sources / "crm" / "2026-10-b.csv.gz", gzip.compress(f"{HEADER}\n".encode()))
    write_parquet(sources / "crm" / "2026-08.parquet", *CRM.required)
    write_bytes(sources / "crm" / "README.txt", "not an export")
    (sources / "crm" / "old").mkdir()
    expected = ["2026-08.parquet", "2026-09.csv", "2026-10.csv", "2026-10-b.csv.gz", "2026-11.csv"]
    assert names_of(sources) == [f"crm/{name}" for name in expected]


def test_a_missing_folder_of_sources_is_named_with_the_way_out(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises(InputError, match=re.escape(f"The folder of the exports, {missing}, does not exist")) as caught:
        exports.open_exports(CRM, missing)
    assert caught.value.advice == (Advice(Action.SET, "ETL_SOURCES"), Advice(Action.GENERATE, value=str(missing)))


def test_a_missing_file_is_named_with_what_is_there(sources: Path) -> None:
    write_bytes(sources / "CRM export.csv", "x")
    text = refusal(sources)
    assert "'crm'" in text
    assert "expected crm.csv, a file crm of another format (.csv, " in text
    assert "found CRM export.csv" in text


def test_an_empty_folder_of_sources_says_that_nothing_is_there(sources: Path) -> None:
    assert "found nothing" in refusal(sources)


def test_a_source_folder_without_exports_is_refused(sources: Path) -> None:
    """Fails: a mistyped ending makes a source empty, and its columns null, without a word."""
    write_bytes(sources / "crm" / "january.CVS", HEADER)
    assert "holds no export, such as a .csv file" in refusal(sources)


@pytest.mark.parametrize("missing", [["email"], ["customer_id"], ["industry", "deal_value"]])
def test_every_missing_column_is_named_with_file_source_and_header(sources: Path, missing: list[str]) -> None:
    columns = [column for column in CRM.required if column not in missing]
    write_csv(sources / "crm.csv", CRM, [], columns)
    text = refusal(sources)
    assert "crm.csv of source 'crm'" in text
    assert f"{', '.join(missing)}. Its header has: {', '.join(columns)}" in text


def test_a_column_missing_in_one_of_many_files_names_that_file(sources: Path) -> None:
    write_csv(sources / "crm" / "a.csv", CRM, [])
    write_csv(sources / "crm" / "b.csv", CRM, [], CRM.required[:-1])
    assert "crm/b.csv of source 'crm' lacks the column last_contact" in refusal(sources)


def test_a_column_missing_in_a_parquet_file_is_named(sources: Path) -> None:
    write_parquet(sources / "crm.parquet", *CRM.required[1:])
    assert "lacks the column customer_id" in refusal(sources)


def test_a_column_that_is_there_twice_is_refused(sources: Path) -> None:
    """Fails: which of the two values wins is a matter of luck."""
    write_bytes(sources / "crm.csv", f"{HEADER},EMAIL\n")
    assert "has the column email more than once" in refusal(sources)


def test_an_extra_column_that_is_there_twice_is_ignored(sources: Path) -> None:
    write_bytes(sources / "crm.csv", f"{HEADER},note,note\n")
    assert exports.open_exports(CRM, sources)[0].extra_columns == ("note", "note")


def test_columns_may_stand_in_any_order_case_and_padding(sources: Path) -> None:
    header = [f" {column.upper()}\t" for column in reversed(CRM.required)]
    write_bytes(sources / "crm.csv", ",".join(header) + "\n")
    (export,) = exports.open_exports(CRM, sources)
    assert export.found == {column.name: f" {column.name.upper()}\t" for column in CRM.columns}
    assert export.key_columns == (" CUSTOMER_ID\t",)
    assert export.extra_columns == ()


def test_extra_columns_are_reported_as_they_are_written(sources: Path) -> None:
    write_bytes(sources / "crm.csv", f'Segment,{HEADER},"free, text"\n')
    assert exports.open_exports(CRM, sources)[0].extra_columns == ("Segment", "free, text")


def test_a_byte_order_mark_is_no_part_of_the_first_column(sources: Path) -> None:
    write_bytes(sources / "crm.csv", b"\xef\xbb\xbf" + HEADER.encode() + b"\r\n")
    assert exports.open_exports(CRM, sources)[0].columns == CRM.required


def test_a_header_may_be_all_there_is(sources: Path) -> None:
    write_bytes(sources / "crm.csv", HEADER)
    (export,) = exports.open_exports(CRM, sources)
    assert surveying.survey(export) == surveying.Survey(0, 0, is_regular=True, is_unended=True)


def test_an_empty_file_is_refused(sources: Path) -> None:
    """Fails: an export that broke off at once looks like a source without customers."""
    write_bytes(sources / "crm.csv", b"")
    assert "crm.csv of source 'crm' is empty (0 bytes)" in refusal(sources)


@pytest.mark.parametrize(
    ("name", "content", "finding"),
    [
        ("crm.csv", f"\n{HEADER}\n".encode(), "has its header on line 2"),
        ("crm.csv", b"\xef\xbb\xbf", "starts with an empty line"),
        ("crm.csv", HEADER.encode("utf-16"), "is utf-16 text; expected utf-8"),
        ("crm.csv", b"\xfe\xff" + HEADER.encode("utf-16-be"), "is utf-16 text; expected utf-8"),
        ("crm.csv", f"{HEADER},größe\n".encode("latin-1"), "looks like cp1252 text"),
        ("crm.csv", f'{HEADER},"open\n'.encode(), "is not a sound CSV line"),
        ("crm.csv", f"{HEADER}\ra,b\r".encode(), "ends its lines with CR alone"),
        ("crm.csv.gz", gzip.compress(b""), "starts with an empty line"),
        ("crm.csv.gz", HEADER.encode(), "is text, not what its name says. Rename it to crm.csv."),
        ("crm.csv.gz", gzip.compress(HEADER.encode())[:-12], "is not a readable gzip file"),
        ("crm.csv.gz", gzip.compress(HEADER.encode())[:-8] + b"\0" * 8, "is not a readable gzip file"),
        ("crm.csv.gz", gzip.compress(b"")[:10] + b"\xff" * 40, "is not a readable gzip file"),
        ("crm.parquet", HEADER.encode(), "is text, not what its name says. Rename it to crm.csv."),
        ("crm.parquet", b"PAR1" + b"\0" * 64 + b"PAR1", "is not a readable Parquet file"),
    ],
)
def test_a_file_that_is_no_export_is_named_with_what_was_found(
    sources: Path, name: str, content: bytes, finding: str
) -> None:
    write_bytes(sources / name, content)
    text = refusal(sources)
    assert name in text
    assert finding in text
    assert "\n" not in text


def test_a_parquet_column_that_hides_the_row_number_is_refused(sources: Path) -> None:
    write_parquet(sources / "crm.parquet", *CRM.required, "File_Row_Number")
    assert "has a column file_row_number" in refusal(sources)


def test_two_forms_of_one_source_are_refused(sources: Path) -> None:
    """Fails: the older export is read, or both, and no one notices."""
    write_csv(sources / "crm.csv", CRM, [])
    write_csv(sources / "crm" / "part.csv", CRM, [])
    assert "has more than one export" in refusal(sources)
    assert "crm.csv and crm." in refusal(sources)


@pytest.mark.parametrize("name", ["crm.csv", "crm.parquet", "crm/a.csv", "crm/b.csv.gz", "crm/c.parquet"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (Path.mkdir, "a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to("nothing"), "a link that leads nowhere"),
        (lambda path: path.symlink_to(path), "a link that leads nowhere"),
    ],
)
def test_what_has_the_name_of_an_export_and_is_no_file_is_named(
    sources: Path, name: str, make: Callable[[Path], object], kind: str
) -> None:
    """Fails: the run waits for ever, or passes over something that was meant to be read."""
    path = sources / name
    if path.parent != sources:
        write_csv(path.parent / "sound.csv", CRM, [row("a")])
    make(path)
    assert refusal(sources) == f"{name} is {kind}, not a file. Remove it from {sources}, or rename it."


HOSTILE = '\n{"event": "shard_end"}\nPublished 1,000,000\x1b]0;owned\x07\u202e'


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_header_cannot_write_lines_of_its_own_into_a_message(sources: Path, form: str) -> None:
    """Fails: whoever writes an export makes the log say that a million customers were published."""
    columns = [*CRM.required[:-1], HOSTILE]
    if form == "csv":
        cells = ",".join('"' + column.replace('"', '""') + '"' for column in columns)
        write_bytes(sources / "crm.csv", cells + "\n")
    else:
        write_parquet(sources / "crm.parquet", *columns)
    text = refusal(sources)
    assert text.isprintable()
    assert '\\n{"event": "shard_end"}\\nPublished 1,000,000\\x1b]0;owned\\x07\\u202e' in text


@pytest.mark.parametrize("content", [b"", b"no header\n", b"\n", b'"open\n', HEADER.encode("utf-16")])
@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_a_files_name_cannot_write_lines_of_its_own_into_a_message(sources: Path, content: bytes, form: str) -> None:
    write_bytes(sources / "crm" / f"a{HOSTILE.replace('/', '')}.{form}", content)
    text = refusal(sources)
    assert text.isprintable()
    assert 'crm/a\\n{"event"' in text


def test_neighbours_that_are_named_cannot_either(sources: Path) -> None:
    write_bytes(sources / "x\nPublished 1,000,000", b"")
    text = refusal(sources)
    assert text.isprintable()
    assert "x\\nPublished" in text


def test_a_link_that_leads_out_of_the_folder_is_refused(sources: Path, tmp_path: Path) -> None:
    """Fails: a user who may write exports gets any file of the host into the warehouse."""
    write_csv(tmp_path / "elsewhere" / "crm.csv", CRM, [])
    (sources / "crm.csv").symlink_to(tmp_path / "elsewhere" / "crm.csv")
    assert "is a link that leads out of" in refusal(sources)


def test_a_linked_folder_that_leads_out_is_refused(sources: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "elsewhere" / "part.csv", CRM, [])
    (sources / "crm").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "is a link that leads out of" in refusal(sources)


def test_a_link_within_the_folder_and_a_linked_root_are_fine(sources: Path, tmp_path: Path) -> None:
    write_csv(sources / "exports" / "2026.csv", CRM, [])
    (sources / "crm.csv").symlink_to("exports/2026.csv")
    (tmp_path / "linked").symlink_to(sources, target_is_directory=True)
    assert names_of(tmp_path / "linked") == ["crm.csv"]


def test_the_hash_of_the_files_is_that_of_their_bytes_in_order(tmp_path: Path) -> None:
    """Fails: a changed export is taken for an unchanged one, or the other way round."""
    one, two = write_bytes(tmp_path / "1", b"ab"), write_bytes(tmp_path / "2", b"c")

    def hashed(*paths: Path) -> str:
        return hash_files(tmp_path, stat_files(paths, tmp_path))

    before = hashed(one, two)
    assert before == hashed(write_bytes(tmp_path / "3", b"ab"), two)
    assert before != hashed(two, one)
    assert before != hashed(write_bytes(tmp_path / "4", b"a"), write_bytes(tmp_path / "5", b"bc"))
    assert before != hashed(write_bytes(tmp_path / "6", b"abc"))


def test_a_time_stamp_put_back_does_not_hide_a_change(sources: Path) -> None:
    """Fails: `cp -p` of another export over the old one is not noticed."""
    path = write_csv(sources / "crm.csv", CRM, [row("a")])
    stat = path.stat()
    (before,) = stat_files([path], sources)
    path.write_bytes(path.read_bytes().replace(b"Alice", b"Boris"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (after,) = stat_files([path], sources)
    assert (after.size_bytes, after.modified_ns) == (before.size_bytes, before.modified_ns)
    assert after != before


@pytest.mark.parametrize(
    ("rows", "survey"),
    [
        (b"a\nb\n", surveying.Survey(2, 0, is_regular=True)),
        (b"a\nb", surveying.Survey(2, 0, is_regular=True, is_unended=True)),
        (b'"a\nb"\n', surveying.Survey(1, 0, is_regular=True)),
        (b"a\n\nb\n\n", surveying.Survey(2, 0, is_regular=False)),
        (b"a\r\nb\n", surveying.Survey(2, 0, is_regular=False)),
        (b"a\r\nb\r\n", surveying.Survey(2, 0, is_regular=False)),  # the header ends in LF
        (b'a\n"b\nc\n', surveying.Survey(3, 1, is_regular=False)),
    ],
)
def test_a_survey_counts_records_and_finds_what_duckdb_cannot_have(
    sources: Path, rows: bytes, survey: surveying.Survey
) -> None:
    path = write_bytes(sources / "crm.csv", HEADER.encode() + b"\n" + rows)
    assert surveying.survey(exported(path, CRM.required)) == survey


def test_a_copy_holds_the_sound_records_unchanged_and_nothing_else(sources: Path, tmp_path: Path) -> None:
    """Fails: a damaged row takes its sound neighbours with it, or a value changes on the way."""
    text = b'\xef\xbb\xbfh,i\r\n\r\n1,"a\r\nb"\n2,"open\n3,\0\n4,d\r\n\n5,""""'
    path = write_bytes(sources / "crm.csv", text)
    surveying.write_sound_records(exported(path, ("h", "i")), tmp_path / "sound.csv")
    assert (tmp_path / "sound.csv").read_bytes() == b'h,i\n1,"a\r\nb"\n4,d\n5,""""\n'
