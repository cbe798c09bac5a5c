"""The sample of any project: what is written, the project reads without a reject; and it is the same every time."""

import csv
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.checks import check_warehouse, warehouse_checks
from etl_assets.engine.published.snapshots import Snapshot, current_snapshots
from etl_assets.engine.site import Site
from etl_assets.project.contract import Contract
from etl_assets.project.identity import Key
from etl_assets.project.loading import Project
from etl_assets.samples.any_files import file_names, generate_any, is_customer360
from etl_assets.samples.writing import FORMATS, FileFormat
from etl_assets_tests import factory
from etl_assets_tests.projects.fleets import FLEET

# Every type, every word of a dialect, other headers, a key of two columns, and many records of a key.
EVERY = Contract.model_validate(
    {
        "name": "every",
        "entity": "accounts",
        "key": {"name": "account_id", "max_chars": 40},
        "sources": {
            "crm": {
                "files": "crm/accounts-*.csv",
                "key": ["Region", "Account ID"],
                "csv": {
                    "delimiter": ";",
                    "encoding": "cp1252",
                    "decimal": ",",
                    "thousands": ".",
                    "currency": ["€"],
                    "percent": True,
                    "parentheses": True,
                    "dates": ["%d.%m.%Y"],
                    "nulls": ["-", "n/a"],
                    "true_words": ["ja"],
                    "false_words": ["nein"],
                    "skip_lines": 2,
                    "footer_lines": 1,
                },
                "columns": {
                    "company_name": {"from": "Company Name", "required": True},
                    "email": {"pii": True, "unique": True},
                    "is_active": {"type": "bool"},
                    "deal_value": {"type": "decimal(12,2)", "min": -50_000, "max": 2_000_000},
                    "discount_pct": {"type": "float", "min": 0, "max": 30},
                    "since": {"type": "date"},
                    "called_at": {"type": "timestamp"},
                    "size": {"values": ["klein", "groß; sehr", 'so "la la"']},
                    "segment": {"pattern": "[A-C][0-9]{2}"},
                },
            },
            "tickets": {
                "files": ["tickets-[0-9].tsv", "archive/**/tickets*"],
                "csv": {"delimiter": "\t", "quote": "'", "escape": "\\", "encoding": "utf-16", "comment": "acc"},
                "rows": "many",
                "row_key": "ticket_id",
                "latest_by": "opened_at",
                "columns": {
                    "ticket_id": {"pattern": "T-[0-9]{5}"},
                    "opened_at": {"type": "timestamp"},
                    "priority": {"type": "int"},
                    "note": {},
                    "parent": {"relationships": {"to": "crm", "column": "company_name"}},
                },
            },
            "events": {
                "csv": {"dates": ["epoch_ms"], "surplus_cell": True},
                "rows": "many",
                "row_key": ["day", "kind"],
                "columns": {
                    "day": {"type": "timestamp"},
                    "kind": {"values": ["a", "b"]},
                    "amount": {"type": "decimal(4,4)"},
                    "account": {"relationships": {"to": "crm"}},
                    "owner": {"required": True, "pattern": "[a-z]{3}( [a-z]{3})?"},
                },
            },
        },
        "profile": {"company_name": {"required": True, "unique": True}},
    }
)
SITE = Project(EVERY, "SELECT base.*, crm.company_name FROM accounts")


def staged(contract: Contract, exports: Path, home: Home) -> dict[str, Snapshot]:
    site = Site(Project(contract, "SELECT base.* FROM customers"), home, 2)
    return factory.stage_all(factory.staging_request(exports, site))


