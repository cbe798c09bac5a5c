"""Files that look like a source's data and are read by none: each stops its source, and nothing else does."""

from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.reading.listing import find_files
from etl_assets.engine.reading.strays import refuse_strays, unread_names
from etl_assets.errors import InputError
from etl_assets.project.contract import Contract

COLUMNS = ["email", "name", "city", "phone"]
HEADER = "customer_id,email,name,city,phone\n"


def contract(**words: Any) -> Contract:
    """A contract of crm, with these words, and of two sources of other columns."""
    crm = {"columns": COLUMNS, **words}
    return Contract.model_validate(
        {"name": "any", "sources": {"crm": crm, "crm_notes": {"columns": ["note"]}, "billing": {"columns": ["plan"]}}}
    )


def put(root: Path, *names: str, text: str = HEADER) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, "crm_notes.csv", text="customer_id,note\n")
    put(tmp_path, "billing.csv", text="customer_id,plan\n")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        *("crm_2026-05-02.csv", "crm (1).csv", "CRM.csv", "crm-10.csv.gz", "crm copy.csv", "2026-05 crm export.csv"),
        *(
            "crm.csv.1",
            "crm.csv.bak",
            "crm.csv~",
            "#crm.csv#",
            "crm",
            "crm.json",
            "crm.xls",
            "crm.csv.part",
            "crm.csv.bz2",
        ),
        *("crm.numbers", "crm.csv.gpg", "crm.dbf", "crm_2026W18.csv", "crm.csv.001", "crm_000", "crm_0000_part_00"),
        *("crm_2026/part.csv", "CrmExport.tsv", "crm.csv.download", "Kopie von crm.csv".replace("von", "of")),
    ],
)
def test_another_copy_of_an_export_stops_its_source_by_name(root: Path, name: str) -> None:
    """Fails: last month's file is read, the newer one beside it is not, and no word is said."""
    put(root, "crm.csv", name)
    with pytest.raises(InputError) as caught:
        refuse_strays(contract(), contract().source("crm"), root)
    assert name.split("/")[0] in caught.value.finding
    assert "reads only crm.csv" in caught.value.finding
    assert str(root) in caught.value.finding
    for other in ("crm_notes", "billing"):
        refuse_strays(contract(), contract().source(other), root)


@pytest.mark.parametrize(
    "name",
    [
        *("2026-05/c.csv", "d.json", "e", "f.csv.bak", "g.xls", "h.avro", "_archive/i.csv", "2026-05/deep/j.parquet"),
        *("k.csv.tmp", "l.html", "m.csv.7z"),
    ],
)
def test_whatever_lies_in_a_sources_folder_and_is_not_read_stops_it(root: Path, name: str) -> None:
    """Fails: half of the customers lose their data, and the accounting is closed."""
    put(root, "crm/a.csv", "crm/b.CSV", f"crm/{name}")
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        refuse_strays(contract(), contract().source("crm"), root)


@pytest.mark.parametrize(
    "name",
    [
        *("_SUCCESS", "_committed_123", "_started_123", "_metadata", ".a.csv.crc", "part-0.parquet.crc", "a.csv.md5"),
        *(".DS_Store", "Thumbs.db", "desktop.ini", ".gitkeep", ".~lock.a.csv#", "~$a.xlsx", ".a.csv.swp", "README.txt"),
        *("schema.sql", "notes.md", "__MACOSX/._a.csv", "@eaDir/a.csv", "load.log", "._a.csv"),
    ],
)
@pytest.mark.parametrize("files", [(), ("crm/**",)])
def test_marks_of_other_programs_stop_nothing(root: Path, name: str, files: tuple[str, ...]) -> None:
    """Fails: a folder that macOS, Windows, Spark or an editor has looked at cannot be read any more."""
    put(root, "crm/a.csv", f"crm/{name}")
    refuse_strays(contract(files=files), contract(files=files).source("crm"), root)


@pytest.mark.parametrize(
    "name", ["crm_notes_2026.csv", "notes about crm.pdf", "crm_fields.csv", "other.csv", "crm.sql"]
)
def test_files_of_other_sources_and_of_other_columns_stop_nothing(root: Path, name: str) -> None:
    """Fails: a source whose name begins another one's is stopped by that one's files."""
    put(root, "crm.csv")
    put(root, name, text="field,meaning\n")
    refuse_strays(contract(), contract().source("crm"), root)


