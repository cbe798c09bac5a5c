"""Exports in an object store: read as those of a folder, fetched once, told by their URL when they are not there."""

import os
import shutil
import subprocess
from pathlib import Path

import boto3
import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.lake.store import Store
from etl_assets.engine.steps.copying_exports import copy_exports
from etl_assets.errors import ConfigError, InputError, StoreError
from etl_assets.project.settings import load_settings
from etl_assets_tests.command_line import Cli, ended
from etl_assets_tests.dagster_runs import CodeLocation
from etl_assets_tests.factory import generate_sample, row, run_engine, site_at, write_exports
from etl_assets_tests.lake.fault_proxy import Effect, FaultProxy


@pytest.fixture
def url(bucket: str) -> str:
    """Where the exports lie."""
    return f"s3://{bucket}/exports/daily"


def _send(url: str, folder: Path) -> None:
    store = Store(url)
    for path in folder.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def etl(url: str, tmp_path: Path) -> Cli:
    """Runs a command."""

    def run(*arguments: str, code: int = 0, sources: str = url) -> subprocess.CompletedProcess[str]:
        places = {"ETL_HOME": str(tmp_path / "home"), "DAGSTER_HOME": str(tmp_path / "dagster")}
        return ended(code, *arguments, **places, ETL_SOURCES=sources, ETL_NUM_SHARDS="3")

    return run


def test_the_commands_read_exports_in_a_store(etl: Cli, url: str, sources: Path, tmp_path: Path) -> None:
    """Fails: people with exports in a bucket must copy them by hand before each run."""
    generate_sample(sources, rows=200, seed=4, dirty=0.03)
    _send(url, sources)
    expected = run_engine(sources, site_at(Home(tmp_path / "local"))).publication.digest
    assert "No mistakes" in etl("check").stdout
    assert expected in etl("run").stdout
    assert "Unchanged" in etl("run").stdout
    Store(url).put("crm.csv", (sources / "crm.csv").read_bytes() + b"broken\n")
    assert "crm" in etl("status").stdout
    assert "its files have changed" in etl("status").stdout
    assert "no folder of this machine" in etl("generate", "--rows", "10", code=2).stderr
    Store(url).put("crm_2026-05-02.csv", (sources / "crm.csv").read_bytes())
    assert "crm_2026-05-02.csv" in etl("run", code=2).stderr