def rejects(snapshots: Mapping[str, Snapshot]) -> dict[str, dict[str, int]]:
    """The reasons of rejected rows and cells, by source that has any."""
    found = {name: {**one.reasons, **one.cell_reasons} for name, one in snapshots.items()}
    return {name: reasons for name, reasons in found.items() if reasons}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_fleet_is_published_from_its_sample(sources: Path, home: Home, file_format: FileFormat) -> None:
    """Fails: a new project cannot be tried without data."""
    generate_any(sources, FLEET.contract, rows=120, file_format=file_format)
    site = factory.site_at(home, 2, FLEET)
    merged = factory.run_engine(sources, site)
    assert (merged.publication.record_count, merged.quarantined_count) == (120, 0)
    findings = check_warehouse(site, factory.LIMITS, warehouse_checks(FLEET))
    assert {one.name for one in findings if not one.passed} <= {"signals_follow_registration"}
    assert min(merged.value_counts["duty"]["IDLE"], merged.value_counts["duty"]["HEAVY"]) > 0


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_type_dialect_and_kind_of_row_is_read_without_a_reject(
    sources: Path, home: Home, file_format: FileFormat
) -> None:
    generate_any(sources, EVERY, rows=150, file_format=file_format)
    snapshots = staged(EVERY, sources, home)
    assert rejects(snapshots) == {}
    counts = {name: one.rows_accepted for name, one in snapshots.items()}
    assert counts["crm"] == 150
    # Up to six records of a key.
    assert 300 < counts["tickets"] < 900
    assert 300 < counts["events"] < 900


def test_columns_hold_values_and_not_nulls_and_words_on_columns_are_kept(sources: Path, home: Home) -> None:
    """Fails: everything that is hard to make is left empty, which breaks no rule."""
    generate_any(sources, EVERY, rows=150)
    site = factory.site_at(home, 2, SITE)
    factory.run_engine(sources, site)
    findings = {one.name: one for one in check_warehouse(site, factory.LIMITS, warehouse_checks(SITE))}
    assert {name for name, one in findings.items() if not one.passed} == set()
    assert {"unique_crm__email", "relationships_tickets__parent", "relationships_events__account"} <= findings.keys()
    for source in EVERY.sources:
        folder = home.snapshot(source.name, current_snapshots(site)[source.name].folder)
        rows = [row for path in folder.glob("shard_*.parquet") for row in factory.read_parquet(path)]
        filled = Counter(name for row in rows for name, value in row.items() if value is not None)
        assert [column.name for column in source.columns if filled[column.name] < 0.8 * len(rows)] == []


def test_names_suggest_values(sources: Path) -> None:
    texts = ["email", "first_name", "country", "phone", "website", "order_id"]
    columns = [*texts, {"name": "total_price", "type": "decimal"}]
    contract = Contract.model_validate({"name": "shop", "sources": {"web": {"columns": columns}}})
    (path,) = generate_any(sources, contract, rows=40)
    (first, *_) = list(csv.DictReader(path.open(encoding="utf-8")))
    shapes = {
        "customer_id": r"cust-\d{6}",
        "email": r"[^@ ]+@[^@ ]+\.example",
        "first_name": r"\w+",
        "country": r"[A-Z]\w+",
        "phone": r"\+1 555 01\d\d",
        "website": r"https://www\.[a-z]+\.example",
        "order_id": r"ORDE-\d{6}",
        "total_price": r"\d+\.\d\d",
    }
    # An empty cell is null.
    assert [name for name, shape in shapes.items() if first[name] and not re.fullmatch(shape, first[name])] == []


def test_some_keys_are_missing_from_some_sources_and_none_from_all(sources: Path) -> None:
    generate_any(sources, FLEET.contract, rows=300)
    known = {
        path.stem: {row["vin"] for row in csv.DictReader(path.open(encoding="utf-8"))} for path in sources.iterdir()
    }
    assert len(set().union(*known.values())) == 300
    assert all(250 < len(keys) < 300 for keys in known.values())


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(
    tmp_path: Path, file_format: FileFormat
) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        generate_any(tmp_path / name, EVERY, rows=30, seed=seed, dirty=0.1, file_format=file_format)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


def test_dirty_records_have_the_flaws_of_real_exports(sources: Path, home: Home) -> None:
    generate_any(sources, EVERY, rows=300, dirty=0.2)
    found = rejects(staged(EVERY, sources, home))
    assert found.keys() == set(EVERY.source_names)
    assert {"missing_account_id", "malformed_row", "superseded"} <= found["crm"].keys()
    assert [reason for reason in found["crm"] if reason.startswith("invalid:")] != []


