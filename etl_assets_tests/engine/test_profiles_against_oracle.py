"""The published warehouse, field by field, against an oracle that shares no code with the engine."""

import gzip
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets_tests import factory, oracle

_SHARDS = 3


def _published_profiles(home: Home) -> dict[str, oracle.Record]:
    columns = [row[0] for row in factory.query(home.warehouse, "DESCRIBE merged_profiles")]
    rows = factory.query(home.warehouse, "SELECT * FROM merged_profiles")
    profiles = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert len(profiles) == len(rows), "a customer stands in the result twice"
    return profiles


def _published_quarantine(home: Home) -> list[oracle.Rejected]:
    columns = ", ".join(oracle.Rejected._fields)
    return sorted(oracle.Rejected(*row) for row in factory.query(home.warehouse, f"SELECT {columns} FROM quarantine"))


def _published_accounts(home: Home) -> dict[str, oracle.Account]:
    rows = factory.query(
        home.warehouse, "SELECT source, files, rows_in, rows_accepted, rows_quarantined FROM source_snapshots"
    )
    return {source: oracle.Account(*account) for source, *account in rows}


def _assert_published_as_expected(sources: Path, home: Home, shard_count: int = _SHARDS) -> oracle.Expected:
    """Run the engine and compare profiles, quarantine and accounts with the oracle, one by one."""
    factory.run_engine(sources, factory.site_at(home, shard_count))
    expected = oracle.expect(sources, shard_count)
    published = _published_profiles(home)
    assert published.keys() == expected.profiles.keys()
    for customer_id, profile in expected.profiles.items():
        assert published[customer_id] == profile
    assert _published_quarantine(home) == expected.quarantine
    assert _published_accounts(home) == expected.accounts
    return expected


def _split_into_folder(sources: Path, name: str, parts: int) -> None:
    """Turn `<name>.csv` into a folder of files with its header each, cut at ends of lines that end no open quote."""
    path = sources / f"{name}.csv"
    header, *lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    path.unlink()
    folder = sources / name
    folder.mkdir()
    size = len(lines) // parts + 1
    for part in range(parts):
        (folder / f"part_{part}.csv").write_bytes(header + b"".join(lines[part * size : (part + 1) * size]))


@pytest.mark.parametrize("seed", [7, 2026])
def test_every_field_of_dirty_csv_exports_is_published_as_the_contract_says(
    sources: Path, home: Home, seed: int
) -> None:
    factory.generate_sample(sources, rows=5_000, seed=seed, dirty=0.1)
    expected = _assert_published_as_expected(sources, home)
    assert len(expected.profiles) > 4_900
    assert len({row.reason for row in expected.quarantine}) > 10


def test_every_field_of_dirty_gzip_exports_is_published_as_the_contract_says(sources: Path, home: Home) -> None:
    factory.generate_sample(sources, rows=3_000, seed=11, dirty=0.1, file_format="csv.gz")
    assert len(_assert_published_as_expected(sources, home).profiles) > 2_900


def test_every_field_of_folders_of_dirty_files_is_published_as_the_contract_says(sources: Path, home: Home) -> None:
    """A record cut in two at the end of a file is damage in both files, and never runs on into the next one."""
    factory.generate_sample(sources, rows=3_000, seed=13, dirty=0.1)
    for name, parts in (("crm", 3), ("billing", 2), ("support", 4)):
        _split_into_folder(sources, name, parts)
    expected = _assert_published_as_expected(sources, home, shard_count=5)
    assert expected.accounts["support"].files == [f"support/part_{part}.csv" for part in range(4)]


def test_profiles_of_clean_parquet_equal_those_of_clean_csv(tmp_path: Path) -> None:
    """Who moves from CSV to Parquet must not see one key or score change."""
    published = {}
    for file_format in ("csv", "parquet"):
        sources, home = tmp_path / file_format, Home(tmp_path / f"home_{file_format}")
        factory.generate_sample(sources, rows=1_500, seed=5, file_format=file_format)
        merged = factory.run_engine(sources, factory.site_at(home, _SHARDS))
        published[file_format] = (_published_profiles(home), merged.publication.digest)
        assert merged.quarantined_count == 0
    assert published["parquet"] == published["csv"]
    assert len(published["csv"][0]) == 1_500


# Exports by hand: what people, spreadsheets and exporters do, and what the sample data does not hold.

