"""The files of the sample: pinned bytes, three formats, and a folder that is never left half written."""

import contextlib
import csv
import gzip
import hashlib
import io
from pathlib import Path

import duckdb
import pytest

from etl_assets.samples import writing
from etl_assets.samples.writing import FORMATS, MAX_ROWS, FileFormat
from etl_assets_tests import oracle
from etl_assets_tests.factory import SOURCES, generate_sample

_NAMES = [source.name for source in SOURCES]
# SHA-256 of the CSV files of 300 rows, seed 42: another machine, day or DuckDB must write the same bytes.
_GOLDEN = {
    0.0: {
        "crm": "e8f93c7bf6e6f1d4611b420957ffe3423db19766f85e53f7f90b469dc933a9ff",
        "billing": "4874a28a12ef757c2d761d494bf3a64cbdf52cda052af7afac57625ba254c44e",
        "product": "5fa309c98d6a862f86add2aa89efd22f7a9bb12a3005cb0f7ca0dc5e88fab58a",
        "support": "e880fd48ea491a3c62a24d8d520286d9b8b9e737784f5aa74ad302db83c2e52b",
    },
    0.2: {
        "crm": "e9d3853843fb6b7ce744ff6c0b6d3a855f638ce139950b717c65d4f939c55134",
        "billing": "b13f297516a0fbf22addc13653f216cc301fc0d01a17aa27eaafda649f3ae7ad",
        "product": "bd94d93440c4d61cc0dfaf3d22239c62fdcc2ffc15bf8be621f5d3c0d55b9571",
        "support": "39a7474c740657f8d89da55696ee93b731829b73b42b4a04e1d7aa98ac472587",
    },
}


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("dirty", _GOLDEN)
def test_the_bytes_of_the_sample_are_pinned(tmp_path: Path, dirty: float) -> None:
    """Figures in the documentation and in bug reports refer to these rows."""
    files = generate_sample(tmp_path, rows=300, seed=42, dirty=dirty)
    assert [path.name for path in files] == [f"{name}.csv" for name in _NAMES]
    assert {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == _GOLDEN[dirty]


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, file_format: FileFormat) -> None:
    for name in ("one", "two"):
        generate_sample(tmp_path / name, rows=500, seed=3, dirty=0.1, file_format=file_format)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")


def test_gzip_files_carry_no_time_and_no_name(tmp_path: Path) -> None:
    """Equal data must be an equal file whenever and wherever it was packed."""
    for path in generate_sample(tmp_path, rows=10, file_format="csv.gz"):
        flags_and_time = path.read_bytes()[3:8]
        assert flags_and_time == bytes(5)


@pytest.mark.parametrize("dirty", [0.0, 0.2])
def test_the_size_of_a_chunk_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dirty: float) -> None:
    """A row at the edge of a chunk must neither be lost nor come twice."""
    generate_sample(tmp_path / "one", rows=300, dirty=dirty)
    monkeypatch.setattr(writing, "_CHUNK_ROWS", 7)
    generate_sample(tmp_path / "many", rows=300, dirty=dirty)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "many")


@pytest.mark.parametrize("dirty", [0.0, 0.1])
def test_more_rows_begin_with_the_rows_of_fewer(tmp_path: Path, dirty: float) -> None:
    """A user who tries few rows first and then more sees the same customers again."""
    for rows in (400, 900):
        generate_sample(tmp_path / str(rows), rows=rows, seed=8, dirty=dirty)
    few, many = _contents(tmp_path / "400"), _contents(tmp_path / "900")
    assert all(many[name].startswith(few[name]) and len(many[name]) > len(few[name]) for name in few)


def test_csv_gzip_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    for file_format in FORMATS:
        generate_sample(tmp_path / file_format, rows=700, seed=6, file_format=file_format)
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
    generate_sample(tmp_path, rows=50, file_format="parquet")
    with contextlib.closing(duckdb.connect()) as connection:
        for source in SOURCES:
            path = str(tmp_path / f"{source.name}.parquet")
            described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [path]).fetchall()
            assert [(row[0], row[1]) for row in described] == [
                ("customer_id", "VARCHAR"),
                *((column.name, column.duckdb) for column in source.columns),
            ]


@pytest.mark.parametrize("rows", [0, -1, MAX_ROWS + 1])
def test_a_number_of_rows_out_of_range_is_refused(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ValueError, match=f"rows must be from 1 to 100000000, found {rows}"):
        generate_sample(tmp_path / "out", rows=rows)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dirty", [-0.01, 0.51, 1.0, float("nan")])
def test_a_share_of_dirt_out_of_range_is_refused(tmp_path: Path, dirty: float) -> None:
    with pytest.raises(ValueError, match=r"dirty must be a share from 0 to 0\.5, found"):
        generate_sample(tmp_path / "out", rows=1, dirty=dirty)
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused_and_the_known_ones_are_listed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of csv, csv\.gz, parquet, found 'xlsx'"):
        generate_sample(tmp_path / "out", rows=1, file_format="xlsx")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("existing", "wanted"), [("csv", "parquet"), ("parquet", "csv.gz"), ("csv.gz", "csv")])
def test_a_source_is_not_written_beside_the_same_source_in_another_format(
    tmp_path: Path, existing: FileFormat, wanted: FileFormat
) -> None:
    """A source with two files stops the pipeline, and one of the two may be a real export."""
    generate_sample(tmp_path, rows=10, file_format=existing)
    before = _contents(tmp_path)
    with pytest.raises(ValueError, match=rf"already holds crm\.{existing.replace('.', '[.]')}, "):
        generate_sample(tmp_path, rows=10, file_format=wanted)
    assert _contents(tmp_path) == before


def test_a_source_is_not_written_beside_a_folder_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "support").mkdir()
    with pytest.raises(ValueError, match="already holds support, "):
        generate_sample(tmp_path, rows=10)


def test_files_of_the_same_format_are_replaced_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    generate_sample(tmp_path, rows=20, seed=1)
    generate_sample(tmp_path, rows=30, seed=2)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(oracle.expect(tmp_path, 1).profiles) == 30
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", *(f"{name}.csv" for name in _NAMES)}


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_interrupted_generation_leaves_the_folder_as_it_was(tmp_path: Path, file_format: FileFormat) -> None:
    """Half a sample, or files of two samples, would look like lost customers."""
    generate_sample(tmp_path, rows=20, seed=1, file_format=file_format)
    before = _contents(tmp_path)

    def interrupt(done: int, rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_sample(tmp_path, rows=30, seed=2, file_format=file_format, on_progress=interrupt)
    assert _contents(tmp_path) == before


@pytest.mark.parametrize("file_format", FORMATS)
def test_progress_rises_to_the_number_of_rows(tmp_path: Path, file_format: FileFormat) -> None:
    seen: list[tuple[int, int]] = []
    generate_sample(tmp_path, rows=60_000, file_format=file_format, on_progress=lambda *done: seen.append(done))
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (60_000, 60_000)
