"""What goes wrong while an export is read: nothing is lost, nothing half done is left."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.engine import faults
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import current_snapshot, current_snapshots
from etl_assets.engine.reading import surveying, verified
from etl_assets.engine.reading.exports import Export
from etl_assets.engine.reading.surveying import Survey
from etl_assets.engine.site import Site
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.stopping import Stop
from etl_assets.errors import (
    AccountingError,
    AttemptTimeoutError,
    ConfigError,
    InputError,
    SourceChangedError,
    StoppedError,
)
from etl_assets_tests.engine.steps.product_exports import (
    HEADER,
    PRODUCT,
    accepted,
    stage,
    write,
)
from etl_assets_tests.factory import (
    SOURCES,
    csv_line,
    read_quarantine,
    row,
    site_at,
    stage_all,
    staging_request,
    write_exports,
)


class TestChangedWhileRead:
    def change_after_hashing(self, path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
        hash_files = verified.hash_files

        def hash_then_change(*args: Any) -> str:
            found = hash_files(*args)
            change()
            return found

        monkeypatch.setattr(verified, "hash_files", hash_then_change)

    def test_the_source_is_to_be_read_again(self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fails: half of the old and half of the new export become one snapshot."""
        path = write(sources, row("a"))
        with monkeypatch.context() as patch:
            self.change_after_hashing(path, patch, lambda: write(sources, row("a"), row("b")))
            with pytest.raises(SourceChangedError, match=r"^product\.csv changed while it was read"):
                stage(sources, site)
        assert current_snapshot(site.home, "product") is None
        assert set(accepted(site, stage(sources, site))) == {"a", "b"}

    def test_nothing_of_it_is_taken_for_the_file_that_was_hashed(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: putting the first file back brings the rows of the second one."""
        path = write(sources, row("a"))
        first = path.read_bytes()
        with monkeypatch.context() as patch:
            self.change_after_hashing(path, patch, lambda: write(sources, row("a"), row("b")))
            with pytest.raises(SourceChangedError):
                stage(sources, site)
        path.write_bytes(first)
        assert set(accepted(site, stage(sources, site))) == {"a"}

    def test_a_file_that_joins_the_folder_is_a_change(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(sources, row("a"), name="product/1.csv")
        self.change_after_hashing(path, monkeypatch, lambda: write(sources, row("b"), name="product/2.csv"))
        with pytest.raises(SourceChangedError):
            stage(sources, site)


class TestFailures:
    def test_a_failed_reading_leaves_nothing_behind(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: half a snapshot is found by the next run, or fills the disk."""

        def fail(*_: object) -> NoReturn:
            raise OSError("the disk went away")

        write(sources, row("a"))
        with monkeypatch.context() as patch:
            patch.setattr(surveying, "survey", fail)
            with pytest.raises(OSError, match="went away"):
                stage(sources, site)
        assert list((site.home.staged / "product").iterdir()) == []
        assert list(site.home.scratch.iterdir()) == []
        assert stage(sources, site).rows_accepted == 1

    @pytest.mark.parametrize("off_by", [-1, 1])
    def test_a_row_that_is_nowhere_stops_everything(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch, off_by: int
    ) -> None:
        """Fails: a defect of this package loses rows, and the result looks complete."""
        survey = surveying.survey

        def miscount(export: Export, *_: object) -> Survey:
            found = survey(export)
            return replace(found, record_count=found.record_count + off_by)

        write(sources, row("a"), row("b"), row(""))
        with monkeypatch.context() as patch:
            patch.setattr(surveying, "survey", miscount)
            with pytest.raises(AccountingError, match=f"{3 + off_by} rows in the files, but 2 accepted and 1 quarant"):
                stage(sources, site)
        assert current_snapshot(site.home, "product") is None
        assert list((site.home.staged / "product").iterdir()) == [site.home.refused_pointer("product")]

    @pytest.mark.parametrize("keep", [0.4, 0.9])
    def test_a_packed_file_damaged_far_inside_is_named(self, sources: Path, site: Site, keep: float) -> None:
        """Fails: the rows before the damage pass for the whole export."""
        text = "\n".join([HEADER, *(csv_line(PRODUCT, f"c{number * 7919}") for number in range(100_000))])
        packed = gzip.compress(text.encode(), 1)
        sources.joinpath("product").mkdir()
        write(sources, row("a"), name="product/1.csv")
        (sources / "product" / "2.csv.gz").write_bytes(packed[: int(len(packed) * keep)])
        with pytest.raises(InputError, match=r"product/2\.csv\.gz is .*gzip file"):
            stage(sources, site)
        assert current_snapshot(site.home, "product") is None

    def test_sources_that_were_never_staged_are_named(self, sources: Path, site: Site) -> None:
        write_exports(sources)
        stage(sources, site)
        with pytest.raises(ConfigError, match="Sources crm, billing, support not staged for 3 shards by this"):
            current_snapshots(site)

    def test_sources_staged_for_another_number_of_shards_are_named(self, sources: Path, site: Site) -> None:
        write_exports(sources)
        stage_all(staging_request(sources, site))
        assert list(current_snapshots(site)) == [source.name for source in SOURCES]
        with pytest.raises(ConfigError, match="billing, product, support not staged for 4 shards by this"):
            current_snapshots(site_at(site.home, 4))


_PIECES = [
    *(
        '"',
        '""',
        ",",
        ",,",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "\0",
        "a",
        " ",
        "é",
        "\\",
        "'",
        "\n\n",
        '"\n',
        '\n"',
        "\ufeff",
        "#",
    ),
    *(f"{csv_line(PRODUCT, customer)}\n" for customer in ("c1", "c1", "c2", "", '"c3"')),
    csv_line(PRODUCT, "c4", email='"x\ny"') + "\r\n",
    csv_line(PRODUCT, "c5", usage_pct="x"),
]
dirty_text = st.lists(st.sampled_from(_PIECES), max_size=25).map("".join)
dirty_bytes = (
    dirty_text.map(str.encode) | st.binary(max_size=60) | dirty_text.map(lambda text: text.encode("utf-16-le"))
)


@settings(max_examples=40, deadline=None)
@given(dirty_bytes, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_whatever_the_bytes_no_row_is_lost(
    tmp_path_factory: pytest.TempPathFactory, dirty: bytes, header_end: str, is_packed: bool
) -> None:
    """Fails: some export makes rows vanish, or the pipeline fall over, without a word the user can act on."""
    folder = tmp_path_factory.mktemp("dirty")
    content = (HEADER + header_end).encode() + dirty
    name = "product.csv.gz" if is_packed else "product.csv"
    (folder / name).write_bytes(gzip.compress(content) if is_packed else content)
    site = site_at(Home(folder / "home"))
    try:
        snapshot = stage(folder, site)
    except InputError:
        return
    found = read_quarantine(site.home, snapshot)
    assert snapshot.rows_in == snapshot.rows_accepted + snapshot.rows_quarantined
    assert snapshot.rows_accepted == len(accepted(site, snapshot))
    assert len(found) == snapshot.rows_quarantined == sum(snapshot.reasons.values())
    lines = content.split(b"\n")
    assert len({bad["line_number"] for bad in found}) == len(found)
    for bad in found:
        first_line = bad["raw_text"].split("\n")[0]
        line = lines[bad["line_number"] - 1].decode(errors="backslashreplace")
        assert line in (first_line, first_line + "\r")


def _endless_query(connection: duckdb.DuckDBPyConnection, *_: object) -> None:
    connection.execute("SELECT sum(a.range * b.range) FROM range(1_000_000) a, range(1_000_000) b").fetchone()


def _endless_reading(export: Export, *_: object) -> NoReturn:
    while True:
        for _block in surveying.data_blocks(export):
            pass


class TestTimeLimit:
    @pytest.mark.parametrize(
        ("owner", "name", "instead"),
        [(staging, "_write_partitions", _endless_query), (surveying, "survey", _endless_reading)],
    )
    def test_a_source_that_takes_too_long_is_interrupted(
        self,
        sources: Path,
        site: Site,
        monkeypatch: pytest.MonkeyPatch,
        owner: ModuleType,
        name: str,
        instead: Callable[..., object],
    ) -> None:
        """Fails: one export holds the whole run for ever."""
        write(sources, row("a"))
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, instead)
            with pytest.raises(AttemptTimeoutError, match="'product' took longer than ETL_SOURCE_TIMEOUT_S=1 sec"):
                stage(sources, site, timeout_s=1.0)
        assert current_snapshot(site.home, "product") is None
        assert list((site.home.staged / "product").iterdir()) == [site.home.refused_pointer("product")]
        assert set(accepted(site, stage(sources, site, timeout_s=60.0))) == {"a"}

    def test_a_hang_on_purpose_ends_at_the_limit(self, sources: Path, site: Site) -> None:
        write(sources, row("a"))
        faults.arm("staging.read hang", "", is_production=False, shard_count=3)
        try:
            with pytest.raises(AttemptTimeoutError):
                stage(sources, site, timeout_s=1.0)
        finally:
            faults.arm("", "", is_production=False, shard_count=3)

    def test_hashing_can_be_stopped(self, sources: Path) -> None:
        path, stop = write(sources, row("a")), Stop()
        stop.request()
        with pytest.raises(StoppedError):
            verified.hash_files(sources, verified.stat_files([path], sources), stop)
