"""Sample exports: the same for everybody, clean when asked, dirty in every way the contract knows."""

import contextlib
import csv
import gzip
import hashlib
import io
from collections import Counter
from pathlib import Path
from statistics import mean

import duckdb
import pytest

from etl_assets.project.contract import SOURCES, Column, ColumnType, Source
from etl_assets.samples import customer360 as sample_data
from etl_assets_tests import oracle

_NAMES = [source.name for source in SOURCES]
# SHA-256 of the CSV files of 300 rows, seed 42: another machine, day or DuckDB must write the same bytes.
_GOLDEN = {
    0.0: {
        "crm": "1a4d49c8ce8fc2589b7053eb6f057f569dc1aa9d94a4fa4dbf10149c950b0a8d",
        "billing": "d83978138641ace050189a3b2b4d798ecc1adbabf4fbd26ffae0a94e998b57c9",
        "product": "5fa309c98d6a862f86add2aa89efd22f7a9bb12a3005cb0f7ca0dc5e88fab58a",
        "support": "e880fd48ea491a3c62a24d8d520286d9b8b9e737784f5aa74ad302db83c2e52b",
    },
    0.2: {
        "crm": "76990c7e3fa2d7237f8bb321aa554434ac3ab2c9d01821f568d96e4783c25afe",
        "billing": "519cdcd25bb83e67c97c79eb60f1141a071e46f81b63eb1f48681148bd35b69f",
        "product": "e8837c541ab48968e8da55d31f8c6280eea7f3989cc585f8081757644258e998",
        "support": "76373f5fbec18453440b35e4d8efdcfb766bde8c38648626dc96ed195f54f89d",
    },
}
# Reasons every source shows; each shows some `invalid:<column>` as well.
_REASONS = {"missing_customer_id", "superseded", "malformed_row", "invalid:customer_id"}
_INVALID = {
    "crm": {"invalid:employee_count", "invalid:deal_value", "invalid:last_contact"},
    "billing": {"invalid:mrr", "invalid:subscription_start", "invalid:last_payment"},
    "product": {"invalid:total_sessions", "invalid:features_used", "invalid:usage_pct", "invalid:last_active"},
    "support": {
        *("invalid:total_tickets", "invalid:open_tickets", "invalid:last_ticket_date"),
        *("invalid:nps_score", "invalid:csat_score"),
    },
}


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("dirty", _GOLDEN)
def test_the_bytes_of_the_sample_are_pinned(tmp_path: Path, dirty: float) -> None:
    """Numbers in the documentation and in a bug report are about these rows."""
    files = sample_data.generate(tmp_path, rows=300, seed=42, dirty=dirty)
    assert [path.name for path in files] == [f"{name}.csv" for name in _NAMES]
    assert {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == _GOLDEN[dirty]


@pytest.mark.parametrize("file_format", sample_data.FORMATS)
def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, file_format: sample_data.FileFormat) -> None:
    for name in ("one", "two"):
        sample_data.generate(tmp_path / name, rows=500, seed=3, dirty=0.1, file_format=file_format)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")


def test_gzip_files_carry_no_time_and_no_name(tmp_path: Path) -> None:
    """Equal data must be an equal file whenever and wherever it was packed."""
    for path in sample_data.generate(tmp_path, rows=10, file_format="csv.gz"):
        flags_and_time = path.read_bytes()[3:8]
        assert flags_and_time == bytes(5)


@pytest.mark.parametrize("dirty", [0.0, 0.2])
def test_another_seed_gives_other_customers_in_every_file(tmp_path: Path, dirty: float) -> None:
    for seed in (1, 2):
        sample_data.generate(tmp_path / str(seed), rows=100, seed=seed, dirty=dirty)
    one, two = _contents(tmp_path / "1"), _contents(tmp_path / "2")
    assert all(one[name] != two[name] for name in one)


@pytest.mark.parametrize("dirty", [0.0, 0.1])
def test_more_rows_begin_with_the_rows_of_fewer(tmp_path: Path, dirty: float) -> None:
    """Who tries with few rows and then takes more sees the same customers again."""
    for rows in (400, 900):
        sample_data.generate(tmp_path / str(rows), rows=rows, seed=8, dirty=dirty)
    few, many = _contents(tmp_path / "400"), _contents(tmp_path / "900")
    assert all(many[name].startswith(few[name]) and len(many[name]) > len(few[name]) for name in few)