_LONGEST_ID = "é" * 128
_CRM_A = (
    "\ufeff CRM_Note ,Deal_Value,CUSTOMER_ID,email,company_name,industry,employee_count,deal_stage,sales_owner,"
    "last_contact\r\n"
    'x,100000.00000,plain,ada@a.example,"Alpine, ""Labs""",Software,12,Enterprise,Alice,2024-02-29\r\n'
    "x,.5,  padded\t,,null,NULL,+5,closed won,Bob,2024-02-29T00:00:00Z\r\n"
    'x,-0,"quoted\nid",e@x.example,"two\r\nlines",\'single\',007,ENTERPRISE,"",0001-01-01\r\n'
    "\r\n"
    'x,-0.0,o\'brien:"colon",,,,,,,\r\n'
    "x,12.345,no_cents,,,,,,,\r\nx,1e5,exponent,,,,,,,\r\nx,9999999999999999.99,most,,,,,,,\r\nx,10000000000000000,more,,,,,,,\r\n"
    f"x,1e400,too_big,,,,,,,\r\nx,nan,not_a_number,,,,,,,\r\nx,1_000,grouped,,,,,,,\r\nx,5.,{_LONGEST_ID},,,,,,,\r\n"
    f"x,1,{_LONGEST_ID}é,,,,,,,\r\nx,0x10,hex,,,,,,,\r\nx,1,   ,,,,,,,\r\n"
    "x,1,superseded_here,old@x.example,,,,,,\r\nx,2,superseded_there,old@x.example,,,,,,\r\n"
    "x,3,superseded_by_a_bad_row,kept@x.example,,,,,,\r\n"
    "x,4,superseded_here,new@x.example,,,,,,\r\nx,bad,superseded_by_a_bad_row,lost@x.example,,,,,,"
).encode()
_CRM_B = (
    b"customer_id,email,company_name,industry,employee_count,deal_stage,deal_value,sales_owner,last_contact\n"
    b"superseded_there,new@x.example,,,,,,,\n"
    b"feb_30,,,,,,,,2023-02-30\nnoon,,,,,,,,2024-02-29 12:00\nzoned,,,,,,,,2024-02-29 00:00:00.00+00:00\n"
    b"zoned_elsewhere,,,,,,,,2024-02-29T00:00:00+02:00\nyear_0,,,,,,,,0000-01-01\nlast_day,,,,,,,,9999-12-31\n"
    b"max_int,,,,9223372036854775807,,,,\nover_int,,,,9223372036854775808,,,,\nmin_int,,,,-9223372036854775808,,,,\n"
    b"pointed,,,,12.,,,,\npointed_zeros,,,,12.000,,,,\nrounded,,,,12.5,,,,\nspaced_int,,,, 42\t,,,,\n"
    b"superscript,,,,\xc2\xb2,,,,\n"
    b"   \n\n,,,,,,,,\n,,,,,,,\n,,,,,,,,,x\n,,,,,,,,,\n"
    b'shifted,e@x.example,Alpine, Inc.,,,,,,\nsurplus,,,,,,,,,"",,\n'
    b'open,"never closed,,,,,,,\nafter_open,a@x.example,,,,,,,\n'
    b'tail,"closed"x,,,,,,,\ninner,in"ner,,,,,,,\nlone\rcr,,,,,,,,\n'
    b'blank "then" quote, "a, b",,,,,,,\n "blank first", "two\nlines",,,,,,,\nblank and no end, ",,,,,,,\n'
    b"nul\0,,,,,,,,\nlatin1,\xe9,,,,,,,\n"
    b"surrogate,\xed\xa0\x80,,,,,,,\noverlong,\xc0\xaf,,,,,,,\ntruncated,\xf0\x9f\x9a,,,,,,,\n"
    b'all_quoted,"","","","","","","",""\n"doubled ""id""",,,,,,,,\n#comment,,,,,,,,\n\\N,\\N,,,,,,,\n'
    b"0.1,,,,,,0.1,,\n1e22,,,,,,1e22,,\ntiny,,,,,,5e-324,,\nlargest,,,,,,1.7976931348623157e308,,\nlong_zeros,,,,,,"
    + b"0"
    * 400
    + b"1,,\n\xf0\x9f\x9a\x80 \xe6\x9d\xb1\xe4\xba\xac,\xc3\xa9@x.example,bell\x07 tab\t vt\x0b us\x1f del\x7f \\ /,"
    b"\xc2\xa0,,,,\xe2\x80\xa8,\n"
)
_BILLING = (
    b"customer_id,email,plan,mrr,payment_status,subscription_start,last_payment\n"
    b"plain,billing@a.example, Starter ,29,Past Due,2025-01-31,2026-05-31\n"
    b"padded,billing@b.example,PROFESSIONAL,29.990,past-due,2025-01-31,\nPLAIN,,free,0,PAST_DUE,,\n"
    b"only billing,,basic,1e-7,FAILED,,\n0.1,,enterprise,0.30000000000000004,failed ,,\n"
    b"1e22,,,1,active\n\n\n\n1e22,,,1,active,,\n"
)
_PRODUCT = (
    b"customer_id,email,signup_date,last_active,total_sessions,features_used,usage_pct,account_status\n"
    b"plain,product@a.example,2025-01-01,2026-06-01,40,7,100,active\n"
    b"padded,,,,,,0,\no'brien:,,,,,,30,\nunder,,,,,,-1,\nover,,,,,,101,\n"
    b"\xf0\x9f\x9a\x80 \xe6\x9d\xb1\xe4\xba\xac,,,,,,79,\n"
    b"only product,product@p.example,,,,,80.0,\n0.1,,,,-5,-6,29,\n"
)
_SUPPORT = (
    b"customer_id,email,total_tickets,open_tickets,avg_resolution_hrs,last_ticket_date,nps_score,csat_score\n"
    b"plain,,3,0,4.5,2026-04-30,10,5\npadded,,3,4,4.5,,0,1.0\nnps_11,,,,,,11,\nnps_minus,,,,,,-1,\nnps_half,,,,,,9.5,\n"
    b"f1,,,,1e5,,,\nf2,,,,0.1,,,\nf3,,,,1e22,,,\nf4,,,,5e-324,,,\nf5,,,,1.7976931348623157e308,,,\nf6,,,,1e400,,,\n"
    b"f7,,,,0.30000000000000004,,,\nf8,,,,-0.0,,,\nf9,,,,.5,,,\nf10,,,,5.,,,\nf11,,,,nan,,,\nf12,,,,1_000,,,\nf13,,,,0x10,,,\n"
    b"csat_low,,,,,,,0.999\ncsat_high,,,,,,,5.0001\nonly support,s@s.example,,,,,7,1\n0.1,z@z.example,,,,,6,4.999\n"
)


