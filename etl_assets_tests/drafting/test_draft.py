"""Types, keys and rows of a draft, from small exports that each hold one difficulty."""

import json
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from etl_assets.drafting.draft import Draft, draft_project
from etl_assets.drafting.query_text import profiles_text
from etl_assets.drafting.yaml_text import contract_text
from etl_assets.errors import InputError
from etl_assets.samples.writing import generate
from etl_assets_tests.drafting.worlds import write_table
from etl_assets_tests.engine.reading.sheets import Cell, workbook
from etl_assets_tests.engine.reading.test_unpacking import frames
from etl_assets_tests.engine.steps.product_exports import write_parquet
from etl_assets_tests.factory import LIMITS


def draft_of(tmp_path: Path, **tables: Sequence[Sequence[object]]) -> Draft:
    """The draft of files with these rows, header first."""
    for name, rows in tables.items():
        write_table(tmp_path / "exports" / f"{name}.csv", rows)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return draft_project(tmp_path / "exports", scratch, LIMITS)


def test_objects_are_drafted_with_the_fields_that_hold_values(tmp_path: Path) -> None:
    """Fails: JSON text is declared as a column, or an export is left out that `run` could read."""
    exports = tmp_path / "exports"
    exports.mkdir()
    records = [
        {"id": f"c{number}", "address": {"city": "Ulm"}, "tags": [], "paid": number % 2 == 0, "big": 10**17 + number}
        for number in range(40)
    ]
    lines = "\n".join(json.dumps(record) for record in [*records, {"id": "c40", "mrr": 12.5}])
    (exports / "crm-2026-05.jsonl.zst").write_bytes(frames(lines.encode()))
    write_table(exports / "billing.csv", [["Customer ID", "plan"], *([f"c{number}", "free"] for number in range(40))])
    draft = draft_of(tmp_path)
    crm = next(source for source in draft.sources if source.name == "crm")
    assert crm.table.group.patterns == ("crm-*.jsonl.zst",)
    assert {column.header: column.type for column in crm.columns} == {
        "address.city": "text",
        "paid": "bool",
        "big": "text",
        "mrr": "decimal(18,2)",
    }


def test_a_workbook_is_drafted_from_its_first_sheet(tmp_path: Path) -> None:
    """Fails: an export as people send it has to be converted by hand."""
    exports = tmp_path / "exports"
    exports.mkdir()
    rows: list[list[Cell]] = [[f"c{number}", number, date(2026, 5, 1), number % 2 == 0] for number in range(40)]
    sheet: list[list[Cell]] = [["Report"], [], ["Customer ID", "visits", "day", "paid"], *rows]
    (exports / "crm.xlsx").write_bytes(workbook({"May": sheet, "Notes": []}))
    write_table(exports / "billing.csv", [["Customer ID", "plan"], *([f"c{number}", "free"] for number in range(40))])
    draft = draft_of(tmp_path)
    crm = next(source for source in draft.sources if source.name == "crm")
    assert crm.table.words == {"skip_lines": 2}
    assert {column.header: column.type for column in crm.columns} == {"visits": "int", "day": "date", "paid": "bool"}


def test_folders_that_name_columns_are_drafted_with_them(tmp_path: Path) -> None:
    """Fails: the draft has no day, though each record has one."""
    select = "SELECT 'c' || range AS \"Customer ID\", range AS visits FROM range(40)"
    for day in ("2026-05-01", "2026-05-02"):
        write_parquet(tmp_path / "exports" / "crm" / f"day={day}" / "part-0.parquet", select)
    exports = tmp_path / "exports"
    write_table(exports / "billing.csv", [["Customer ID", "plan"], *([f"c{number}", "free"] for number in range(40))])
    draft = draft_of(tmp_path)
    crm = next(source for source in draft.sources if source.name == "crm")
    assert crm.table.group.patterns == ("crm/**/*",)
    assert {column.header: column.type for column in crm.columns} == {"visits": "int", "day": "date"}