def test_clean_data_has_no_row_to_reject_and_every_customer(tmp_path: Path) -> None:
    sample_data.generate(tmp_path, rows=2_000, seed=9)
    expected = oracle.expect(tmp_path, 3)
    assert expected.quarantine == []
    assert list(expected.profiles) == [f"cust_{number:08d}" for number in range(2_000)]
    # Some customers are unknown to some systems.
    assert all(1_900 < account.rows_accepted < 2_000 for account in expected.accounts.values())
    assert not any(data.startswith(b"\xef\xbb\xbf") or b"\r" in data for data in _contents(tmp_path).values())


def test_two_percent_dirt_in_2000_rows_shows_every_kind_of_it(tmp_path: Path) -> None:
    """The sample is what people try the quarantine with: a kind that is missing looks like one that is handled."""
    sample_data.generate(tmp_path, rows=2_000, seed=42, dirty=0.02)
    expected = oracle.expect(tmp_path, 3)
    reasons = {name: {row.reason for row in expected.quarantine if row.source == name} for name in _NAMES}
    assert reasons == {name: _REASONS | _INVALID[name] for name in _NAMES}
    assert len(expected.profiles) == 2_000

    contents = {name.removesuffix(".csv"): data for name, data in _contents(tmp_path).items()}
    assert {name for name, data in contents.items() if data.startswith(b"\xef\xbb\xbf")} == {"crm", "support"}
    for data in contents.values():
        assert b"\r\n" in data
        assert b"\n\n" in data
        assert b"\0" in data
        assert b"\r" in data.replace(b"\r\n", b"")
        assert "東京 🚀".encode() in data
        with pytest.raises(UnicodeDecodeError):
            data.decode()
        assert any(is_sound and b"\n" in raw for _, raw, is_sound in oracle.physical_records(data))
        assert any(not is_sound and b',"note: ' in raw for _, raw, is_sound in oracle.physical_records(data))


@pytest.mark.parametrize("dirty", [0.02, 0.1, 0.5])
def test_about_the_asked_share_of_rows_is_dirty(tmp_path: Path, dirty: float) -> None:
    sample_data.generate(tmp_path, rows=2_000, seed=4, dirty=dirty)
    for account in oracle.expect(tmp_path, 3).accounts.values():
        assert 0.4 * dirty < account.rows_quarantined / account.rows_in < 0.8 * dirty


def test_csv_gzip_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    for file_format in sample_data.FORMATS:
        sample_data.generate(tmp_path / file_format, rows=700, seed=6, file_format=file_format)
    for source in SOURCES:
        data = (tmp_path / "csv" / f"{source.name}.csv").read_bytes()
        assert gzip.decompress((tmp_path / "csv.gz" / f"{source.name}.csv.gz").read_bytes()) == data
        rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
        with contextlib.closing(duckdb.connect()) as connection:
            path = str(tmp_path / "parquet" / f"{source.name}.parquet")
            cursor = connection.execute("SELECT COLUMNS(*)::VARCHAR FROM read_parquet(?)", [path])
            assert [column[0] for column in cursor.description or []] == rows[0]
            assert [["" if cell is None else cell for cell in row] for row in cursor.fetchall()] == rows[1:]


def test_parquet_columns_have_the_types_of_the_contract(tmp_path: Path) -> None:
    sample_data.generate(tmp_path, rows=50, file_format="parquet")
    with contextlib.closing(duckdb.connect()) as connection:
        for source in SOURCES:
            path = str(tmp_path / f"{source.name}.parquet")
            described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [path]).fetchall()
            assert [(row[0], row[1]) for row in described] == [
                ("customer_id", "VARCHAR"),
                *((column.name, column.type.value) for column in source.columns),
            ]