def test_a_file_belongs_to_the_source_with_the_longer_name(tmp_path: Path) -> None:
    """Fails: a copy of `crm_archive` stops `crm`, whose files are all read."""
    both = Contract.model_validate(
        {"name": "any", "sources": {"crm": {"columns": COLUMNS}, "crm_archive": {"columns": COLUMNS}}}
    )
    put(tmp_path, "crm.csv", "crm_archive.csv", "crm_archive (1).csv")
    refuse_strays(both, both.source("crm"), tmp_path)
    with pytest.raises(InputError, match=r"crm_archive \(1\)\.csv"):
        refuse_strays(both, both.source("crm_archive"), tmp_path)


def test_a_file_of_any_name_with_all_columns_of_a_source_stops_it(root: Path) -> None:
    """Fails: a browser saves the new export as `Export (3).csv`, and the old one is read for months."""
    put(root, "crm.csv", "Export (3).csv")
    with pytest.raises(InputError, match=r"Export \(3\)\.csv looks like its data too"):
        refuse_strays(contract(), contract().source("crm"), root)


@pytest.mark.parametrize(
    ("files", "others", "line"),
    [
        ((), ["crm (1).csv"], 'files: ["crm.csv", "crm (1).csv"]'),
        ((), ["crm[1].csv"], 'files: ["crm.csv", "crm[[]1].csv"]'),
        ((), ["crm-2/a.csv"], 'files: ["crm.csv", "crm-2/**"]'),
        (("crm*.csv",), ["CRM-2.CSV"], 'files: ["crm*.csv", "CRM-2.CSV"]'),
    ],
)
def test_the_line_that_reads_them_too_reads_them(
    root: Path, files: tuple[str, ...], others: list[str], line: str
) -> None:
    """Fails: whoever writes what the message says meets the same message again."""
    put(root, "crm.csv", *others)
    source = contract(files=files).source("crm")
    with pytest.raises(InputError) as caught:
        refuse_strays(contract(files=files), source, root)
    assert line in caught.value.finding
    patterns = tuple(line.removeprefix('files: ["').removesuffix('"]').split('", "'))
    refuse_strays(contract(files=patterns), contract(files=patterns).source("crm"), root)


@pytest.mark.parametrize(
    ("present", "others", "line"),
    [
        ("crm.csv", ["crm (1).csv"], 'ignore: ["crm (1).csv"]'),
        ("crm.csv", ["crm[1].csv", "CRM.CSV"], 'ignore: ["CRM.CSV", "crm[[]1].csv"]'),
        ("crm.csv", ["crm-2/a.csv"], 'ignore: ["crm-2/**"]'),
        ("crm/a.csv", ["crm/old/b.csv", "crm/c.csv.bak"], 'ignore: ["crm/c.csv.bak", "crm/old/b.csv"]'),
    ],
)
def test_the_line_that_leaves_them_out_leaves_them_out(root: Path, present: str, others: list[str], line: str) -> None:
    """Fails: a backup beside an export must be moved away, or be read."""
    put(root, present, *others)
    with pytest.raises(InputError) as caught:
        refuse_strays(contract(), contract().source("crm"), root)
    assert f"{line}, or move " in caught.value.finding
    leaving_out = contract(ignore=line.removeprefix('ignore: ["').removesuffix('"]').split('", "'))
    refuse_strays(leaving_out, leaving_out.source("crm"), root)
    assert [path.relative_to(root).as_posix() for path in find_files(leaving_out.source("crm"), root)] == [present]
    # It is no secret: the report lists them still.
    assert set(unread_names(leaving_out, root)) == set(others)


@pytest.mark.parametrize("files", [(), ("crm/**",), ("crm/*", "crm/2026/*")])
def test_a_file_of_a_readable_form_is_left_out_too(root: Path, files: tuple[str, ...]) -> None:
    """Fails: a legend in the folder of the exports is read as customers, or its header stops the source."""
    put(root, "crm/a.csv", "crm/legend 1.txt", "crm/2026/legend 2.txt", "crm/2026/b.csv")
    words = contract(
        files=files, ignore=["crm/legend*.txt", "crm/**/legend*.txt", *(() if files else ("crm/2026/**",))]
    )
    refuse_strays(words, words.source("crm"), root)
    found = [path.relative_to(root).as_posix() for path in find_files(words.source("crm"), root)]
    assert sorted(found) == sorted(["crm/a.csv", *(["crm/2026/b.csv"] if files else [])])