def test_columns_of_lists_and_objects_are_left_out_and_said_so(tmp_path: Path) -> None:
    """Fails: the draft declares them as texts, and its first run refuses the file."""
    nested = "['a', 'b'] AS tags, {'x': 1} AS Geo, MAP {'k': 1} AS m"
    select = f"SELECT 'c' || range AS customer_id, {nested}, range AS visits FROM range(40)"
    write_parquet(tmp_path / "exports" / "crm.parquet", select)
    draft = draft_of(tmp_path)
    assert {column.header: column.type for column in draft.sources[0].columns} == {"visits": "int"}
    text = contract_text(draft, "mine", "exports")
    assert "# guess: left out: tags, of type VARCHAR[], which holds no single values\n" in text
    assert "# guess: left out: Geo, of type STRUCT(x INTEGER), which holds no single values\n" in text


def types_of(tmp_path: Path, **cells: Sequence[str]) -> dict[str, str]:
    """The types of columns with these cells, in a file with an id."""
    count = max(map(len, cells.values()))
    rows = [[f"c{number}", *(column[number % len(column)] for column in cells.values())] for number in range(count)]
    draft = draft_of(tmp_path, crm=[["customer_id", *cells], *rows])
    return {column.name: column.type for column in draft.sources[0].columns}


def test_a_type_is_given_only_if_every_cell_has_it(tmp_path: Path) -> None:
    """Fails: a draft loses cells at its first run, or takes identifiers for quantities."""
    many = [str(number) for number in range(3_000)]
    assert types_of(
        tmp_path,
        plain=["1", "20", ""],
        late=[*many, "3 or 4"],
        padded=["007", "12"],
        long=["1234567890123456", "1"],
        phone_number=["4930123", "4930124"],
        cents=["12.00", "3.50"],
        price=["12.5", "3"],
        share=["0.5", "0.123"],
        yes=["yes", "no"],
        day=["2026-05-01", "2026-05-02"],
        moment=["2026-05-01T14:22:33Z", "2026-05-02 10:00"],
        midnight=["2026-05-01T00:00:00Z", ""],
        words=["a1", "b2"],
        nothing=["", ""],
    ) == {
        "plain": "int",
        "late": "text",
        "padded": "text",
        "long": "text",
        "phone_number": "text",
        "cents": "decimal(18,2)",
        "price": "decimal(18,2)",
        "share": "float",
        "yes": "bool",
        "day": "date",
        "moment": "timestamp",
        "midnight": "date",
        "words": "text",
        "nothing": "text",
    }


def test_a_column_that_is_nearly_a_number_says_why_it_is_text(tmp_path: Path) -> None:
    rows = [[f"c{number}", "x 5" if number == 7 else number] for number in range(100)]
    draft = draft_of(tmp_path, crm=[["customer_id", "visits"], *rows])
    text = contract_text(draft, "p", "../exports")
    assert "visits: {}  # guess: text, as 1 cell is no int, such as 'x 5'; as int, it becomes null\n" in text


@pytest.mark.parametrize(("word", "words"), [("6", {}), ("unknown", {"nulls": ["NULL", "-", "unknown"]})])
def test_words_for_null_are_taken_from_numbers_and_only_certain_ones_from_texts(
    tmp_path: Path, word: str, words: dict[str, object]
) -> None:
    """Fails: `none` as an answer is lost, or `-` makes a column of numbers text."""
    rows = [
        [f"c{number}", *cells]
        for number, cells in enumerate([("-", "none", "NULL"), ("5", "NA", "x"), (word, "x", "y")])
    ]
    draft = draft_of(tmp_path, crm=[["customer_id", "visits", "answer", "city"], *rows])
    assert draft.sources[0].table.words == words
    assert {column.name: column.type for column in draft.sources[0].columns} == {
        "visits": "int",
        "answer": "text",
        "city": "text",
    }