# A map of its own in several files that two sources share, and an export that is the map of a third.
MAPPED = Contract.model_validate(
    {
        "name": "mapped",
        "key": {"name": "account_id"},
        "sources": {
            "crm": {"files": "crm-*", "key": "Account", "columns": {"name": {}, "payer": {"from": "Payer ID"}}},
            "payments": {
                "key": "Customer",
                "key_map": {"files": "crm*", "from": "payer id", "to": "Account"},
                "columns": ["plan"],
            },
            "chat": {
                "key": "user email",
                "key_map": {
                    "files": ["ids/a-*.csv.gz", "ids/**/b.csv"],
                    "from": "E-Mail",
                    "to": "Account",
                    "csv": {"delimiter": ";"},
                },
                "columns": ["words"],
            },
            "desk": {
                "key": ["Brand", "Requester"],
                "rows": "many",
                "key_map": {
                    "files": "ids/a*",
                    "from": ["Brand", "Requester"],
                    "to": "Account ID",
                    "csv": {"delimiter": ";"},
                },
                "columns": ["subject"],
            },
        },
    }
)


def test_sources_with_ids_of_their_own_have_maps_to_the_keys(sources: Path, home: Home) -> None:
    """Fails: a project with a `key_map` cannot be tried without data."""
    files = generate_any(sources, MAPPED, rows=150)
    names = [path.relative_to(sources).as_posix() for path in files]
    assert names == ["crm-.csv", "payments.csv", "chat.csv", "desk.csv", "ids/a-1.csv.gz", "ids/b.csv"]
    snapshots = staged(MAPPED, sources, home)
    assert rejects(snapshots) == {}
    assert {name: one.key_map.id_count for name, one in snapshots.items() if one.key_map} == {
        "payments": 150,
        "chat": 150,
        "desk": 150,
    }
    with (sources / "chat.csv").open(encoding="utf-8") as stream:
        assert next(csv.DictReader(stream))["user email"].startswith("user")
    generate_any(sources, MAPPED, rows=150, dirty=0.2)
    assert "unmapped_account_id" in rejects(staged(MAPPED, sources, home))["payments"]


def test_a_map_that_would_be_a_second_export_of_a_source_is_refused(sources: Path) -> None:
    """Fails: the sample cannot be read, because a source has two exports."""
    key_map = {"files": "crm.csv", "from": "Payer", "to": "Account"}
    words = {"crm": {"columns": ["name"]}, "payments": {"key_map": key_map, "columns": ["plan"]}}
    contract = Contract.model_validate({"name": "p", "sources": words})
    with pytest.raises(ValueError, match=r"a key_map names crm\.csv, so expected the format csv, found parquet"):
        generate_any(sources, contract, rows=5, file_format="parquet")
    assert not list(sources.iterdir())


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("", "web.csv"),
        ("orders-*.csv", "orders-1.csv"),
        ("orders-?[ab].tsv", "orders-1a.tsv"),
        ("shop/**/*.csv.gz", "shop/1.csv.gz"),
        ("shop/*", "shop/web.csv"),
        ("shop/**", "shop/web.csv"),
        ("orders*", "orders.csv"),
        ("o.parquet", "o.parquet"),
    ],
)
def test_a_files_name_matches_its_pattern(pattern: str, name: str) -> None:
    declared = {"columns": ["a"], **({"files": pattern} if pattern else {})}
    contract = Contract.model_validate({"name": "shop", "sources": {"web": declared}})
    assert file_names(contract.source("web"), "csv") == [name]


