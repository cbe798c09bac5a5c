"""From export to snapshot: which rows are accepted, with which values, and to which slice they go."""

import gzip
from datetime import date
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine import routing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import stage as stage_source
from etl_assets_tests.engine.steps.product_exports import (
    HEADER,
    PRODUCT,
    accepted,
    stage,
    write,
    write_parquet,
)
from etl_assets_tests.factory import (
    PROJECT,
    read_quarantine,
    read_slices,
    row,
    site_at,
    stage_all,
    staging_request,
    write_csv,
    write_exports,
)

SUPPORT = PROJECT.contract.source("support")


class TestAcceptedRows:
    def test_every_row_keeps_its_values_typed(self, sources: Path, site: Site) -> None:
        write(sources, row("a", usage_pct="100"), row("b", email="", signup_date="", usage_pct=" ", account_status=""))
        found = accepted(site, stage(sources, site))
        columns = PRODUCT.required[1:]
        assert [found["a"][column] for column in columns] == [
            "ada@alpine.example",
            date(2025, 1, 1),
            date(2026, 6, 1),
            40,
            7,
            100,
            "active",
        ]
        assert [found["b"][column] for column in columns] == [None, None, date(2026, 6, 1), 40, 7, None, None]

    def test_numbers_keep_their_type(self, sources: Path, site: Site) -> None:
        write_csv(
            sources / "support.csv", SUPPORT, [row("a", csat_score="5", avg_resolution_hrs="-0.0", nps_score="0")]
        )
        snapshot, _ = stage_source(SUPPORT, staging_request(sources, site))
        found = accepted(site, snapshot)["a"]
        assert (found["csat_score"], found["nps_score"], str(found["avg_resolution_hrs"])) == (5.0, 0, "0.0")
        assert isinstance(found["csat_score"], float)

    @pytest.mark.parametrize(
        ("cell", "value"),
        [
            ("12.0", 12),
            ("+5", 5),
            (" 7 ", 7),
            ("1e1", 10),
            ("1.2E1 ", 12),
            ("007", 7),
            ("0", 0),
            ("100", 100),
            ("", None),
        ],
    )
    def test_whole_numbers_are_read_as_people_write_them(
        self, sources: Path, site: Site, cell: str, value: int | None
    ) -> None:
        write(sources, row("a", usage_pct=cell))
        assert accepted(site, stage(sources, site))["a"]["usage_pct"] == value

    @pytest.mark.parametrize("cell", ["1e+3", "1.2345e3", "1e16", "12.5", "0x10", "1_0", "ten", "9223372036854775808"])
    def test_what_is_no_whole_number_is_not_guessed(self, sources: Path, site: Site, cell: str) -> None:
        write(sources, row("a", total_sessions=cell))
        assert stage(sources, site).reasons == {"invalid:total_sessions": 1}

    def test_a_column_that_changes_its_look_half_way_is_read_to_the_end(self, sources: Path, site: Site) -> None:
        """Fails: the type is guessed from the first rows, and the rest of the file is wrong or gone."""
        early = [row(f"a{number}", total_sessions=str(number), account_status="1") for number in range(3000)]
        late = [row(f"b{number}", total_sessions="12.0", account_status="eins") for number in range(100)]
        write(sources, *early, *late, row("c", total_sessions="many"))
        snapshot = stage(sources, site)
        found = accepted(site, snapshot)
        assert (found["a2999"]["total_sessions"], found["a2999"]["account_status"]) == (2999, "1")
        assert (found["b99"]["total_sessions"], found["b99"]["account_status"]) == (12, "eins")
        assert snapshot.reasons == {"invalid:total_sessions": 1}

    @pytest.mark.parametrize(
        "customer_id",
        [
            *("cust_00000042", "'; DROP TABLE rejected; --", 'say "hi"', "a,b", "two\nlines", "x" * 128, "é" * 128),
            *("Ünal Ωmega 客户", "🙂", "0", "-1", "nullify", "4e12", "%s{}\\", "\u00a0", "../../etc", "=1+1"),
        ],
    )
    def test_any_short_text_is_a_customer_id(self, sources: Path, site: Site, customer_id: str) -> None:
        """Fails: a customer with an unusual id is lost, or their id runs as code."""
        write(sources, row(customer_id), row("other"))
        found = accepted(site, stage(sources, site))
        assert set(found) == {customer_id, "other"}

    def test_a_customer_id_is_trimmed_before_it_counts(self, sources: Path, site: Site) -> None:
        write(sources, row(" \ta\r\n", usage_pct="1"), row("a", usage_pct="2"), row("  " + "x" * 128 + "  "))
        snapshot = stage(sources, site)
        assert accepted(site, snapshot)["a"]["usage_pct"] == 2
        assert set(accepted(site, snapshot)) == {"a", "x" * 128}
        assert snapshot.reasons == {"superseded": 1}

    def test_columns_may_stand_in_any_order_and_more_may_be_there(self, sources: Path, site: Site) -> None:
        columns = ["note", *reversed(PRODUCT.required), "segment"]
        rows = [row("a", note="x,y", segment="s", usage_pct="3"), row("", note="n", segment="s")]
        write_csv(sources / "product.csv", PRODUCT, rows, columns)
        snapshot = stage(sources, site)
        assert accepted(site, snapshot)["a"]["usage_pct"] == 3
        assert snapshot.extra_columns == ("note", "segment")
        assert snapshot.reasons == {"missing_customer_id": 1}

    def test_files_of_one_source_may_order_their_columns_differently(self, sources: Path, site: Site) -> None:
        write_csv(sources / "product" / "a.csv", PRODUCT, [row("a", usage_pct="1")])
        write_csv(
            sources / "product" / "b.csv", PRODUCT, [row("b", usage_pct="2")], [*reversed(PRODUCT.required), "note"]
        )
        snapshot = stage(sources, site)
        found = accepted(site, snapshot)
        assert {key: value["usage_pct"] for key, value in found.items()} == {"a": 1, "b": 2}
        assert (snapshot.files, snapshot.extra_columns) == (("product/a.csv", "product/b.csv"), ("note",))

    def test_a_packed_file_holds_the_same_rows(self, sources: Path, site: Site, tmp_path: Path) -> None:
        path = write(sources, row("a"), row("b", email='q"q\n'), row(""))
        plain = stage(sources, site)
        (tmp_path / "packed").mkdir()
        # In two members, as appending exporters write them.
        data = path.read_bytes()
        (tmp_path / "packed" / "product.csv.gz").write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:]))
        packed = stage(tmp_path / "packed", site)
        assert packed.slices == plain.slices
        assert packed.reasons == plain.reasons == {"missing_customer_id": 1}
        assert packed.data_hash != plain.data_hash

    @pytest.mark.parametrize("folder", ["exports [2026]", "it's", "a*b?", "plan=pro", "größe", "100%"])
    def test_the_folders_may_have_any_name(self, tmp_path: Path, folder: str) -> None:
        site = site_at(Home(tmp_path / f"home {folder}"))
        write(tmp_path / folder, row("a"), row("a"), row(""))
        snapshot = stage(tmp_path / folder, site)
        assert set(accepted(site, snapshot)) == {"a"}
        assert snapshot.reasons == {"missing_customer_id": 1, "superseded": 1}