def test_a_file_that_one_source_leaves_out_stops_no_other_one(root: Path) -> None:
    put(root, "crm.csv", "Export (3).csv")
    both = {"crm": {"columns": COLUMNS}, "people": {"files": "crm.csv", "columns": COLUMNS, "ignore": "Export*.csv"}}
    two = Contract.model_validate({"name": "any", "sources": both})
    for source in two.sources:
        refuse_strays(two, source, root)


def test_a_folder_that_is_left_out_is_no_second_export(root: Path) -> None:
    put(root, "crm.csv", "crm/2025.csv")
    with pytest.raises(InputError, match=r"more than one export"):
        find_files(contract().source("crm"), root)
    without = contract(ignore="crm/**")
    refuse_strays(without, without.source("crm"), root)
    assert find_files(without.source("crm"), root) == [root / "crm.csv"]


def test_a_source_of_which_nothing_is_left_is_refused(root: Path) -> None:
    """Fails: a pattern that is too wide empties a source."""
    put(root, "crm/a.csv")
    for files in ((), ("crm/*.csv",)):
        source = contract(files=files, ignore="crm/**").source("crm")
        with pytest.raises(InputError, match=r"No export of source 'crm'|No file of source 'crm' is left"):
            find_files(source, root)


def test_one_pattern_is_proposed_where_it_names_no_other_file(root: Path) -> None:
    (root / "crm_notes.csv").rename(root / "notes_of_crm.csv")
    put(root, "crm.csv", "crm_2026-05-02.csv")
    with pytest.raises(InputError, match=r'files: \["crm\*\.csv"\]'):
        refuse_strays(contract(), contract().source("crm"), root)


def test_a_folder_below_that_of_a_source_is_read_with_two_stars(root: Path) -> None:
    put(root, "crm/a.csv", "crm/2026-05/c.csv")
    with pytest.raises(InputError, match=r'files: \["crm/\*\*"\]'):
        refuse_strays(contract(), contract().source("crm"), root)
    refuse_strays(contract(files=["crm/**"]), contract(files=["crm/**"]).source("crm"), root)


def test_a_folder_of_two_sources_belongs_to_none(tmp_path: Path) -> None:
    """Fails: the files of one source are called unread data of the other, which lies in the same folder."""
    put(tmp_path, "in/crm-1.csv", "in/crm_notes-1.csv", "in/invoices.csv", text="customer_id,plan\n")
    words = {
        "crm": {"files": "in/crm-*.csv", "columns": ["plan"]},
        "billing": {"files": "in/invo*.csv", "columns": ["plan"]},
    }
    both = Contract.model_validate({"name": "any", "sources": words})
    for source in both.sources:
        if source.name == "billing":
            refuse_strays(both, source, tmp_path)
    put(tmp_path, "in/crm-2.CSV")
    with pytest.raises(InputError, match=r"in/crm-2\.CSV"):
        refuse_strays(both, both.source("crm"), tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("_delta_log/0.json", "Delta"),
        (".hoodie/x", "Hudi"),
        ("metadata/v1.metadata.json", "Iceberg"),
        ("_temporary/0/x", "not done"),
    ],
)
def test_a_folder_whose_files_are_not_its_rows_is_refused(root: Path, name: str, says: str) -> None:
    """Fails: rows that were deleted from a table long ago are in the result again."""
    put(root, "crm/a.csv", f"crm/{name}")
    with pytest.raises(InputError, match=says):
        refuse_strays(contract(), contract().source("crm"), root)


def test_files_of_no_source_are_listed_without_marks_and_documents(root: Path) -> None:
    """Fails: an archive of exports lies below, and whoever takes it for read is told nothing."""
    put(root, "crm.csv", "archive/crm_2025.csv", "prices.csv", ".hidden/a.csv", "_SUCCESS", "notes.md", "README.csv")
    assert unread_names(contract(), root) == ("archive/crm_2025.csv", "prices.csv")


def test_a_linked_folder_that_leads_back_ends_the_search(root: Path) -> None:
    """Fails: the search for unread files goes round in circles."""
    put(root, "crm/a.csv")
    (root / "crm" / "again").symlink_to(root / "crm")
    with pytest.raises(InputError, match="crm/again"):
        refuse_strays(contract(), contract().source("crm"), root)
