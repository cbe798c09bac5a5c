"""Environment variables: what they default to, and what a person reads when one is wrong."""

import os
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.errors import ConfigError
from etl_assets.project.settings import load_settings


def complaint(name: str, value: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings({name: value})
    return str(caught.value)


def test_without_any_variable_the_defaults_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_settings({})
    assert found.sources == tmp_path / "data" / "sources"
    assert found.home == Home(tmp_path / "data")
    assert (found.shard_count, found.max_reject_ratio, found.memory_mb) == (10, 0.05, 700)
    assert found.workers == min(os.cpu_count() or 1, 8)


def test_every_variable_is_read() -> None:
    found = load_settings(
        {
            "ETL_SOURCES": "/exports",
            "ETL_HOME": "/pipeline",
            "ETL_NUM_SHARDS": "64",
            "ETL_MAX_REJECT_RATIO": "0.25",
            "ETL_WORKERS": "3",
            "ETL_MEMORY_LIMIT": "3GB",
        }
    )
    assert (found.sources, found.home.root) == (Path("/exports"), Path("/pipeline"))
    assert (found.shard_count, found.max_reject_ratio, found.workers, found.memory_mb) == (64, 0.25, 3, 3072)


def test_an_empty_variable_counts_as_unset() -> None:
    """Fails: `ETL_HOME=` in a .env file makes the root of the file system the home."""
    names = ("ETL_SOURCES", "ETL_HOME", "ETL_NUM_SHARDS", "ETL_MAX_REJECT_RATIO", "ETL_WORKERS", "ETL_MEMORY_LIMIT")
    assert load_settings(dict.fromkeys(names, "")) == load_settings({})


def test_the_environment_is_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("7", "8"):
        monkeypatch.setenv("ETL_NUM_SHARDS", number)
        assert load_settings().shard_count == int(number)


def test_relative_folders_are_those_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a worker that starts in another folder builds another home."""
    monkeypatch.chdir(tmp_path)
    found = load_settings({"ETL_HOME": "here", "ETL_SOURCES": "there"})
    monkeypatch.chdir("/")
    assert (found.home.root, found.sources) == (tmp_path / "here", tmp_path / "there")


@pytest.mark.parametrize("value", ["0", "1001", "-1", "ten", "10.0", "1e2", "0x10", "1_0", "١٠"])
def test_a_wrong_number_of_shards_says_what_is_right(value: str) -> None:
    expected = f"ETL_NUM_SHARDS must be a whole number from 1 to 1000, found {value!r}. Try: export ETL_NUM_SHARDS=10"
    assert complaint("ETL_NUM_SHARDS", value) == expected


@pytest.mark.parametrize("value", ["0", "65", "all", "2.5"])
def test_a_wrong_number_of_workers_says_what_is_right(value: str) -> None:
    text = complaint("ETL_WORKERS", value)
    assert f"ETL_WORKERS must be a whole number from 1 to 64, found {value!r}" in text
    assert "Try: export ETL_WORKERS=" in text


@pytest.mark.parametrize("value", ["5%", "1.5", "-0.1", "nan", "inf", "1e-2", "0,05", "half"])
def test_a_wrong_reject_ratio_says_what_is_right(value: str) -> None:
    """Fails: `ETL_MAX_REJECT_RATIO=nan` lets every share of rejects pass."""
    text = complaint("ETL_MAX_REJECT_RATIO", value)
    assert (
        text
        == f"ETL_MAX_REJECT_RATIO must be a share from 0 to 1, found {value!r}. Try: export ETL_MAX_REJECT_RATIO=0.05"
    )


@pytest.mark.parametrize("value", ["1024", "63MB", "0GB", "-1GB", "1.5GB", "2TB", "2GiB", "lots", "MB"])
def test_a_wrong_memory_limit_says_what_is_right(value: str) -> None:
    text = complaint("ETL_MEMORY_LIMIT", value)
    assert f"ETL_MEMORY_LIMIT must be a size of at least 64MB like 512MB or 2GB, found {value!r}" in text
    assert "Try: export ETL_MEMORY_LIMIT=700MB" in text


@pytest.mark.parametrize(
    ("value", "memory_mb"), [("64MB", 64), ("512mb", 512), ("2 GB", 2048), (" 1gb ", 1024), ("64 Mb", 64)]
)
def test_a_memory_limit_is_read_as_people_write_it(value: str, memory_mb: int) -> None:
    assert load_settings({"ETL_MEMORY_LIMIT": value}).memory_mb == memory_mb


@pytest.mark.parametrize(("value", "ratio"), [("0", 0.0), ("1", 1.0), ("1.0", 1.0), (".5", 0.5), (" 0.1 ", 0.1)])
def test_the_bounds_of_the_reject_ratio_are_allowed(value: str, ratio: float) -> None:
    assert load_settings({"ETL_MAX_REJECT_RATIO": value}).max_reject_ratio == ratio


@pytest.mark.parametrize(("workers", "memory_mb"), [("1", 700), ("4", 175), ("64", 64)])
def test_the_workers_share_the_memory(workers: str, memory_mb: int) -> None:
    """Fails: as many workers as there are cores take as many times the memory that was allowed."""
    limits = load_settings({"ETL_WORKERS": workers}).worker_limits()
    assert (limits.memory_mb, limits.threads) == (memory_mb, 1)


@pytest.mark.parametrize(
    ("allowed", "workers", "memory_mb"),
    [("2GB", "4", 682), ("700MB", "2", 300), ("700MB", "4", 600), ("256MB", "8", 256)],
)
def test_the_merge_takes_what_its_threads_need_and_no_more_than_is_allowed(
    allowed: str, workers: str, memory_mb: int
) -> None:
    """Fails: it fills its memory with pages that nobody reads again, or one thread does the work of all."""
    limits = load_settings({"ETL_WORKERS": workers, "ETL_MEMORY_LIMIT": allowed}).merge_limits()
    assert (limits.memory_mb, limits.threads) == (memory_mb, int(workers))


def test_staging_is_asked_for_what_the_settings_say() -> None:
    found = load_settings({"ETL_NUM_SHARDS": "5", "ETL_MAX_REJECT_RATIO": "0.5"})
    request = found.staging_request()
    assert (request.sources, request.home) == (found.sources, found.home)
    assert (request.shard_count, request.max_reject_ratio) == (5, 0.5)
