"""Stores that refuse, lie or fail: each is named with what helps, and nothing is published."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from etl_assets.cli.wording import explained
from etl_assets.engine.lake import probing
from etl_assets.engine.lake.probing import open_lake, probe
from etl_assets.engine.lake.store import Store
from etl_assets.errors import Action, Advice, ConfigError, StoreError
from etl_assets_tests.factory import generate_sample
from etl_assets_tests.lake.conftest import site_in
from etl_assets_tests.lake.fault_proxy import Effect, FaultProxy
from etl_assets_tests.lake.lake_runs import run_lake


@pytest.mark.parametrize(
    ("effect", "header"), [(Effect.STRIP_NONE_MATCH, "If-None-Match"), (Effect.STRIP_MATCH, "If-Match")]
)
def test_a_store_without_conditional_puts_is_refused_by_name(
    s3_url: str, proxy: FaultProxy, effect: Effect, header: str
) -> None:
    """Fails: of two merges at once both are told that they have published, and one is lost."""
    proxy.add(effect, count=None)
    with pytest.raises(ConfigError, match=f"ignores conditional puts \\({header}\\)") as caught:
        open_lake(Store(s3_url), "any")
    assert s3_url in str(caught.value)
    proxy.reset()
    assert Store(s3_url).list("") == {}, "the probe has left something"


def test_a_sound_store_passes_and_keeps_nothing_of_the_probe(url: str) -> None:
    probe(Store(url))
    assert Store(url).list("") == {}


def test_the_folder_of_a_lake_may_be_a_link(tmp_path: Path) -> None:
    """Fails: a lake on another disk, which the folder is a link to, cannot be written."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "lake").symlink_to(tmp_path / "disk")
    store = Store((tmp_path / "lake").as_uri())
    open_lake(store, "any")
    assert [key for key in store.list("") if key.startswith("probe")] == []
    assert (tmp_path / "disk" / "lake.json").exists()


def test_objects_are_listed_in_the_order_of_their_keys(url: str) -> None:
    """Fails: what depends on the order differs between a bucket and a folder, which lists in none."""
    store, keys = Store(url), [f"some/{number:02}" for number in range(20)]
    for key in reversed(keys):
        store.put(key, b"")
    store.put("some/05", b"again")
    assert list(store.list("some")) == keys


def test_a_store_that_fails_says_what_to_do(s3_url: str) -> None:
    """Fails: the error ends in a library's words."""
    error = Store(s3_url).refusal("any", OSError("Connection refused"))
    assert isinstance(error, StoreError)
    assert error.advice == (Advice(Action.CHECK_STORE, value=s3_url),)


def test_a_bucket_that_is_not_there_is_named(proxy: FaultProxy) -> None:
    """Fails: a misspelt bucket looks like an object that is missing."""
    with pytest.raises(ConfigError, match="there is no such bucket"):
        open_lake(Store("s3://no-such-bucket-here/x"), "any")


@pytest.mark.parametrize("method", ["PUT", "*"])
def test_a_store_that_refuses_access_names_the_variables(s3_url: str, proxy: FaultProxy, method: str) -> None:
    """Fails: an expired token, a wrong key or a read-only bucket ends in a library's words."""
    proxy.add(Effect.FORBIDDEN, method, count=None)
    with pytest.raises(ConfigError, match="the store refuses access") as caught:
        open_lake(Store(s3_url), "any")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        assert name in explained(caught.value)


