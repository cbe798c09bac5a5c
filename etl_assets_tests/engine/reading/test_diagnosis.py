"""The first failure explains itself: what a file is, and the line of the contract that reads it."""

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

from etl_assets.engine.reading.exports import open_exports
from etl_assets.errors import InputError
from etl_assets.project.contract import Contract, Source
from etl_assets_tests.engine.reading.sheets import workbook

HEADER = "customer_id,email,name,city"
ROWS = "\n1,a@x.test,Müller,Köln\n2,b@x.test,Zoë,Lyon\n"
TEXT = HEADER + ROWS


def source_of(**words: Any) -> Source:
    crm = {"columns": ["email", "name", "city"], **words}
    return Contract.model_validate({"name": "any", "sources": {"crm": crm}}).source("crm")


def refusal(root: Path, **words: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_exports(source_of(**words), root)
    assert caught.value.finding.isprintable()
    return caught.value.finding


def cut(text: str, delimiter: str) -> str:
    return text.replace(",", delimiter)


TITLES = "Accounts report\nAs of 2026-05-01, by Ann\n\n"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (cut(TEXT, ";").encode(), 'csv: {delimiter: ";"}'),
        (cut(TEXT, "\t").encode(), 'csv: {delimiter: "\\t"}'),
        (cut(TEXT, "|").encode(), 'csv: {delimiter: "|"}'),
        (cut(TEXT, "\x01").encode(), 'csv: {delimiter: "\\u0001"}'),
        (f"sep=,\n{TEXT}".encode(), "csv: {skip_lines: 1}"),
        (f"sep=;\n{cut(TEXT, ';')}".encode(), 'csv: {delimiter: ";", skip_lines: 1}'),
        (f"sep=;\r\n{cut(TEXT, ';')}".encode("cp1252"), 'csv: {encoding: cp1252, delimiter: ";", skip_lines: 1}'),
        ((TITLES + TEXT).encode(), "csv: {skip_lines: 3}"),
        (f"\n{TEXT}".encode(), "csv: {skip_lines: 1}"),
        (TEXT.encode("utf-16"), "csv: {encoding: utf-16}"),
        (cut(TEXT, "\t").encode("utf-16"), 'csv: {encoding: utf-16, delimiter: "\\t"}'),
        (cut(TEXT, "\t").encode("utf-16-le"), 'csv: {encoding: utf-16-le, delimiter: "\\t"}'),
        (TEXT.encode("utf-16-be"), "csv: {encoding: utf-16-be}"),
        (TEXT.encode("utf-32"), "csv: {encoding: utf-32}"),
        ((f"größe,{HEADER}" + ROWS.replace("\n", "\nä,")).encode("cp1252"), "csv: {encoding: cp1252}"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_text_of_another_structure_is_told_with_the_line_that_reads_it(
    tmp_path: Path, content: bytes, line: str, packed: bool
) -> None:
    """Fails: whoever saves from a German Excel reads that the columns are missing, and edits the contract."""
    (tmp_path / ("crm.csv.gz" if packed else "crm.csv")).write_bytes(gzip.compress(content) if packed else content)
    text = refusal(tmp_path)
    assert line in text
    assert text.startswith(f"crm.csv{'.gz' * packed} of source 'crm' ")
    (export,) = open_exports(source_of(**yaml.safe_load(line)), tmp_path)
    assert {"email", "name", "city"} <= set(export.found)


def test_what_is_declared_already_stays_in_the_line(tmp_path: Path) -> None:
    (tmp_path / "crm.csv").write_text(cut(TEXT, ";"), encoding="utf-8")
    text = refusal(tmp_path, csv={"decimal": ",", "nulls": ["N/A"]})
    assert 'csv: {decimal: ",", nulls: ["N/A"], delimiter: ";"}' in text


def test_one_file_of_several_is_told_with_the_line_for_it_alone(tmp_path: Path) -> None:
    """Fails: whoever writes the line reads the one file, and none of the others any more."""
    (tmp_path / "crm").mkdir()
    (tmp_path / "crm" / "a.csv").write_text(TEXT, encoding="utf-8")
    (tmp_path / "crm" / "b.csv").write_text(cut(TEXT, ";"), encoding="utf-8")
    text = refusal(tmp_path)
    line = 'csv_by_file: [{files: "crm/b.csv", delimiter: ";"}]'
    assert line in text
    assert len(open_exports(source_of(**yaml.safe_load(line)), tmp_path)) == 2


def test_columns_that_are_missing_besides_are_told_at_once(tmp_path: Path) -> None:
    """Fails: the delimiter is mended, and only then the column's name is told."""
    (tmp_path / "crm.csv").write_text(cut(TEXT, ";").replace("city", "town"), encoding="utf-8")
    text = refusal(tmp_path)
    assert 'csv: {delimiter: ";"}' in text
    assert "lacks the columns city then" in text


def test_lines_that_are_wholly_in_quotes_are_told(tmp_path: Path) -> None:
    lines = "\n".join(f'"{line}"' for line in TEXT.splitlines())
    (tmp_path / "crm.csv").write_text(lines, encoding="utf-8")
    assert "has each line as a whole in quotes" in refusal(tmp_path)


def test_cells_in_single_quotes_are_told_before_the_quotes_are_in_every_key(tmp_path: Path) -> None:
    """Fails: names are compared without punctuation, so the file is read, and each key has quotes around it."""
    quoted = "\n".join("'" + line.replace(",", "','") + "'" for line in TEXT.splitlines())
    (tmp_path / "crm.csv").write_text(quoted, encoding="utf-8")
    assert """csv: {quote: "'", escape: "'"}""" in refusal(tmp_path)
    (export,) = open_exports(source_of(csv={"quote": "'", "escape": "'"}), tmp_path)
    assert export.columns == tuple(HEADER.split(","))


def test_lines_that_end_in_cr_alone_are_told(tmp_path: Path) -> None:
    (tmp_path / "crm.csv").write_bytes(TEXT.encode().replace(b"\n", b"\r"))
    assert "ends its lines with CR alone" in refusal(tmp_path)


def test_a_file_without_a_header_is_told_and_its_first_record_is_not_shown(tmp_path: Path) -> None:
    """Fails: the address of the first customer is in the log, as the name of a column."""
    (tmp_path / "crm.csv").write_text("1,ada@x.test,Ada,Rome\n2,bob@x.test,Bob,Oslo\n", encoding="utf-8")
    text = refusal(tmp_path)
    assert "seems to have no header" in text
    assert HEADER in text
    assert "ada@x.test" not in text


def test_title_rows_of_a_workbook_are_told(tmp_path: Path) -> None:
    rows: list[list[str | None]] = [["Accounts", None], [None], [*HEADER.split(",")], ["1", "a", "b", "c"]]
    (tmp_path / "crm.xlsx").write_bytes(workbook({"One": rows}))
    assert "csv: {skip_lines: 2}" in refusal(tmp_path)


def test_a_column_that_is_only_missing_stays_what_it_is(tmp_path: Path) -> None:
    """Fails: an ordinary mistake is explained by a structure that the file does not have."""
    (tmp_path / "crm.csv").write_text("customer_id,email,name\n1,a;b;c;d,x|y\n", encoding="utf-8")
    assert refusal(tmp_path).startswith("crm.csv of source 'crm' lacks the column city.")


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, TEXT)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "finding"),
    [
        ("crm.csv", gzip.compress(TEXT.encode()), "is gzip, not what its name says. Rename it to crm.csv.gz."),
        ("crm.csv", zstandard.compress(TEXT.encode()), "is zstd, not what its name says. Rename it to crm.csv.zst."),
        ("crm.csv", zipped("crm.csv"), "is zip, not what its name says. Rename it to crm.csv.zip."),
        (
            "crm.csv",
            workbook({"One": [["a"]]}),
            "is an Excel workbook, not what its name says. Rename it to crm.xlsx.",
        ),
        ("crm.txt", b"PAR1\x15\x04PAR1", "is Parquet, not what its name says. Rename it to crm.parquet."),
        ("crm.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99, "is an Excel workbook of the old format (.xls)"),
        ("crm.xlsx", TEXT.encode(), "is text, not what its name says. Rename it to crm.csv."),
        ("crm.parquet", TEXT.encode(), "is text, not what its name says. Rename it to crm.csv."),
        ("crm.csv.gz", TEXT.encode(), "is text, not what its name says. Rename it to crm.csv."),
        ("crm.csv", b"<!DOCTYPE html><title>Sign in\n</title>", "is a web page (Sign in), not what its name says."),
        ("crm.xlsx", b"<html><body><table><tr><td>1", "is a web page with a table, as some systems export for Excel"),
        ("crm.csv", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is XML (AccessDenied)"),
        ("crm.csv", b'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>', "an Excel workbook saved as XML"),
        ("crm.csv", b'[{"customer_id": 1}]', "is a JSON array, not what its name says."),
        ("crm.jsonl", b'[\n{"customer_id": 1}]', "is a JSON array, not what its name says."),
        ("crm.csv", b'{"a": 1}\n{"a": 2}\n', "is JSON Lines, not what its name says. Rename it to crm.jsonl."),
        ("crm.csv", b'{"error": "rate limit"}', 'is a JSON object ({"error": "rate limit"})'),
        ("crm.csv", b"BZh91AY", "is packed as bzip2"),
        ("crm.csv", b"SQLite format 3\0", "is a SQLite database"),
        ("crm.csv", b"%PDF-1.7", "is a PDF document"),
        ("crm.csv", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        ("crm.csv.gz", gzip.compress(b"<html>no</html>"), "holds a web page"),
    ],
)
def test_a_file_of_another_kind_than_its_name_says_is_told(
    tmp_path: Path, name: str, content: bytes, finding: str
) -> None:
    """Fails: a download that ended in an error page is called an export without columns."""
    (tmp_path / name).write_bytes(content)
    text = refusal(tmp_path)
    assert text.startswith(f"{name} of source 'crm' ")
    assert finding in text


def test_a_folder_of_nothing_but_folders_is_told_with_the_line_that_reads_them(tmp_path: Path) -> None:
    (tmp_path / "crm" / "2026-05").mkdir(parents=True)
    (tmp_path / "crm" / "2026-05" / "a.csv").write_text(TEXT, encoding="utf-8")
    assert 'files: ["crm/**"]' in refusal(tmp_path)
    assert len(open_exports(source_of(files=["crm/**"]), tmp_path)) == 1


def test_the_parts_of_a_missing_export_are_told_with_one_pattern(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"crm-00000000000{number}.csv").write_text(TEXT, encoding="utf-8")
    text = refusal(tmp_path)
    assert (
        """crm-000000000000.csv and 2 more may be it: write for crm in etl_assets.yaml: files: ["crm*.csv"]""" in text
    )
    assert len(open_exports(source_of(files=["crm*.csv"]), tmp_path)) == 3


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("CRM.csv", TEXT.encode(), 'CRM.csv may be it: write for crm in etl_assets.yaml: files: ["CRM.csv"]'),
        ("crm.xls", b"<html><table>", "crm.xls may be it: it is a web page with a table"),
        (
            "crm.xls",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "crm.xls may be it: it is an Excel workbook of the old format",
        ),
        ("crm.json", b"[{}]", "crm.json may be it: it is a JSON array"),
        ("crm_2026-05-02.csv", TEXT.encode(), 'files: ["crm_2026-05-02.csv"]'),
    ],
)
def test_a_missing_export_is_told_with_the_file_that_may_be_it(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in refusal(tmp_path)