def test_the_key_is_where_values_overlap_and_the_overlap_is_shown(tmp_path: Path) -> None:
    """Fails: a wrong key is not seen before the profiles are wrong."""
    draft = draft_of(
        tmp_path,
        crm=[["Account ID", "City"], *([f"A{number:04d}", f"City {number}"] for number in range(100))],
        billing=[["Invoice", "customer"], *([f"I{number}", f"a{number:04d}"] for number in range(80, 120))],
    )
    assert [(source.name, source.key_header) for source in draft.sources] == [
        ("crm", "Account ID"),
        ("billing", "customer"),
    ]
    assert [str(overlap) for overlap in draft.overlaps] == ["billing.customer ↔ crm.Account ID: 50% of 40"]
    text = contract_text(draft, "p", "../exports")
    assert "#   billing.customer ↔ crm.Account ID: 50% of 40\nkey: {name: account_id, case: lower}\n" in text


def test_numbers_from_1_on_are_no_key_in_common_unless_their_headers_say_so(tmp_path: Path) -> None:
    """Fails: order 17 is joined with customer 17."""
    draft = draft_of(
        tmp_path,
        customers=[["ID", "City"], *([number, f"City {number}"] for number in range(1, 101))],
        orders=[
            ["Order ID", "Customer", "Total"],
            *([number, 1 + number % 90, f"{number}.50"] for number in range(1, 201)),
        ],
    )
    assert [(source.name, source.key_header, source.has_many) for source in draft.sources] == [
        ("customers", "ID", False),
        ("orders", "Customer", True),
    ]
    assert draft.key_name == "customer_id"


def test_long_numbers_with_gaps_are_a_key_in_common_whatever_their_headers_say(tmp_path: Path) -> None:
    """Fails: the ids of systems that number with gaps are taken for chance, and their sources are left out."""
    ids = [9_000_000_000 + 7_919 * number for number in range(50)]
    draft = draft_of(
        tmp_path,
        crm=[["Record ID", "name"], *([one, f"Acme {one}"] for one in ids)],
        tickets=[["Reported by", "Issue #"], *([ids[number % 40], number] for number in range(90))],
    )
    assert {source.name: source.key_header for source in draft.sources} == {
        "crm": "Record ID",
        "tickets": "Reported by",
    }


def test_counted_numbers_are_a_key_in_common_where_both_headers_name_whom_is_served(tmp_path: Path) -> None:
    """Fails: the members of a club are left out because one system calls them clients."""
    draft = draft_of(
        tmp_path,
        clients=[["Client ID", "name"], *([f"{number:06}", f"Ada {number}"] for number in range(50))],
        payments=[["Kunde", "Betrag"], *([f"{number % 45:06}", number + 0.5] for number in range(90))],
    )
    assert {source.name: source.key_header for source in draft.sources} == {"clients": "Client ID", "payments": "Kunde"}


@pytest.mark.parametrize(
    ("one", "other", "outlier"),
    [("Company ID", "Contact ID", []), ("Invoice no", "Article no", [99_999_999]), ("User", "Account", [])],
)
def test_counted_numbers_of_two_things_are_no_key_in_common(
    tmp_path: Path, one: str, other: str, outlier: list[int]
) -> None:
    """Fails: company 17 is merged with contact 17, or a number of a test makes all others look drawn."""
    draft = draft_of(
        tmp_path,
        left=[[one, "city"], *([number, f"City {number}"] for number in [*range(1, 41), *outlier])],
        right=[[other, "town"], *([number, f"Town {number}"] for number in range(1, 61))],
    )
    assert len(draft.sources) == 1
    assert draft.overlaps == ()