def test_missing_credentials_are_named(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: the message speaks of a machine's metadata service, of which the user has never heard."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # Where this machine would be asked for a role of its own.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises((ConfigError, StoreError)) as caught:
        open_lake(Store(s3_url), "any")
    assert isinstance(caught.value, ConfigError), caught.value
    assert "no credentials were found" in str(caught.value)
    assert "AWS_ACCESS_KEY_ID" in str(caught.value)
    assert "profiles, SSO" in str(caught.value)


@pytest.mark.parametrize(("ahead_s", "how"), [(3600, "60 minutes ahead of"), (-7200, "120 minutes behind")])
def test_a_machine_whose_clock_is_wrong_is_told_so(
    url: str, monkeypatch: pytest.MonkeyPatch, ahead_s: int, how: str
) -> None:
    """Fails: attempts and publications of several machines stand in the wrong order."""
    monkeypatch.setattr(probing, "time", SimpleNamespace(time=lambda: time.time() + ahead_s))
    with pytest.raises(ConfigError, match=f"the clock of this machine is {how} the store's.*timedatectl"):
        open_lake(Store(url), "any")
    assert Store(url).list("") == {}


def test_a_store_that_refuses_the_time_of_a_request_is_no_matter_of_credentials(s3_url: str, proxy: FaultProxy) -> None:
    """Fails: a person looks for a mistake in the keys while the clock is wrong."""
    proxy.add(Effect.SKEWED, "*", count=None)
    with pytest.raises(ConfigError, match="the clock of this machine is not the store's"):
        open_lake(Store(s3_url), "any")


def test_another_projects_lake_is_refused(url: str) -> None:
    """Fails: two projects with one prefix replace each other's result."""
    open_lake(Store(url), "first")
    open_lake(Store(url), "first")
    with pytest.raises(ConfigError, match="is the lake of the project 'first'"):
        open_lake(Store(url), "second")


def test_a_table_of_someone_else_is_refused(url: str) -> None:
    """Fails: a prefix that holds someone's table gets files and versions that are not theirs."""
    store = Store(url)
    store.put("profiles/_delta_log/00000000000000000000.json", b"{}")
    with pytest.raises(ConfigError, match="the table is someone else's"):
        open_lake(store, "any")


def test_an_object_is_created_once_whatever_the_answers(s3_url: str, proxy: FaultProxy) -> None:
    """Fails: a writer whose answer was lost takes its own object for another's, or nothing for something."""
    store = Store(s3_url)
    for number, effect in enumerate(
        [Effect.LOST_500, Effect.LOST_CUT, Effect.UNAVAILABLE, Effect.CUT, Effect.CONFLICT]
    ):
        key = f"some/{number}"
        proxy.reset()
        proxy.add(effect, path=key)
        assert store.create(key, b"mine").content == b"mine", effect
        assert store.create(key, b"other").content == b"mine", effect


def test_an_object_is_replaced_only_by_who_has_read_it(url: str) -> None:
    """Fails: a slow run puts an old pointer over a newer one."""
    store = Store(url)
    first = store.create("pointer", b"first")
    second = store.replace("pointer", b"second", first.stat)
    assert second is not None
    assert second.content == b"second"
    late = store.replace("pointer", b"late", first.stat)
    assert late is not None
    assert late.content == b"second"


def test_a_lost_answer_to_a_replacement_is_read_back(s3_url: str, proxy: FaultProxy) -> None:
    store = Store(s3_url)
    first = store.create("pointer", b"first")
    for effect in (Effect.LOST_500, Effect.LOST_CUT):
        proxy.add(effect, path="pointer")
        now = store.replace("pointer", b"second", first.stat)
        assert now is not None
        assert now.content == b"second"
        first = store.replace("pointer", b"first", now.stat) or first


@pytest.mark.slow
def test_a_run_through_a_bad_network_publishes_the_same(s3_url: str, proxy: FaultProxy, tmp_path: Path) -> None:
    """Fails: now and then a run on a busy network ends in an error, or in other rows."""
    exports = tmp_path / "exports"
    generate_sample(exports, rows=300, seed=5)
    clean = run_lake(exports, site_in(f"{s3_url}/clean", tmp_path / "one"))
    proxy.add(Effect.UNAVAILABLE, "*", count=None, share=0.08)
    proxy.add(Effect.CUT, "GET", count=None, share=0.12)
    proxy.add(Effect.LOST_500, "PUT", count=None, share=0.14)
    noisy = run_lake(exports, site_in(f"{s3_url}/noisy", tmp_path / "two"))
    assert noisy.publication.digest == clean.publication.digest
    assert sum(proxy.hits()) > 10