class TestSuperseded:
    def test_the_last_row_in_file_order_wins(self, sources: Path, site: Site) -> None:
        """Fails: a customer's profile is made of yesterday's row."""
        write(sources, *(row("a", usage_pct=str(number)) for number in (3, 9, 5)), row("b", usage_pct="1"))
        snapshot = stage(sources, site)
        assert {key: found["usage_pct"] for key, found in accepted(site, snapshot).items()} == {"a": 5, "b": 1}
        assert [found["line_number"] for found in read_quarantine(site.home, snapshot)] == [2, 3]

    def test_the_last_file_in_name_order_wins(self, sources: Path, site: Site) -> None:
        for name, usage in (("b.csv", "20"), ("c.csv", "30"), ("a.csv", "10")):
            write(sources, row("x"), row("a", usage_pct=usage), row("y"), name=f"product/{name}")
        snapshot = stage(sources, site)
        assert accepted(site, snapshot)["a"]["usage_pct"] == 30
        superseded = [(found["file"], found["customer_id"]) for found in read_quarantine(site.home, snapshot)]
        assert superseded == [(f"product/{name}.csv", customer) for name in "ab" for customer in ("x", "a", "y")]

    def test_a_rejected_row_supersedes_nothing(self, sources: Path, site: Site) -> None:
        """Fails: a broken last row costs the customer the sound one before it."""
        write(sources, row("a", usage_pct="1"), row("a", usage_pct="x"))
        snapshot = stage(sources, site)
        assert accepted(site, snapshot)["a"]["usage_pct"] == 1
        assert snapshot.reasons == {"invalid:usage_pct": 1}

    def test_a_parquet_file_takes_its_place_in_name_order(self, sources: Path, site: Site) -> None:
        write(sources, row("a", usage_pct="1"), row("b", usage_pct="1"), name="product/1.csv")
        cells = ", ".join(f"'{cell}' AS {name}" for name, cell in row("x", usage_pct="2").items() if name in HEADER)
        write_parquet(sources / "product" / "2.parquet", f"SELECT * REPLACE ('a' AS customer_id) FROM (SELECT {cells})")
        write(sources, row("b", usage_pct="3"), name="product/3.csv")
        found = accepted(site, stage(sources, site))
        assert {key: value["usage_pct"] for key, value in found.items()} == {"a": 2, "b": 3}

    def test_superseded_rows_are_no_rejects(self, sources: Path, site: Site) -> None:
        write(sources, *(row(key) for key in "ab" for _ in range(50)))
        snapshot = stage(sources, site, max_reject_ratio=0.0)
        assert snapshot.reasons == {"superseded": 98}
        assert snapshot.reject_ratio == 0.0


