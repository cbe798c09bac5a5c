"""Encoding, structure and header from the bytes of a file."""

import gzip
from pathlib import Path

import duckdb
import pytest

from etl_assets.drafting.sniffing import Sniffed, sniff
from etl_assets_tests.engine.reading.test_unpacking import frames, zipped

GERMAN = "Name;Ort;Betrag\r\n" + "Müller;Köln;12,50\r\nJosé;Genf;3,20\r\n" * 20
RUSSIAN = "Имя;Город\n" + "Иван;Москва\nПётр;Казань\n" * 20


def sniffed(tmp_path: Path, data: bytes, name: str = "x.csv") -> Sniffed | None:
    (tmp_path / name).write_bytes(data)
    return sniff(tmp_path / name, tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a,b\n1,2\n", {}),
        ("é,b\n1,2\n".encode("utf-8-sig"), {}),
        (GERMAN.encode("cp1252"), {"delimiter": ";", "encoding": "cp1252"}),
        (GERMAN.replace(";", "\t").encode("utf-16"), {"delimiter": "\t", "encoding": "utf-16"}),
        (GERMAN.encode("utf-16-le"), {"delimiter": ";", "encoding": "utf-16-le"}),
        (GERMAN.encode("utf-16-be"), {"delimiter": ";", "encoding": "utf-16-be"}),
        (RUSSIAN.encode("cp1251"), {"delimiter": ";", "encoding": "cp1251"}),
        (("名前,都市\n" + "山田,東京\n鈴木,大阪\n" * 20).encode("cp932"), {"encoding": "cp932"}),
        (("a|b|c\n" + "x, y|2|3\n" * 9).encode(), {"delimiter": "|"}),
        (("id,note\n" + '1,"a \\"q\\", b"\n' * 9).encode(), {"escape": "\\"}),
        (("a,b\n" + "1,2,\n" * 9).encode(), {"surplus_cell": True}),
        (("Report of today\r\n\r\n" + GERMAN).encode(), {"delimiter": ";", "skip_lines": 2}),
        (("a,b\n" + "1,2\n" * 9 + "\nCopyright\n").encode(), {"footer_lines": 2}),
        (("id,text\n" + '1,"line\nbreak"\n' * 9).encode(), {}),
    ],
)
def test_the_dialect_is_what_the_bytes_say(tmp_path: Path, data: bytes, words: dict[str, object]) -> None:
    """Fails: a draft reads other cells than the system wrote, or nothing at all."""
    found = sniffed(tmp_path, data)
    assert found is not None
    assert found.words == words


def test_a_header_is_as_written_also_in_a_packed_file(tmp_path: Path) -> None:
    found = sniffed(tmp_path, gzip.compress(b'"Account ID","City, Country"\n1,2\n'), "x.csv.gz")
    assert found is not None
    assert found.header == ("Account ID", "City, Country")


def test_an_encoding_that_is_guessed_shows_what_it_reads(tmp_path: Path) -> None:
    """Fails: a wrong guess is seen only in the warehouse."""
    found = sniffed(tmp_path, GERMAN.encode("cp1252"))
    assert found is not None
    assert found.guesses == ("encoding cp1252: reads as: Müller;Köln;12,50",)


def test_lines_that_are_taken_for_no_records_are_shown(tmp_path: Path) -> None:
    """Fails: a header that does not fit the rows is skipped, and the first record names the columns, unseen."""
    found = sniffed(tmp_path, b"Report of today\n\na,b\n" + b"1,2\n" * 9 + b"Total 9\n")
    assert found is not None
    assert found.guesses == (
        "skip_lines: the first line is 'Report of today'",
        "footer_lines: the last line begins with 'Total 9'",
    )


def test_damaged_records_do_not_hide_the_structure_of_the_others(tmp_path: Path) -> None:
    """Fails: one stray line break or NUL in a file of a million rows, and there is no draft."""
    found = sniffed(
        tmp_path, b"a;b\n" + b"1;2\n" * 20 + b"3;x\ry\n4;\0\n5;" + b"z" * 200_000 + b"\n6\n" + b"7;8\n" * 20
    )
    assert found == Sniffed(("a", "b"), {"delimiter": ";"})


def test_some_damaged_bytes_do_not_make_utf8_another_encoding(tmp_path: Path) -> None:
    found = sniffed(tmp_path, GERMAN.encode() * 3 + b"\xff;x;1\r\n")
    assert found is not None
    assert "encoding" not in found.words
    assert found.guesses == ("encoding utf-8: UTF-8, in which 1 places are damaged",)


@pytest.mark.parametrize("data", [b"only\n1\n2\n", b"\n\n\n"])
def test_what_is_no_table_is_none(tmp_path: Path, data: bytes) -> None:
    assert sniffed(tmp_path, data) is None


def test_a_parquet_file_has_its_own_header(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS \"Id\", 2 AS b) TO '{path}'")
    assert sniff(path, tmp_path) == Sniffed(("Id", "b"))


def test_packed_texts_are_sniffed_as_plain_ones(tmp_path: Path) -> None:
    """Fails: a draft names an archive that `run` would read as not read."""
    text = b"Account ID;City\n1;Ulm\n2;Bonn\n"
    plain = sniffed(tmp_path, text)
    for name, content in {
        "x.csv.zst": frames(text[:9], text[9:]),
        "x.csv.zip": zipped({"a/": b"", "a/b.csv": text}),
        "y.zip": zipped({"b.csv": text}),
        "z.CSV": text,
    }.items():
        assert sniffed(tmp_path, content, name) == plain


def test_the_ending_of_a_file_says_what_needs_no_word(tmp_path: Path) -> None:
    for text, words in ((b"a\tb\n1\t2\n3\t4\n", {}), (b"a,b\n1,2\n3,4\n", {"delimiter": ","})):
        found = sniffed(tmp_path, text, "x.tsv")
        assert found is not None
        assert found.words == words