def test_a_copy_follows_the_store_and_fetches_what_has_changed_only(
    url: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    """Fails: a file that is gone is still read, a changed one is not, or gigabytes travel for each look."""
    store, folder = Store(url), tmp_path / "copy"
    for key in ("crm.csv", "billing/day=1/a.csv", "billing/day=2/b.csv"):
        store.put(key, key.encode())
    copy_exports([url], folder)
    assert _contents(folder) == {key: key.encode() for key in ("crm.csv", "billing/day=1/a.csv", "billing/day=2/b.csv")}
    before = {path: path.stat().st_ino for path in folder.rglob("*.csv")}
    store.delete(["billing/day=1/a.csv"])
    # Of the same size, within the same second.
    store.put("crm.csv", b"CRM.csv")
    copy_exports([url], folder)
    assert _contents(folder) == {"crm.csv": b"CRM.csv", "billing/day=2/b.csv": b"billing/day=2/b.csv"}
    assert not (folder / "billing" / "day=1").exists()
    assert (folder / "billing/day=2/b.csv").stat().st_ino == before[folder / "billing/day=2/b.csv"]
    (folder / "crm.csv").write_bytes(b"mine")
    (folder / "other.csv").write_bytes(b"mine")
    copy_exports([url], folder)
    assert _contents(folder)["crm.csv"] == b"CRM.csv"
    assert not (folder / "other.csv").exists()


def test_the_copy_of_another_url_goes_once_it_is_out_of_use(url: str, bucket: str, tmp_path: Path) -> None:
    """Fails: personal data stays in ETL_HOME for ever after the exports have moved, or a running copy is removed."""
    home, other = Home(tmp_path), f"s3://{bucket}/elsewhere"
    for one in (url, other):
        Store(one).put("crm.csv", b"a")
        copy_exports([one], home.exports(one))
    assert home.exports(url).exists()
    os.utime(home.exports(url).with_suffix(".json"), (1, 1))
    copy_exports([other], home.exports(other))
    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == [
        home.exports(other).name,
        f"{home.exports(other).name}.json",
    ]


def test_the_sensor_asks_for_a_refresh_and_fetches_nothing(
    url: str, sources: Path, tmp_path: Path, proxy: FaultProxy
) -> None:
    """Fails: new exports are not noticed, or each look takes as long as fetching them, and Dagster ends it."""
    write_exports(sources, crm=[row("c1")])
    _send(url, sources)
    settings = load_settings({"ETL_SOURCES": url, "ETL_HOME": str(tmp_path / "home"), "ETL_NUM_SHARDS": "2"})
    with dg.DagsterInstance.ephemeral() as instance:
        location = CodeLocation(settings, instance)
        sensor = location.defs.get_repository_def().get_sensor_def("refresh_when_exports_change")
        context = dg.build_sensor_context(instance=instance)
        proxy.reset()
        first = sensor(context)
        assert isinstance(first, dg.SkipReason)
        assert first.skip_message == "Changed: the exports in the store. Waiting until the files are left alone."
        second = sensor(context)
        assert isinstance(second, dg.RunRequest)
        assert not any(path.endswith(".csv") for _, path in proxy.requests())
        assert location.stage().success
        answer = sensor(context)
        assert isinstance(answer, dg.SkipReason)
        # The files are too young for their time stamps to prove anything.
        assert "the exports in the store" not in str(answer.skip_message)
        Store(url).put("crm.csv", (sources / "crm.csv").read_bytes() + b"c2\n")
        later = sensor(context)
        assert isinstance(later, dg.SkipReason)
        assert "the exports in the store" in str(later.skip_message)


def test_a_copy_that_was_broken_off_is_completed(url: str, proxy: FaultProxy, tmp_path: Path) -> None:
    """Fails: after a cut connection half of an export is taken for the whole."""
    store, folder = Store(url), tmp_path / "copy"
    for key in ("a.csv", "b.csv"):
        store.put(key, key.encode() * 1000)
    proxy.add(Effect.UNAVAILABLE, "GET", r"/b\.csv", count=None)
    with pytest.raises(StoreError, match=r"b\.csv"):
        copy_exports([url], folder)
    assert "b.csv" not in _contents(folder)
    proxy.reset()
    copy_exports([url], folder)
    assert _contents(folder) == {key: key.encode() * 1000 for key in ("a.csv", "b.csv")}


def test_what_cannot_be_read_is_named_by_its_url(url: str, bucket: str, s3_port: int, tmp_path: Path) -> None:
    """Fails: the message speaks of a folder that the user has never heard of, or of another setting."""
    with pytest.raises(InputError, match=f"Nothing lies below {url}"):
        copy_exports([url], tmp_path / "copy")
    with pytest.raises(ConfigError, match="there is no such bucket") as caught:
        copy_exports([f"s3://{bucket}-not/x"], tmp_path / "copy")
    assert caught.value.subject == "ETL_SOURCES"
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{s3_port}")
    client.put_object(Bucket=bucket, Key="exports/daily/crm", Body=b"a")
    client.put_object(Bucket=bucket, Key="exports/daily/crm/a.csv", Body=b"a")
    with pytest.raises(InputError, match="both a file and a folder"):
        copy_exports([url], tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_folder_marker_of_a_store_is_no_file(url: str, bucket: str, s3_port: int, tmp_path: Path) -> None:
    """Fails: a folder that was made in the console of the store stops the pipeline."""
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{s3_port}")
    client.put_object(Bucket=bucket, Key="exports/daily/crm/", Body=b"")
    client.put_object(Bucket=bucket, Key="exports/daily/crm/a.csv", Body=b"a")
    copy_exports([url], tmp_path / "copy")
    assert _contents(tmp_path / "copy") == {"crm/a.csv": b"a"}


def test_exports_in_several_places_are_read_together(etl: Cli, url: str, sources: Path, tmp_path: Path) -> None:
    """Fails: people whose CRM exports to a bucket and whose billing to a disk must copy one of them by hand."""
    generate_sample(sources, rows=200, seed=4, dirty=0.03)
    expected = run_engine(sources, site_at(Home(tmp_path / "local"))).publication.digest
    here = tmp_path / "here, there"
    here.mkdir()
    for path in sources.glob("billing*"):
        path.rename(here / path.name)
    _send(url, sources)
    places = f"{url}, {here}"
    # The comma in the folder's name would begin another place.
    assert "ETL_SOURCES" in etl("run", code=2, sources=places).stderr
    here = here.rename(tmp_path / "here")
    places = f"{url}, {here}"
    assert expected in etl("run", sources=places).stdout
    assert "Unchanged" in etl("run", sources=places).stdout
    with (here / "billing.csv").open("ab") as file:
        file.write(b"broken\n")
    assert "its files have changed" in etl("status", sources=places).stdout


def test_a_file_in_two_places_and_a_place_without_files_are_named(url: str, sources: Path, tmp_path: Path) -> None:
    """Fails: which of two exports counts is decided by chance; or a mistyped folder is a source that has shrunk."""
    write_exports(sources, crm=[row("C1")])
    _send(url, sources)
    with pytest.raises(InputError, match=f"lies below {url} and below {sources.as_uri()}: expected each file in one"):
        copy_exports([url, sources.as_uri()], tmp_path / "copy")
    for folder in (tmp_path / "empty", tmp_path / "missing"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=f"Nothing lies below {folder.as_uri()}"):
            copy_exports([url, folder.as_uri()], tmp_path / "copy")
    assert not (tmp_path / "missing").exists()
    assert not (tmp_path / "copy").exists()


def test_a_folder_of_this_machine_is_read_where_it_is(etl: Cli, sources: Path, tmp_path: Path) -> None:
    """Fails: a file:// URL copies gigabytes from one folder to another."""
    generate_sample(sources, rows=50, seed=4)
    etl("run", sources=sources.as_uri())
    assert not (tmp_path / "home" / "exports").exists()
    shutil.rmtree(sources)
    assert "does not exist" in etl("run", code=2, sources=sources.as_uri()).stderr