def test_scores_have_something_to_find(tmp_path: Path) -> None:
    """With independent random columns nobody could tell a working score from a broken one."""
    sample_data.generate(tmp_path, rows=2_000, seed=12)
    profiles = list(oracle.expect(tmp_path, 3).profiles.values())

    def mean_of(column: str, churn_risk: str) -> float:
        values = [profile[column] for profile in profiles if profile["churn_risk"] == churn_risk]
        return mean(value for value in values if isinstance(value, int | float))

    levels = Counter(profile["churn_risk"] for profile in profiles)
    assert min(levels[level] for level in ("LOW", "MEDIUM", "HIGH")) > 60
    assert len({profile["expansion_potential"] for profile in profiles}) == 3
    # Usage and tickets are in the score; sessions and satisfaction are not, and follow all the same.
    for column in ("usage_pct", "total_sessions", "csat_score", "health_score"):
        assert mean_of(column, "HIGH") < mean_of(column, "MEDIUM") < mean_of(column, "LOW")
    assert mean_of("open_tickets", "HIGH") > mean_of("open_tickets", "LOW")


# Arguments and what lies in the folder.


@pytest.mark.parametrize("rows", [0, -1, sample_data.MAX_ROWS + 1])
def test_a_number_of_rows_out_of_range_is_refused(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ValueError, match=f"rows must be from 1 to 100000000, found {rows}"):
        sample_data.generate(tmp_path / "out", rows=rows)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dirty", [-0.01, 0.51, 1.0, float("nan")])
def test_a_share_of_dirt_out_of_range_is_refused(tmp_path: Path, dirty: float) -> None:
    with pytest.raises(ValueError, match=r"dirty must be a share from 0 to 0\.5, found"):
        sample_data.generate(tmp_path / "out", rows=1, dirty=dirty)
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of csv, csv\.gz, parquet, found 'xlsx'"):
        sample_data.generate(tmp_path / "out", rows=1, file_format="xlsx")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("there", "wanted"), [("csv", "parquet"), ("parquet", "csv.gz"), ("csv.gz", "csv")])
def test_a_source_is_not_written_beside_the_same_source_in_another_format(
    tmp_path: Path, there: sample_data.FileFormat, wanted: sample_data.FileFormat
) -> None:
    """A source that is there twice stops the pipeline, and one of the two may be somebody's real export."""
    sample_data.generate(tmp_path, rows=10, file_format=there)
    before = _contents(tmp_path)
    with pytest.raises(ValueError, match=rf"already holds crm\.{there.replace('.', '[.]')}, "):
        sample_data.generate(tmp_path, rows=10, file_format=wanted)
    assert _contents(tmp_path) == before


def test_a_source_is_not_written_beside_a_folder_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "support").mkdir()
    with pytest.raises(ValueError, match="already holds support, "):
        sample_data.generate(tmp_path, rows=10)


def test_the_same_format_is_written_anew_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    sample_data.generate(tmp_path, rows=20, seed=1)
    sample_data.generate(tmp_path, rows=30, seed=2)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(oracle.expect(tmp_path, 1).profiles) == 30
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", *(f"{name}.csv" for name in _NAMES)}


@pytest.mark.parametrize("file_format", sample_data.FORMATS)
def test_an_interrupted_generation_leaves_what_was_there(tmp_path: Path, file_format: sample_data.FileFormat) -> None:
    """Half a sample, or files of two samples, would look like lost customers."""
    sample_data.generate(tmp_path, rows=20, seed=1, file_format=file_format)
    before = _contents(tmp_path)

    def interrupt(done: int, rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_data.generate(tmp_path, rows=30, seed=2, file_format=file_format, on_progress=interrupt)
    assert _contents(tmp_path) == before


@pytest.mark.parametrize("file_format", sample_data.FORMATS)
def test_progress_rises_to_the_number_of_rows(tmp_path: Path, file_format: sample_data.FileFormat) -> None:
    seen: list[tuple[int, int]] = []
    sample_data.generate(tmp_path, rows=60_000, file_format=file_format, on_progress=lambda *done: seen.append(done))
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (60_000, 60_000)


def test_a_source_without_a_text_column_has_a_sample_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a fifth source, added as the README says, breaks `make run` on a fresh checkout."""
    survey = Source("survey", "Survey", (Column("answered_on", "Day of the answer", ColumnType.DATE),))
    monkeypatch.setattr(sample_data, "SOURCES", (*sample_data.SOURCES, survey))
    paths = sample_data.generate(tmp_path, rows=500, dirty=0.1)
    assert paths[-1].name == "survey.csv"
    assert paths[-1].read_text(errors="replace").startswith("customer_id,answered_on\n")
