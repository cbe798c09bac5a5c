"""Who may write to the folder of the exports swaps a file between two of its openings, and puts it back.

Each swap is played at a moment of staging: before the file is opened for its header, its hash, its survey, its copy, by
DuckDB, or for the quarantine. What is opened must be what was checked, or staging ends with an error.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.reading import exports, parquet, quarantine, surveying, verified
from etl_assets.engine.site import Site
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import InputError, SourceChangedError
from etl_assets_tests.engine.steps.product_exports import HEADER, PRODUCT, accepted, stage, write, write_parquet
from etl_assets_tests.factory import csv_line, read_quarantine, row

BACKSTOP_S = 20.0
SECRET = "DB_PASSWORD=1"
NAME = "product/a"

# The function that opens the file at each moment.
CSV_MOMENTS: dict[str, tuple[Any, str]] = {
    "header": (exports, "_csv_columns"),
    "hash": (verified, "hash_files"),
    "survey": (surveying, "survey"),
    "copy": (surveying, "write_sound_records"),
    "duckdb": (staging, "_write_partitions"),
    "quarantine": (quarantine, "_locate_csv"),
}
PARQUET_MOMENTS: dict[str, tuple[Any, str]] = {
    "header": (exports, "_parquet_types"),
    "hash": (verified, "hash_files"),
    "count": (parquet, "row_count"),
    "duckdb": (staging, "_write_partitions"),
    "quarantine": (quarantine, "_locate_parquet"),
}
# There DuckDB reads the very file that was checked. Its name was moved with the folder, and it was not touched itself.
READ_BY_DUCKDB = [("csv", "duckdb"), ("parquet", "duckdb"), ("parquet", "quarantine")]


@pytest.fixture(autouse=True)
def _backstop() -> Iterator[None]:
    """An open that waits for ever is an error instead."""

    def give_up(*_: object) -> None:
        raise TimeoutError("an open waits for ever")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, BACKSTOP_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _lay(sources: Path, form: str) -> Path:
    """The export, with a row for the quarantine, beside a file that only this user may read."""
    path = sources / f"{NAME}.{form}"
    path.parent.mkdir()
    if form == "csv":
        lines = [HEADER, csv_line(PRODUCT, "mine"), "", csv_line(PRODUCT, "")]
        secret = [HEADER, csv_line(PRODUCT, SECRET), "", SECRET]
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
        (sources.parent / "secret.csv").write_text("\n".join([*secret, ""]), encoding="utf-8")
        return path
    columns = ", ".join(f"NULL::VARCHAR AS {column.name}" for column in PRODUCT.columns)
    write_parquet(path, f"SELECT unnest(['mine', '']) AS customer_id, {columns}")
    write_parquet(sources.parent / "secret.parquet", f"SELECT unnest(['{SECRET}', '']) AS customer_id, {columns}")
    return path


@contextlib.contextmanager
def _instead(path: Path, put: Callable[[], object]) -> Iterator[None]:
    """Something else in the place of `path`, which comes back untouched."""
    aside = path.parents[0] / "aside" if path.is_dir() else path.with_name("aside")
    os.rename(path, aside)
    put()
    try:
        yield
    finally:
        path.unlink()
        os.rename(aside, path)


@contextlib.contextmanager
def _folder_outside(path: Path) -> Iterator[None]:
    evil = path.parents[2] / "evil"
    evil.mkdir()
    (evil / path.name).symlink_to(f"../secret{path.suffix}")
    with _instead(path.parent, lambda: path.parent.symlink_to("../evil")):
        yield


@contextlib.contextmanager
def _folder_inside(path: Path) -> Iterator[None]:
    evil = path.parents[1] / "evil"
    evil.mkdir()
    (evil / path.name).write_bytes((path.parents[2] / f"secret{path.suffix}").read_bytes())
    with _instead(path.parent, lambda: path.parent.symlink_to("evil")):
        yield


@contextlib.contextmanager
def _link(path: Path) -> Iterator[None]:
    with _instead(path, lambda: path.symlink_to(f"../../secret{path.suffix}")):
        yield


@contextlib.contextmanager
def _pipe(path: Path) -> Iterator[None]:
    with _instead(path, lambda: os.mkfifo(path)):
        yield


SWAPS = {"folder outside": _folder_outside, "folder inside": _folder_inside, "link": _link, "pipe": _pipe}
CASES = [
    *(("csv", moment) for moment in CSV_MOMENTS),
    *(("parquet", moment) for moment in PARQUET_MOMENTS),
]


def _swap_at(monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], swap: str, path: Path) -> list[str]:
    """Swap the file during the calls of one function; returns a list that grows with each."""
    owner, name = place
    function, calls = getattr(owner, name), []

    def swapped(*args: Any, **options: Any) -> Any:
        calls.append(name)
        with SWAPS[swap](path):
            return function(*args, **options)

    monkeypatch.setattr(owner, name, swapped)
    return calls


def _moment(form: str, moment: str) -> tuple[Any, str]:
    return (CSV_MOMENTS if form == "csv" else PARQUET_MOMENTS)[moment]


def _assert_nothing_strange(site: Site, snapshot: Any) -> None:
    assert set(accepted(site, snapshot)) == {"mine"}
    assert all(SECRET not in str(found) for found in read_quarantine(site.home, snapshot))


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize(("form", "moment"), CASES)
def test_a_file_that_is_swapped_for_a_moment_is_not_read(
    sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch, form: str, moment: str, swap: str
) -> None:
    """Fails: who may write exports reads any file of this user in the quarantine, or stops the run for ever."""
    path = _lay(sources, form)
    with monkeypatch.context() as patch:
        calls = _swap_at(patch, _moment(form, moment), swap, path)
        if (form, moment) in READ_BY_DUCKDB and swap.startswith("folder"):
            _assert_nothing_strange(site, stage(sources, site))
        else:
            with pytest.raises((InputError, SourceChangedError), match=rf"^({NAME}\.{form}|A file of source .+) "):
                stage(sources, site)
            assert list(site.home.root.rglob("*.parquet")) == []
    assert calls
    _assert_nothing_strange(site, stage(sources, site))


@pytest.mark.parametrize("swap", ["folder outside", "folder inside", "link"])
@pytest.mark.parametrize(("form", "moment"), READ_BY_DUCKDB)
def test_a_file_that_is_read_by_its_name_is_checked_afterwards(
    sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch, form: str, moment: str, swap: str
) -> None:
    """Fails: where no descriptor has a path, or too few are left, another file's rows get the name of this one's."""
    path = _lay(sources, form)
    if form == "csv":
        # Regular, so that DuckDB reads it itself.
        path.write_text(f"{HEADER}\n{csv_line(PRODUCT, 'mine')}\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(verified, "_most_descriptors", lambda: 0)
        calls = _swap_at(patch, _moment(form, moment), swap, path)
        with pytest.raises((InputError, SourceChangedError), match=rf"^{NAME}\.{form} "):
            stage(sources, site)
        assert list(site.home.root.rglob("*.parquet")) == []
    assert calls
    _assert_nothing_strange(site, stage(sources, site))


def test_files_beyond_the_descriptors_are_read_by_their_names(
    sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a folder of more files than this process may have open cannot be read."""
    _lay(sources, "csv")
    write(sources, row("another"), name="product/b.csv")
    monkeypatch.setattr(verified, "_most_descriptors", lambda: 0)
    assert set(accepted(site, stage(sources, site))) == {"mine", "another"}