class TestSlices:
    @pytest.mark.parametrize("shard_count", [1, 7, 101])
    def test_every_row_lies_in_the_slice_of_its_customer(self, sources: Path, site: Site, shard_count: int) -> None:
        """Fails: a customer is built in one shard from one source and in another from the next."""
        write(sources, *(row(f"cust_{number}") for number in range(300)), row("ü 客"))
        snapshot = stage(sources, site_at(site.home, shard_count))
        parts = read_slices(site.home, snapshot)
        assert [part.shard_id for part in snapshot.slices] == routing.shard_keys(shard_count)
        for number, part in enumerate(parts):
            assert {routing.route(found["customer_id"], shard_count) for found in part} <= {number}
        assert [part.record_count for part in snapshot.slices] == [len(part) for part in parts]
        assert sum(map(len, parts)) == 301

    def test_a_source_without_rows_has_empty_slices(self, sources: Path, site: Site) -> None:
        write_exports(sources)
        for snapshot in stage_all(staging_request(sources, site)).values():
            assert (snapshot.rows_in, snapshot.rows_accepted, snapshot.rows_quarantined) == (0, 0, 0)
            assert read_slices(site.home, snapshot) == [[], [], []]
            assert read_quarantine(site.home, snapshot) == []
            assert snapshot.reject_ratio == 0.0

    def test_empty_slices_have_the_columns_of_full_ones(self, sources: Path, site: Site) -> None:
        write(sources, row("a"), row("a"))
        snapshot = stage(sources, site_at(site.home, 5))
        folder = site.home.snapshot("product", snapshot.folder)
        with duckdb.connect() as connection:
            shapes = {
                str(connection.execute(f"DESCRIBE SELECT * FROM '{folder}/{part.shard_id}.parquet'").fetchall())
                for part in snapshot.slices
            }
        assert len(shapes) == 1
        for column in PRODUCT.columns:
            assert f"('{column.name}', '{column.type.duckdb}'" in next(iter(shapes))

    def test_the_order_of_rows_does_not_change_a_content_hash(self, sources: Path, site: Site) -> None:
        """Fails: an export in another order makes every shard stale."""
        rows = [row(f"c{number}", usage_pct=str(number)) for number in range(20)]
        write(sources, *rows)
        before = stage(sources, site)
        write(sources, *reversed(rows))
        after = stage(sources, site)
        assert before.id != after.id
        assert before.slices == after.slices

    def test_any_changed_value_changes_the_content_hash_of_its_slice_alone(self, sources: Path, site: Site) -> None:
        rows = [row(f"c{number}") for number in range(20)]
        write(sources, *rows)
        before = stage(sources, site)
        for change in ({"usage_pct": "66"}, {"usage_pct": ""}, {"email": ""}, {"last_active": "2026-06-02"}):
            write(sources, *rows[:-1], {**rows[-1], **change})
            after = stage(sources, site)
            changed = [old.shard_id for old, new in zip(before.slices, after.slices, strict=True) if old != new]
            assert changed == [routing.shard_key(routing.route("c19", 3), 3)]


@pytest.mark.parametrize(
    "cells",
    [
        "c1,e@x,Acme, Inc,,,,,,",
        'c1,e@x,"Acme",Inc,,,,,,""',
        "c1,e@x,Acme,Inc,1,a,1,b,2026-01-01,,",
        'c1,"a,b",,,,,,,,""',
    ],
)
def test_an_unquoted_comma_that_leaves_empty_cells_behind_the_last_column_is_damage(
    sources: Path, site: Site, cells: str
) -> None:
    """Fails: every cell behind the comma is silently taken for its neighbour's value."""
    crm = PROJECT.contract.source("crm")
    sound = 'c2,e@x,"Acme, Inc",,,,,,'
    (sources / "crm.csv").write_text("\n".join([",".join(crm.required), cells, sound, ""]))
    snapshot = stage_source(crm, staging_request(sources, site))[0]
    assert [found["raw_text"] for found in read_quarantine(site.home, snapshot)] == [cells]
    assert snapshot.reasons == {"malformed_row": 1}
    assert accepted(site, snapshot)["c2"]["company_name"] == "Acme, Inc"


def test_a_gzip_file_padded_with_zeros_is_read_to_its_end(sources: Path, site: Site) -> None:
    path = write(sources, row("a"), row("b"))
    (sources / "product.csv.gz").write_bytes(gzip.compress(path.read_bytes()) + bytes(100))
    path.unlink()
    assert sorted(accepted(site, stage(sources, site))) == ["a", "b"]


def test_hidden_files_in_a_source_folder_are_not_exports(sources: Path, site: Site) -> None:
    write(sources, row("a"), name="product/part.csv")
    (sources / "product" / "._part.csv").write_bytes(b"\0\1")
    assert stage(sources, site).files == ("product/part.csv",)