def test_a_sample_with_flaws_has_the_key_and_the_rows_that_it_was_made_with(tmp_path: Path) -> None:
    """Fails: a few damaged rows decide what the key is."""
    generate(tmp_path / "exports", rows=3_000, dirty=0.05)
    draft = draft_of(tmp_path)
    assert draft.key_name == "customer_id"
    assert [(source.key_header, source.has_many) for source in draft.sources] == [("customer_id", False)] * 4
    assert {source.table.words.get("encoding") for source in draft.sources} == {None}


def test_without_any_overlap_the_address_is_the_key_and_said_to_be_a_guess(tmp_path: Path) -> None:
    draft = draft_of(
        tmp_path,
        crm=[["Name", "E-Mail"], ["Ada", "ada@a.example"], ["Bo", "bo@a.example"]],
        shop=[["Buyer", "Mail"], ["Chloe", "chloe@b.example"], ["Dan", "dan@b.example"]],
    )
    assert (draft.key_name, draft.keys.folds_case) == ("email", True)
    assert "# guess: the key, as no values overlap." in contract_text(draft, "p", "../exports")


def test_a_source_without_the_key_is_left_out_and_named(tmp_path: Path) -> None:
    draft = draft_of(
        tmp_path,
        crm=[["email", "plan"], *([f"u{number}@x.example", "pro"] for number in range(20))],
        shop=[["email", "spent"], *([f"u{number}@x.example", "5.00"] for number in range(15))],
        stock=[["sku", "pieces"], *([f"sku-{number}", number] for number in range(10))],
    )
    assert [source.name for source in draft.sources] == ["crm", "shop"]
    assert draft.left_out == {"stock": "no column of it has values of crm.email"}


def test_a_source_whose_key_is_twice_in_its_header_says_so(tmp_path: Path) -> None:
    """Fails: the reason why a source is missing cannot be found."""
    rows = [[f"u{number}@x.example", "pro", f"u{number}@x.example"] for number in range(20)]
    draft = draft_of(
        tmp_path,
        crm=[["email", "plan"], *(row[:2] for row in rows)],
        shop=[["email", "spent"], *(row[:2] for row in rows)],
        hub=[["Email", "plan", "Email"], *rows],
    )
    assert draft.left_out["hub"].endswith("; left out: Email, which the header has more than once")


def test_a_file_whose_rows_do_not_fit_its_header_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """Fails: a source is missing from the draft, without a reason."""
    draft = draft_of(
        tmp_path,
        crm=[["email", "plan"], *([f"u{number}@x.example", "pro"] for number in range(20))],
        shop=[["email", "spent", "more"], *([f"u{number}@x.example", "5"] for number in range(20))],
    )
    assert draft.left_out == {"shop.csv": "it has no header of at least two columns that fits its rows"}


def test_sources_with_many_rows_are_linked_without_the_one_that_owns_the_key(tmp_path: Path) -> None:
    draft = draft_of(
        tmp_path,
        tickets=[["Ticket", "Customer"], *([f"T{number}", number % 30] for number in range(90))],
        payments=[["Payment", "Customer No"], *([f"P{number}", number % 40] for number in range(90))],
    )
    assert {source.name: source.key_header for source in draft.sources} == {
        "payments": "Customer No",
        "tickets": "Customer",
    }


def test_repeated_keys_make_many_rows_unless_they_are_few_and_nothing_names_a_row(tmp_path: Path) -> None:
    """Fails: a person who is in an export twice by mistake is counted, or tickets supersede each other."""
    people = [[f"u{number}", "2026-05-01"] for number in range(100)]
    draft = draft_of(
        tmp_path,
        crm=[["user_id", "updated"], *people, ["u7", "2026-05-02"]],
        tickets=[["ticket_no", "user_id"], *([f"T{number}", f"u{number % 50}"] for number in range(90))],
        visits=[["user_id", "minutes"], *([f"u{number % 50}", number % 7] for number in range(90))],
    )
    assert {source.name: (source.has_many, source.row_key, source.latest_by) for source in draft.sources} == {
        "crm": (False, "", "updated"),
        "tickets": (True, "ticket_no", ""),
        "visits": (True, "", ""),
    }
    assert "rows: one, as only 1 of 100 keys have several rows; latest_by: updated" in draft.sources[0].notes