def _one(column: Mapping[str, Any], **source: Any) -> Contract:
    return Contract.model_validate({"name": "p", "sources": {"web": {"columns": {"odd": column}, **source}}})


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (_one({"type": "int", "min": 0.2, "max": 0.8, "required": True}), r"no value can be made for web\.odd"),
        (_one({"pattern": "(?i)x", "required": True}), r"no value can be made for web\.odd"),
        (_one({}, files="*.xlsx"), r"can be written as \.csv, .*, found 1\.xlsx"),
        (_one({}).model_copy(update={"key": Key(max_chars=1)}), "too short for 50 rows"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(sources: Path, contract: Contract, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_any(sources, contract, rows=50)
    assert list(sources.iterdir()) == []


def test_files_of_the_users_own_are_neither_replaced_nor_mixed_with_the_sample(sources: Path) -> None:
    (sources / "orders-2025.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"already holds orders-2025\.csv"):
        generate_any(sources, _one({}, files="orders-*.csv"), rows=5)
    assert contents(sources) == {"orders-2025.csv": b"mine"}


def test_customer_360_keeps_its_own_sample_as_long_as_the_sample_has_all_its_columns() -> None:
    contract = factory.PROJECT.contract
    assert is_customer360(contract)
    assert is_customer360(contract.model_copy(update={"sources": contract.sources[:2]}))
    assert not is_customer360(FLEET.contract)
    declared = contract.model_dump(by_alias=True, exclude_defaults=True)
    for change in ({"columns": ["shoe_size"]}, {"csv": {"delimiter": ";"}}, {"files": "c*.csv"}, {"key": "Customer"}):
        sources = [{**declared["sources"][0], **change}, *declared["sources"][1:]]
        assert not is_customer360(Contract.model_validate({**declared, "sources": sources}))


NAMES = st.sampled_from(["email", "total", "name", "day", "amount", "note", "is_open", "id", "country", "x1"])
DIALECTS = st.fixed_dictionaries(
    {},
    optional={
        "delimiter": st.sampled_from([";", "\t", "|"]),
        "quote": st.sampled_from(["'", "~"]),
        "encoding": st.sampled_from(["utf-8", "utf-16", "cp1252", "ascii", "latin-1", "utf-8-sig"]),
        "skip_lines": st.integers(0, 2),
        "footer_lines": st.integers(0, 2),
        "surplus_cell": st.booleans(),
        "comment": st.sampled_from(["#", "//", "c"]),
        "decimal": st.just(","),
        "thousands": st.sampled_from(["'", " ", "_"]),
        "currency": st.sampled_from([["$"], ["EUR", "€"]]),
        "percent": st.booleans(),
        "parentheses": st.booleans(),
        "dates": st.sampled_from(
            [["%d.%m.%Y"], ["%m/%d/%y %I:%M %p"], ["%-d %B %Y"], ["epoch"], ["excel"], ["%Y%m%d %H:%M:%S.%f"]]
        ),
        "nulls": st.sampled_from([["-"], ["0", "NULL"], ["1"]]),
        "true_words": st.just(["on", "x"]),
    },
)
COLUMNS = st.one_of(
    st.fixed_dictionaries({}, optional={"pii": st.booleans(), "required": st.booleans()}),
    st.fixed_dictionaries(
        {"values": st.lists(st.sampled_from(["a b", "it's", '"q"', "ü", "c;d"]), min_size=1, unique=True)}
    ),
    st.fixed_dictionaries({"pattern": st.sampled_from(["[A-Z]{3}", r"\d{2}-\d{2}", "(ab|cd)+"])}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["int", "float", "decimal(9,3)", "decimal(3,0)", "decimal(38,10)"])},
        optional={"min": st.integers(-5_000, 0), "max": st.integers(1, 10**7), "required": st.booleans()},
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["bool", "date", "timestamp"])}, optional={"pii": st.booleans()}),
)
SOURCES = st.fixed_dictionaries(
    {"columns": st.dictionaries(NAMES, COLUMNS, min_size=1, max_size=5)},
    optional={
        "csv": DIALECTS,
        "rows": st.sampled_from(["one", "many"]),
        "key": st.sampled_from(["Kunde", ["a", "b"]]),
        "on_invalid": st.just("reject_row"),
    },
)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """A contract of one or two sources; a row key where there are many records."""
    sources: list[dict[str, Any]] = draw(st.lists(SOURCES, min_size=1, max_size=2))
    for source in sources:
        dialect = source.get("csv", {})
        if "quote" in dialect:
            dialect["escape"] = draw(st.sampled_from([dialect["quote"], "\\"]))
        if source.get("rows") == "many" and draw(st.booleans()):
            source["row_key"] = sorted(source["columns"])[:2]
    return Contract.model_validate(
        {"name": "p", "sources": {f"s{number}": source for number, source in enumerate(sources)}}
    )


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contract=contracts())
def test_whatever_is_declared_its_sample_is_read_without_a_reject(
    tmp_path_factory: pytest.TempPathFactory, contract: Contract
) -> None:
    """Property: not one reject, for any contract."""
    folder = tmp_path_factory.mktemp("any")
    generate_any(folder / "exports", contract, rows=25)
    assert rejects(staged(contract, folder / "exports", Home(folder / "home"))) == {}
