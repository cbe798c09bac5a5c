"""The same records in every format are the same snapshot: rows, quarantine and accounting."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.reading.listing import find_files
from etl_assets.engine.site import Site
from etl_assets.errors import InputError
from etl_assets_tests.engine.reading.test_unpacking import frames, zipped
from etl_assets_tests.engine.steps.product_exports import HEADER, PRODUCT, accepted, stage
from etl_assets_tests.factory import csv_line, read_quarantine

_LINES = [
    HEADER,
    csv_line(PRODUCT, "a"),
    "",
    csv_line(PRODUCT, "b", usage_pct="101"),
    'c,"open',
    csv_line(PRODUCT, "", email="nobody@example.com"),
    csv_line(PRODUCT, "d", account_status='"two\nlines"'),
    csv_line(PRODUCT, "a", account_status="later"),
]
_TEXT = "\n".join(_LINES).encode()
_WITH_TABS = _TEXT.replace(b",", b"\t")


def _found(site: Site, snapshot: Snapshot) -> object:
    """Everything that a snapshot says of its records."""
    assert snapshot.rows_in == snapshot.rows_accepted + snapshot.rows_quarantined == 6
    places = [(bad["line_number"], bad["raw_text"].replace("\t", ","), bad["reason"], bad["cell"])
              for bad in read_quarantine(site.home, snapshot)]  # fmt: skip
    return accepted(site, snapshot), places


class TestPackedText:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("product.csv.gz", gzip.compress(_TEXT)),
            ("product.csv.zst", frames(_TEXT[:80], _TEXT[80:])),
            ("product.csv.zip", zipped({"product.csv": _TEXT})),
            ("product.zip", zipped({"exports/": b"", "exports/Product 2026.csv": _TEXT})),
            ("product.txt", _TEXT),
            ("product.CSV", _TEXT),
            ("product.tsv", _WITH_TABS),
            ("product.tab.zst", frames(_WITH_TABS)),
            ("product.zip", zipped({"product.TSV": _WITH_TABS})),
            ("product/2026-05.Txt.ZIP", zipped({"x": _TEXT})),
        ],
    )
    def test_records_lines_and_raw_texts_are_those_of_the_plain_file(
        self, sources: Path, site: Site, name: str, content: bytes
    ) -> None:
        """Fails: how an export is packed decides which customers there are, or where a mistake is looked for."""
        (sources / "product.csv").write_bytes(_TEXT)
        expected = _found(site, stage(sources, site))
        (sources / "product.csv").unlink()
        (sources / name).parent.mkdir(exist_ok=True)
        (sources / name).write_bytes(content)
        assert _found(site, stage(sources, site)) == expected

    @pytest.mark.parametrize(("suffix", "pack"), [("zst", frames), ("zip", lambda text: zipped({"x.csv": text}))])
    def test_limits_and_damage_are_errors_of_the_source(
        self, sources: Path, site: Site, suffix: str, pack: Callable[[bytes], bytes]
    ) -> None:
        """Fails: an archive of a few KB fills the disk, or the rows before the damage pass for all."""
        text = "\n".join([HEADER, *(csv_line(PRODUCT, f"c{number * 7919}") for number in range(30_000))]).encode()
        path = sources / f"product.csv.{suffix}"
        path.write_bytes(pack(text))
        with pytest.raises(InputError, match="unpacks to more than the 1 MB"):
            stage(sources, site, max_unpacked_mb=1)
        path.write_bytes(pack(text)[:-200])
        with pytest.raises(InputError, match=rf"product\.csv\.{suffix} is not a readable"):
            stage(sources, site)
        assert list((site.home.staged / "product").iterdir()) == [site.home.refused_pointer("product")]

    def test_a_text_for_people_is_no_export(self, sources: Path) -> None:
        """Fails: a note in the folder stops the pipeline."""
        (sources / "product").mkdir()
        for name in ("README.txt", "readme", "1.csv", "2.txt", ".3.csv"):
            (sources / "product" / name).write_bytes(_TEXT)
        assert [path.name for path in find_files(PRODUCT, sources)] == ["1.csv", "2.txt"]