def test_a_column_that_is_empty_in_some_rows_is_not_the_key_of_rows(tmp_path: Path) -> None:
    """Fails: the run after `init` rejects the rows in which it is empty."""
    draft = draft_of(
        tmp_path,
        crm=[["user_id", "name"], *([f"u{number}", f"n{number}"] for number in range(50))],
        calls=[["call_no", "user_id"], *([f"C{n}" if n % 9 else "", f"u{n % 50}"] for n in range(90))],
    )
    assert {source.name: source.row_key for source in draft.sources if source.has_many} == {"calls": ""}


def test_rows_without_a_key_raise_the_share_that_may_be_rejected_and_say_so(tmp_path: Path) -> None:
    """Fails: the run after `init` stops because too many rows are rejected."""
    rows = [[f"u{number}@x.example" if number % 5 else "", number] for number in range(50)]
    draft = draft_of(tmp_path, crm=[["email", "visits"], *rows])
    assert draft.max_reject_ratio == 0.22
    text = contract_text(draft, "p", "../exports")
    assert "    # 10 of 50 rows have no key or are damaged: they go to quarantine.\n" in text
    assert "  max_reject_ratio: 0.22\n" in text


def test_columns_of_the_same_name_get_their_sources_and_addresses_are_one(tmp_path: Path) -> None:
    draft = draft_of(
        tmp_path,
        crm=[["customer_id", "phone", "email"], *([f"c{n}", f"+49 {n}", f"u{n}@x.example"] for n in range(9))],
        shop=[["customer_id", "phone", "mail"], *([f"c{n}", f"+1 {n}", f"u{n}@y.example"] for n in range(9))],
    )
    text = profiles_text(draft)
    assert "    coalesce(crm.email, shop.mail) AS email,\n    crm.phone AS crm_phone,\n" in text
    assert "    shop.phone AS shop_phone,\n" in text
    # Under their new names they are as personal as before.
    assert "profile:\n  crm_phone: {pii: true}\n  shop_phone: {pii: true}\n" in contract_text(draft, "p", ".")


def test_words_of_sql_are_quoted_in_the_query(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, order=[["customer_id", "select", "group"], ["c1", "a", "b"], ["c2", "c", "d"]])
    assert re.search(r'"order"\."select",\n    "order"\."group"', profiles_text(draft))


def test_a_header_that_is_there_twice_is_left_out(tmp_path: Path) -> None:
    draft = draft_of(
        tmp_path, crm=[["customer_id", "Note", "note", "City"], ["c1", "a", "b", "x"], ["c2", "c", "d", "y"]]
    )
    assert [column.name for column in draft.sources[0].columns] == ["city"]
    assert draft.sources[0].notes == (
        "left out: Note, which the header has more than once",
        "left out: note, which the header has more than once",
    )


def test_comments_and_texts_of_headers_cannot_break_the_file(tmp_path: Path) -> None:
    """Fails: a header with a colon, a quote or a line break makes a contract that cannot be loaded, or another one."""
    import yaml

    header = 'a: "b" # c\nd, {e}'
    draft = draft_of(tmp_path, crm=[["customer_id", header, "'x'"], ["c1", "a", "b"], ["c2", "c", "d"]])
    found = yaml.safe_load(contract_text(draft, "p", 'fol: "der'))
    assert [column["from"] for column in found["sources"]["crm"]["columns"].values()] == [header, "'x'"]
    assert found["settings"]["sources"] == 'fol: "der'


def test_a_folder_without_tables_is_refused_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "notes.docx").write_text("x")
    (tmp_path / "exports" / "empty.csv").write_text("")
    with pytest.raises(InputError, match=r"empty\.csv: it is empty; notes\.docx: its format is not read"):
        draft_of(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        draft_of(tmp_path)
