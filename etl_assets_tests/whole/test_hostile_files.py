"""Dirt as an attack: exports made to read other files, to fill the memory or the disk, or to become SQL."""

import contextlib
import gzip
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, literal
from etl_assets.engine.steps.stage import stage
from etl_assets.errors import Action, InputError
from etl_assets.project.settings import Settings
from etl_assets_tests import factory
from etl_assets_tests.factory import PROJECT
from etl_assets_tests.whole import children

CRM = PROJECT.contract.source("crm")
HEADER = ",".join(CRM.required)
# A child with 256 MB for DuckDB, Python and its libraries included.
PEAK_MB = 700
# A file that DuckDB has no part in.
SCAN_PEAK_MB = 300


def _stage(sources: Path, site: Site) -> Snapshot:
    return stage(CRM, factory.staging_request(sources, site))[0]


def _write(path: Path, *customer_ids: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [HEADER, *(factory.csv_line(CRM, customer_id) for customer_id in customer_ids)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")


def _write_parquet(path: Path, an_id: str, **expressions: str) -> None:
    """One sound row; `expressions` are SQL of further or other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = {name: literal(value) for name, value in factory.row(an_id).items() if name in CRM.required}
    columns = ", ".join(f"{value} AS {identifier(name)}" for name, value in (cells | expressions).items())
    # Not to its own name at once: COPY takes no name that looks like a pattern.
    plain = path.with_name("written.tmp")
    with contextlib.closing(duckdb.connect()) as connection:
        connection.execute(f"COPY (SELECT {columns}) TO {literal(str(plain))} (FORMAT parquet)")
    plain.rename(path)


def _accepted(home: Home, snapshot: Snapshot) -> list[str]:
    return sorted(row["customer_id"] for rows in factory.read_slices(home, snapshot) for row in rows)


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["*", "[ab]", "?", "**", "[!x]", "a[", "[]]", "'); DROP TABLE x; --", "a\nb", "{a,b}"])
def test_a_file_whose_name_is_a_pattern_or_sql_is_read_itself_and_nothing_else(
    sources: Path, home: Home, site: Site, name: str, form: str
) -> None:
    """A file named [ab].csv was read as a.csv and b.csv: its own customers were lost, theirs counted twice."""
    write = _write if form == "csv" else _write_parquet
    for neighbour, customer_id in (("a", "of a"), ("b", "of b"), (name, "its own")):
        write(sources / "crm" / f"{neighbour}.{form}", customer_id)
    snapshot = _stage(sources, site)
    assert _accepted(home, snapshot) == ["its own", "of a", "of b"]
    assert snapshot.rows_quarantined == 0


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_folders_whose_names_are_patterns_do_not_reach_their_neighbours(tmp_path: Path, form: str) -> None:
    """ETL_SOURCES=exports[1] read the files of exports1, and ETL_HOME=home[1] refused to work beside home1."""
    for name, customer_id in (("1", "other"), ("[1]", "mine")):
        folder, home = tmp_path / f"exports{name}", Home(tmp_path / f"home{name}")
        factory.write_exports(folder)
        (folder / "crm.csv").unlink()
        (_write if form == "csv" else _write_parquet)(folder / f"crm.{form}", customer_id)
        merged = factory.run_engine(folder, factory.site_at(home, 2))
        assert merged.publication.record_count == 1
        assert factory.query(home.warehouse, "SELECT customer_id FROM merged_profiles") == [(customer_id,)]


def test_a_file_name_that_is_not_text_is_refused_and_named(sources: Path, site: Site) -> None:
    """It ended in a UnicodeEncodeError, which is shown as a defect of the program and retried in vain."""
    _write(sources / "crm" / "a.csv", "x")
    os.rename(os.fsencode(sources / "crm" / "a.csv"), os.fsencode(sources / "crm") + b"/\xff\xfe.csv")
    with pytest.raises(InputError, match=r"\\xff\\xfe\.csv' is not UTF-8 text"):
        _stage(sources, site)


def _link_to_secret(sources: Path) -> None:
    secret = sources.parent / "secret.csv"
    _write(secret, "secret")
    (sources / "crm.csv").symlink_to(secret)


def _link_by_way_of_a_link(sources: Path) -> None:
    _link_to_secret(sources)
    (sources / "crm.csv").rename(sources / "inner.csv")
    (sources / "crm.csv").symlink_to("inner.csv")


def _link_with_dots(sources: Path) -> None:
    _write(sources.parent / "secret.csv", "secret")
    (sources / "crm").mkdir()
    (sources / "crm" / "a.csv").symlink_to("../../secret.csv")


def _linked_folder(sources: Path) -> None:
    _write(sources.parent / "elsewhere" / "a.csv", "secret")
    (sources / "crm").symlink_to(sources.parent / "elsewhere")


def _endless_device(sources: Path) -> None:
    (sources / "crm.csv").symlink_to("/dev/zero")


def _pipe_without_a_writer(sources: Path) -> None:
    os.mkfifo(sources / "crm.csv")


def _link_to_itself(sources: Path) -> None:
    (sources / "crm.csv").symlink_to("crm.csv")


@pytest.mark.parametrize(
    "lay",
    [
        _link_to_secret,
        _link_by_way_of_a_link,
        _link_with_dots,
        _linked_folder,
        _endless_device,
        _pipe_without_a_writer,
        _link_to_itself,
    ],
)
def test_links_devices_and_pipes_are_not_read(sources: Path, home: Home, lay: Callable[[Path], None]) -> None:
    """A person who may drop a file could read any other file of the server, or stop the pipeline for ever."""
    lay(sources)
    outcome = children.measured("stage", children.environment(sources, home.root), timeout_s=60)
    assert outcome.error is not None
    assert outcome.error["kind"] == "input"
    assert "secret," not in outcome.error["finding"]
    assert list(children.files_under(home.root)) == []


@pytest.mark.parametrize("customer_id", ["../../../etc/passwd", "/etc/passwd", "..", "%2e%2e%2f", "a/b\\c"])
def test_an_id_that_is_a_path_makes_no_file(sources: Path, home: Home, site: Site, customer_id: str) -> None:
    _write(sources / "crm.csv", customer_id)
    snapshot = _stage(sources, site)
    assert _accepted(home, snapshot) == [customer_id]
    expected = {"shard_00.parquet", "shard_01.parquet", "shard_02.parquet", "quarantine.parquet", "snapshot.json"}
    expected |= {"rejected_keys.parquet", "current.json"}
    assert {path.name for path in children.files_under(home.root)} == expected


_CELLS = [
    "'; DROP TABLE merged_profiles; --",
    "x' OR '1'='1",
    "\"; ATTACH '/tmp/x.duckdb'; --",
    '=HYPERLINK("http://evil.example","click")',
    "=cmd|'/c calc'!A0",
    "@SUM(1+1)",
    "+1-1",
    "{source_encoding} {shard_id}",
    "%s %d ${HOME} $1 ?",
    "<script>alert(1)</script>",
    "\u202egpj.exe",
    "\x1b[2J\x07",
    "'NULL'",
]


def test_cells_and_ids_that_are_sql_formulas_or_markup_are_data_byte_for_byte(
    sources: Path, home: Home, site: Site
) -> None:
    """A cell that becomes part of a statement rewrites the warehouse; a corrected one is not what was exported."""
    rows = [factory.row(cell, company_name=cell, email=cell, sales_owner=cell) for cell in _CELLS]
    factory.write_exports(sources, crm=rows, billing=rows, product=rows, support=[*rows, *rows])
    factory.run_engine(sources, site)
    found = factory.query(
        home.warehouse, "SELECT customer_id, company_name, email, sales_owner FROM merged_profiles ORDER BY customer_id"
    )
    assert found == sorted((cell, cell, cell, cell) for cell in _CELLS)
    tables = {row[0] for row in factory.query(home.warehouse, "SHOW TABLES")}
    assert tables >= {"merged_profiles", "shard_manifest", "shard_attempts", "quarantine", "source_snapshots"}


def test_parquet_columns_with_hostile_names_and_types_are_rejected_row_by_row(
    sources: Path, home: Home, site: Site
) -> None:
    _write_parquet(
        sources / "crm.parquet",
        "",
        row="{'file_row_number': 9}",
        **{'a"; DROP TABLE rejected; --': "1", "c0": "[1, NULL]", "filename": "'x'::BLOB", "reason": "map {'a': 1}"},
    )
    snapshot = _stage(sources, site)
    assert (snapshot.rows_in, snapshot.reasons) == (1, {"missing_customer_id": 1})
    (rejected,) = factory.read_quarantine(home, snapshot)
    assert rejected["line_number"] == 1
    assert 'a\\"; DROP TABLE rejected; --' in rejected["raw_text"]


def test_a_nul_in_an_id_of_a_parquet_file_does_not_cut_the_id(sources: Path, home: Home, site: Site) -> None:
    """Two ids that differ after a NUL would become one customer."""
    _write_parquet(sources / "crm" / "a.parquet", "", customer_id="'a' || chr(0) || 'b'")
    _write_parquet(sources / "crm" / "b.parquet", "", customer_id="'a' || chr(0) || 'c'")
    assert _accepted(home, _stage(sources, site)) == ["a\0b", "a\0c"]


@pytest.mark.parametrize(
    "content",
    [
        HEADER.encode("utf-16-le"),
        HEADER.encode("utf-16"),
        HEADER.encode("utf-32"),
        b"\0" * 5_000_000,
        b"\n" * 100,
        b'"' * 3_000_000,
        b"," * 3_000_000,
        b"\xff\xfe\xfd" * 1000,
        b"\x1f\x8b" + b"\0" * 50,
        b"PAR1" + b"\xff" * 50 + b"PAR1",
        b"<!DOCTYPE html><html></html>\n",
    ],
    ids=["utf-16-le", "utf-16", "utf-32", "nuls", "newlines", "quotes", "commas", "binary", "gzip", "parquet", "html"],
)
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_file_that_is_something_else_is_refused_with_a_short_message(
    sources: Path, home: Home, site: Site, content: bytes, suffix: str
) -> None:
    (sources / f"crm.{suffix}").write_bytes(content)
    with pytest.raises(InputError) as refused:
        _stage(sources, site)
    assert f"crm.{suffix}" in str(refused.value)
    assert len(str(refused.value)) < 2_000
    assert list(children.files_under(home.root)) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nul\0" + factory.csv_line(CRM, "x").encode(), "malformed_row"),
        (factory.csv_line(CRM, "Jos\xe9").encode("latin-1"), "not_utf8"),
        (factory.csv_line(CRM, "x", company_name="\ud800").encode("utf-8", "surrogatepass"), "not_utf8"),
        (b"\xc0\xaf" + factory.csv_line(CRM, "x").encode(), "not_utf8"),
        (b'"' + factory.csv_line(CRM, "x").encode(), "malformed_row"),
        (b"," * 2_000_000, "malformed_row"),
        (factory.csv_line(CRM, "x" * 200).encode(), "invalid:customer_id"),
        (factory.csv_line(CRM, "x", employee_count="9" * 400).encode(), "invalid:employee_count"),
        (factory.csv_line(CRM, "x", deal_value="1e999999999").encode(), "invalid:deal_value"),
        (factory.csv_line(CRM, "x", last_contact="99999999-01-01").encode(), "invalid:last_contact"),
    ],
)
def test_one_hostile_line_costs_itself_and_not_its_neighbours(
    sources: Path, home: Home, site: Site, line: bytes, reason: str
) -> None:
    before, after = factory.csv_line(CRM, "before").encode(), factory.csv_line(CRM, "after").encode()
    (sources / "crm.csv").write_bytes(b"\n".join([HEADER.encode(), before, line, after]) + b"\n")
    snapshot = _stage(sources, site)
    assert _accepted(home, snapshot) == ["after", "before"]
    assert (snapshot.rows_in, snapshot.reasons) == (3, {reason: 1})


@pytest.mark.parametrize("form", ["csv", "csv.gz"])
def test_a_column_of_another_type_half_way_costs_exactly_those_rows(sources: Path, site: Site, form: str) -> None:
    """A type guessed from the first rows makes the later ones null, wrong, or the whole file unreadable."""
    row_count = 60_000
    lines = [HEADER]
    for number in range(row_count):
        value = str(number) if number < row_count // 2 else f"about {number}"
        lines.append(factory.csv_line(CRM, f"cust_{number}", employee_count=value))
    content = ("\n".join(lines) + "\n").encode()
    (sources / f"crm.{form}").write_bytes(content if form == "csv" else gzip.compress(content, 1))
    snapshot = _stage(sources, site)
    assert snapshot.rows_accepted == row_count // 2
    assert snapshot.reasons == {"invalid:employee_count": row_count // 2}


def test_a_parquet_column_of_another_type_in_the_next_file_is_read_or_refused_by_name(
    sources: Path, home: Home, site: Site
) -> None:
    """Fails: a structure is taken for its text, or a number of another type for a bad cell."""
    _write_parquet(sources / "crm" / "a.parquet", "a", employee_count="7::INTEGER")
    _write_parquet(sources / "crm" / "c.parquet", "c", employee_count="7.0::DOUBLE")
    assert _accepted(home, _stage(sources, site)) == ["a", "c"]
    _write_parquet(sources / "crm" / "b.parquet", "b", employee_count="{'n': 7}")
    with pytest.raises(InputError, match=r"crm/b\.parquet: column 'employee_count' is of type STRUCT"):
        _stage(sources, site)


def test_messages_about_hostile_names_do_not_command_the_terminal(sources: Path, home: Home) -> None:
    """A header could clear the screen, rename the window or type into the shell of the person who reads the error."""
    factory.write_exports(sources)
    (sources / "crm.csv").write_text("\x1b]0;owned\x07,\x1b[2J,\u202e\n", encoding="utf-8")
    env = children.environment(sources, home.root, DAGSTER_HOME=str(home.root / "dagster"))
    done = subprocess.run(
        [sys.executable, "-m", "etl_assets.cli.main", "run"], env=env, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert rb"\x1b]0;owned\x07" in done.stderr
    assert b"\x1b" not in done.stderr + done.stdout
    assert "\u202e".encode() not in done.stderr + done.stdout


def _fill(path: Path, parts: Sequence[tuple[bytes, int]]) -> int:
    """Write each part so many times, packed where the name says so; returns the unpacked size in bytes."""
    with path.open("wb") as stream:
        for part, times in parts:
            # Packed files may be glued together: a large bomb is made as fast as its packed bytes are written.
            written = gzip.compress(part, 9) if path.name.endswith(".gz") else part
            for _ in range(times):
                stream.write(written)
    return sum(len(part) * times for part, times in parts)


def _sound(customer_id: str) -> bytes:
    return factory.csv_line(CRM, customer_id).encode() + b"\n"


_MEGABYTE = 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "open quote", "commas"])
def test_a_line_of_a_gigabyte_is_one_rejected_row_in_bounded_memory(sources: Path, home: Home, kind: str) -> None:
    """One export without line ends would end the process for want of memory, and the whole run with it."""
    block = (b"," if kind == "commas" else b"a") * _MEGABYTE
    start = b'"' if kind == "open quote" else b""
    size_mb = 1024 if children.IS_FULL_SIZE else 50
    _fill(
        sources / "crm.csv",
        [(HEADER.encode() + b"\n" + _sound("before") + start, 1), (block, size_mb), (b"\n" + _sound("after"), 1)],
    )
    outcome = children.measured("stage", children.environment(sources, home.root), timeout_s=300)
    assert outcome.snapshot is not None, outcome.error
    assert (outcome.snapshot["rows_in"], outcome.snapshot["rows_accepted"]) == (3, 2)
    assert outcome.snapshot["reasons"] == {"malformed_row": 1}
    assert outcome.peak_mb < SCAN_PEAK_MB
    # Quarantine keeps the start of such a line, not all of it.
    assert sum(path.stat().st_size for path in children.files_under(home.root)) < 2 * _MEGABYTE


@pytest.mark.parametrize("kind", ["header without end", "half a million columns"])
def test_a_hostile_header_costs_its_file_and_bounded_memory(sources: Path, home: Home, kind: str) -> None:
    if kind == "header without end":
        _fill(sources / "crm.csv", [(b"a" * _MEGABYTE, 50)])
    else:
        _fill(sources / "crm.csv", [(HEADER.encode() + b",a" * 500_000 + b"\n" + _sound("x"), 1)])
    outcome = children.measured("stage", children.environment(sources, home.root), timeout_s=120)
    if kind == "header without end":
        assert outcome.error is not None
        assert outcome.error["kind"] == "input"
        assert outcome.error["finding"].startswith("The header of crm.csv is not a sound CSV line")
    else:
        # DuckDB takes no row of so many cells.
        assert outcome.snapshot is not None, outcome.error
        assert (outcome.snapshot["rows_in"], outcome.snapshot["reasons"]) == (1, {"malformed_row": 1})
    assert outcome.peak_mb < PEAK_MB


@pytest.mark.slow
def test_a_zip_bomb_of_one_row_is_refused_before_it_reaches_the_disk(sources: Path, home: Home) -> None:
    """A file of some MB would fill the disk with its unpacked copy, and stop every other program of the machine."""
    row = _sound("bomb")
    block = row * (10 * _MEGABYTE // len(row))
    size = 2048 if children.IS_FULL_SIZE else 20
    unpacked = _fill(sources / "crm.csv.gz", [(HEADER.encode() + b"\n", 1), (block, size)])
    assert unpacked > 500 * (sources / "crm.csv.gz").stat().st_size / 10
    # At full size it is the default limit that holds.
    limits = {} if children.IS_FULL_SIZE else {"ETL_MAX_UNPACKED": "100MB"}
    outcome = children.measured("stage", children.environment(sources, home.root, **limits), timeout_s=600)
    assert outcome.error is not None
    limit_mb = Settings.model_fields["max_unpacked"].default if children.IS_FULL_SIZE else 100
    assert f"unpacks to more than the {limit_mb} MB that are allowed" in outcome.error["finding"]
    (advice,) = [one for one in outcome.error["advice"] if one["action"] == Action.SET]
    assert (advice["setting"], advice["value"]) == ("ETL_MAX_UNPACKED", f"{2 * limit_mb}MB")
    assert outcome.peak_mb < SCAN_PEAK_MB
    # What was refused, and why.
    assert [path.name for path in children.files_under(home.root)] == ["refused.json"]


@pytest.mark.slow
def test_a_zip_bomb_of_one_endless_line_takes_time_but_neither_memory_nor_disk(sources: Path, home: Home) -> None:
    size = 500 if children.IS_FULL_SIZE else 10
    _fill(
        sources / "crm.csv.gz",
        [
            (HEADER.encode() + b"\n" + _sound("before"), 1),
            (b"a" * (10 * _MEGABYTE), size),
            (b"\n" + _sound("after"), 1),
        ],
    )
    outcome = children.measured("stage", children.environment(sources, home.root), timeout_s=900)
    assert outcome.snapshot is not None, outcome.error
    assert (outcome.snapshot["rows_accepted"], outcome.snapshot["reasons"]) == (2, {"malformed_row": 1})
    assert outcome.peak_mb < SCAN_PEAK_MB
    assert sum(path.stat().st_size for path in children.files_under(home.root)) < 2 * _MEGABYTE


@pytest.mark.slow
def test_millions_of_duplicates_of_one_id_leave_one_customer_in_bounded_memory(sources: Path, home: Home) -> None:
    """Every duplicate is quarantined with its line; keeping track of ten million of them took gigabytes."""
    row_count = 10_000_000 if children.IS_FULL_SIZE else 250_000
    factory.write_exports(sources)
    _fill(
        sources / "crm.csv",
        [(HEADER.encode() + b"\n", 1), (_sound("twin") * 10_000, row_count // 10_000), (_sound("other"), 1)],
    )
    # Without this, so many rows of one key are refused.
    settings = children.environment(sources, home.root, ETL_MAX_SUPERSEDED_RATIO="1")
    outcome = children.measured("all", settings, timeout_s=900)
    assert outcome.snapshot is not None, outcome.error
    assert outcome.snapshot["rows_accepted"] == 2
    assert outcome.snapshot["reasons"] == {"superseded": row_count - 1}
    assert factory.query(home.warehouse, "SELECT customer_id FROM merged_profiles ORDER BY ALL") == [
        ("other",),
        ("twin",),
    ]
    (lines,) = factory.query(home.warehouse, "SELECT count(DISTINCT line_number), max(line_number) FROM quarantine")
    assert lines == (row_count - 1, row_count)
    assert outcome.peak_mb < PEAK_MB
