"""Files grouped into sources, and the patterns that name them."""

from pathlib import Path

import pytest

from etl_assets.drafting.grouping import group_files, list_files, stem_of

HEADER = ("id", "email", "plan")


def grouped(root: Path, **headers: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Source names and patterns of the files in `root`; `headers` are those of stems, if not the usual one."""
    files = list_files(root)
    found = {path: headers.get(path.stem.partition(".")[0], HEADER) for path in files}
    return {group.name: group.patterns for group in group_files(root, found, dict.fromkeys(files, ""))}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("billing-2026-05.csv", "billing"),
        ("billing (1).csv", "billing"),
        ("billing (2).csv.gz", "billing"),
        ("billing-3.TSV.zst", "billing"),
        ("billing 2026-05.zip", "billing"),
        ("invoices_1.csv", "invoices"),
        ("2026-05-01 orders.csv", "orders"),
        ("charges_2026-05-01T14:22:33.csv", "charges"),
        ("tickets-20260501.parquet", "tickets"),
        ("crm.csv", "crm"),
        ("report1.csv", "report1"),
        ("2026.csv", "2026"),
    ],
)
def test_what_changes_from_one_export_to_the_next_is_no_part_of_a_name(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_exports_of_several_months_and_downloads_are_one_source_in_natural_order(tmp_path: Path) -> None:
    """Fails: next month's file is not read, or each month is a source of its own."""
    touch(tmp_path, "billing-2026-10.csv", "billing-2026-9.csv", "crm.csv", "invoices_1.csv", "invoices_2.csv")
    assert grouped(tmp_path) == {
        "billing": ("billing-*.csv",),
        "crm": ("crm.csv",),
        "invoices": ("invoices_*.csv",),
    }


def test_a_pattern_never_takes_another_sources_file(tmp_path: Path) -> None:
    """Fails: two sources match one file, which a run refuses."""
    touch(tmp_path, "billing.csv", "billing (1).csv", "billing_contacts.csv")
    assert grouped(tmp_path) == {
        "billing": ("billing.csv", "billing (1).csv"),
        "billing_contacts": ("billing_contacts.csv",),
    }


def test_a_folder_is_a_source_and_its_pattern_holds_the_next_file_too(tmp_path: Path) -> None:
    touch(tmp_path, "Web Events/2026-04.csv.gz", "Web Events/2026-05.csv", ".hidden/x.csv", "a/.part.csv", "a/1.csv")
    assert grouped(tmp_path) == {"web_events": ("Web Events/*",), "a": ("a/*",)}


def test_a_folder_of_different_tables_is_several_sources(tmp_path: Path) -> None:
    touch(tmp_path, "stripe/charges.csv", "stripe/customers.csv")
    found = grouped(tmp_path, customers=("id", "name", "city"), charges=("charge", "amount"))
    assert found == {"stripe_charges": ("stripe/charges.csv",), "stripe_customers": ("stripe/customers.csv",)}


def test_files_of_one_name_with_other_columns_are_sources_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "report (1).csv", "report (2).csv")
    files = list_files(tmp_path)
    headers = dict(zip(files, (("id", "email"), ("day", "visits")), strict=True))
    groups = group_files(tmp_path, headers, dict.fromkeys(files, ""))
    assert [(group.name, group.patterns) for group in groups] == [
        ("report", ("report (1).csv",)),
        ("report_2", ("report (2).csv",)),
    ]


def test_names_with_the_marks_of_patterns_are_taken_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "a[b].csv")
    ((pattern,),) = grouped(tmp_path).values()
    assert [path.name for path in tmp_path.glob(pattern)] == ["a[b].csv"]


def test_names_that_the_engine_uses_are_left_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "base.csv", "profiles.csv")
    assert list(grouped(tmp_path)) == ["base_2", "profiles_2"]