def test_exports_full_of_oddities_are_published_as_the_contract_says(sources: Path, home: Home) -> None:
    (sources / "crm").mkdir()
    (sources / "crm" / "a.csv").write_bytes(_CRM_A)
    (sources / "crm" / "b.csv").write_bytes(_CRM_B)
    (sources / "crm" / "._a.csv").write_bytes(b"a hidden file is none of the exports")
    (sources / "billing.csv.gz").write_bytes(gzip.compress(_BILLING))
    (sources / "product.csv").write_bytes(_PRODUCT)
    (sources / "support.csv").write_bytes(_SUPPORT)

    profiles = _assert_published_as_expected(sources, home).profiles

    # The oracle itself, held against a few facts that can be seen above.
    assert profiles["plain"]["email"] == "ada@a.example"
    assert profiles["padded"]["email"] == "billing@b.example"
    # The text `null` is a word for it.
    assert profiles["padded"]["company_name"] is None
    assert profiles["superseded_there"]["email"] == "new@x.example"
    assert profiles["superseded_by_a_bad_row"]["email"] == "kept@x.example"
    assert profiles["quoted\nid"]["company_name"] == "two\r\nlines"
    assert profiles["quoted\nid"]["employee_count"] == 7
    assert profiles["only product"]["sources"] == ["product"]
    assert _LONGEST_ID in profiles
    assert f"{_LONGEST_ID}é" not in profiles
    assert profiles["inner"]["email"] == 'in"ner'
    assert not {"open", "tail", "latin1", "lone\rcr", "over_int", "rounded", "feb_30"} & profiles.keys()


@pytest.mark.parametrize(
    "field",
    [' "never closed', ' "', ' "closed" and more', '   "",\n""', '  "two\nlines"'],
)
def test_a_blank_before_a_quote_costs_no_other_row(sources: Path, home: Home, field: str) -> None:
    """Exporters that put a blank after the comma are common; one such row must not stop the whole source."""
    factory.write_exports(sources, crm=[factory.row("before"), factory.row("odd"), factory.row("after")])
    path = sources / "crm.csv"
    path.write_text(path.read_text().replace("odd,ada@alpine.example", f"odd,{field}"))
    expected = _assert_published_as_expected(sources, home)
    assert {"before", "after"} <= expected.profiles.keys()
