"""What is settled before a run: refusals, and whether there is anything to do."""

import dataclasses
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps import merge
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import Action, ConfigError, InputError
from etl_assets.pipeline import preflight
from etl_assets.pipeline.configuration import exports_of, site_of
from etl_assets.project.settings import Settings
from etl_assets_tests import factory
from etl_assets_tests.dagster_runs import settings_for
from etl_assets_tests.factory import PROJECT, row


@pytest.fixture(autouse=True)
def trusted_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else exports that were written a moment ago count as changed, and nothing else would ever decide."""
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)


@pytest.fixture
def settings(sources: Path, home: Home) -> Settings:
    factory.write_exports(sources, crm=[row(f"c{number}") for number in range(40)], billing=[row("c1"), row("z")])
    return settings_for(sources, home, 5)


@pytest.fixture
def site(settings: Settings) -> Site:
    return site_of(PROJECT, settings)


class TestRefusals:
    def test_none_for_what_can_work_and_nothing_is_written_but_the_folder(self, site: Site, settings: Settings) -> None:
        preflight.refuse_impossible(site, settings, shards=["shard_03"])
        assert list(site.home.root.iterdir()) == []

    def test_an_unknown_shard_with_the_range_of_the_known(self, site: Site, settings: Settings) -> None:
        with pytest.raises(ConfigError, match=r"No such shard: shard_9. .* shard_00 to shard_04") as raised:
            preflight.refuse_impossible(site, settings, shards=["shard_9", "shard_01"])
        assert raised.value.subject == "shard_9"

    def test_missing_exports(self, site: Site, settings: Settings) -> None:
        (exports_of(settings) / "support.csv").unlink()
        with pytest.raises(InputError, match="No export of source 'support'"):
            preflight.refuse_impossible(site, settings)

    def test_bad_headers_and_unread_files_of_all_sources_at_once(
        self, site: Site, settings: Settings, sources: Path
    ) -> None:
        """Fails: whoever mends one export meets the next one's mistake, source after source."""
        for name in ("crm", "billing"):
            (sources / f"{name}.csv").write_text("a,b\n1,2\n", encoding="utf-8")
        (sources / "product (1).csv").write_text("a\n", encoding="utf-8")
        with pytest.raises(InputError) as caught:
            preflight.refuse_impossible(site, settings)
        for name in ("crm.csv of source 'crm' lacks", "billing.csv of source 'billing' lacks", "product (1).csv"):
            assert name in caught.value.finding

    def test_a_new_file_beside_exports_that_are_current(self, published: Site, settings: Settings) -> None:
        """Fails: the newer export is dropped beside the old one, and the run says that everything is up to date."""
        (exports_of(settings) / "crm_2026-05-02.csv").write_text("a\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"crm_2026-05-02\.csv"):
            preflight.refuse_impossible(published, settings)

    def test_a_home_that_cannot_be_made(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        below_a_file = settings.model_copy(update={"home": tmp_path / "file" / "home"})
        with pytest.raises(ConfigError, match="cannot be written to"):
            preflight.refuse_impossible(site_of(PROJECT, below_a_file), below_a_file)

    def test_a_warehouse_of_another_shard_count_unless_forced(self, site: Site, settings: Settings) -> None:
        factory.run_engine(exports_of(settings), site)
        three = settings.model_copy(update={"num_shards": 3})
        with pytest.raises(ConfigError, match=r"published from 5 shards, but ETL_NUM_SHARDS is 3") as raised:
            preflight.refuse_impossible(site_of(PROJECT, three), three)
        assert [(advice.action, advice.setting, advice.value) for advice in raised.value.advice] == [
            (Action.SET, "ETL_NUM_SHARDS", "5"),
            (Action.SET, "ETL_HOME", None),
            (Action.RUN_FORCED, None, None),
        ]
        preflight.refuse_impossible(site_of(PROJECT, three), three, force=True)


@pytest.fixture
def published(site: Site, settings: Settings) -> Site:
    """A publication by the engine."""
    factory.run_engine(exports_of(settings), site)
    return site


def _fail_an_attempt(site: Site) -> None:
    attempts.finish(site.home, attempts.start(site.home, "shard_01", "run", 1), Status.FAILED, error="no")


def _flip_bytes(path: Path) -> None:
    """Change the middle of a file; its size stays."""
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 4, len(content) * 3 // 4):
        content[position] ^= 0xFF
    path.write_bytes(content)


class TestNothingToDo:
    def test_is_reported_as_a_run_that_reused_everything(self, published: Site, settings: Settings) -> None:
        report = preflight.nothing_to_do(published, settings)
        assert report is not None
        assert report.ok
        assert report.is_unchanged
        assert report.publication == read_publication(published.home)
        assert {(source.source, source.rows_in, source.reused) for source in report.sources} == {
            ("crm", 40, True),
            ("billing", 2, True),
            ("product", 0, True),
            ("support", 0, True),
        }
        assert [(shard.shard_id, shard.status) for shard in report.shards] == [
            (shard_id, Status.REUSED) for shard_id in published.shard_ids
        ]
        assert sum(shard.record_count or 0 for shard in report.shards) == 41

    def test_sweeps_what_a_killed_run_left(self, published: Site, settings: Settings) -> None:
        """Fails: what a forced run left when it was killed stays for as long as the exports do."""
        no_process = 2**29
        left = published.home.shards / f".tmp-shard_00.duckdb-{socket.gethostname()}-{no_process}-1-0123abcd"
        left.write_text("")
        assert preflight.nothing_to_do(published, settings)
        assert not left.exists()

    def test_sweeps_what_is_refused_or_not_declared_any_more(self, published: Site, settings: Settings) -> None:
        """Fails: what a reader held during the last run, or what was refused, stays although all exports are clean."""
        staged = published.home.staged
        (current,) = (path.name for path in (staged / "crm").iterdir() if path.is_dir())
        shutil.copytree(staged / "crm", staged / "before")
        refused = shutil.copytree(staged / "crm" / current, staged / "crm" / "0123456789abcdef")
        published.home.refused_pointer("crm").write_text('{"folder": "0123456789abcdef"}')
        shutil.copy(published.home.shard_file("shard_00"), published.home.shards / "shard_07.duckdb")
        published.home.refused_merge.write_text("{}")
        assert preflight.nothing_to_do(published, settings)
        assert not refused.exists()
        assert not published.home.refused_merge.exists()
        assert {path.name for path in (staged / "crm").iterdir()} == {current, "current.json"}
        assert list((staged / "before").iterdir()) == []
        assert list(published.home.shards.glob("shard_07*")) == []

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda s: s.home.shard_file("shard_02").unlink(), id="a shard is gone"),
            pytest.param(lambda s: s.home.manifest("shard_02").unlink(), id="a manifest is gone"),
            pytest.param(lambda s: s.home.warehouse.unlink(), id="the warehouse is gone"),
            pytest.param(
                lambda s: factory.alter(s.home.shard_file("shard_02"), "UPDATE profiles SET email = 'x'"),
                id="a shard has another size",
            ),
            pytest.param(lambda s: _flip_bytes(s.home.shard_file("shard_02")), id="a shard is damaged"),
            pytest.param(
                lambda s: factory.alter(s.home.warehouse, "UPDATE merged_profiles SET email = 'x'"),
                id="the warehouse is damaged",
            ),
            pytest.param(
                lambda s: factory.alter(s.home.warehouse, "DELETE FROM merged_profiles WHERE customer_id = 'z'"),
                id="the warehouse lost a row",
            ),
            pytest.param(lambda s: s.home.warehouse.write_bytes(b"no database"), id="the warehouse is none"),
            pytest.param(_fail_an_attempt, id="an attempt failed since"),
            pytest.param(lambda s: s.home.source_pointer("crm").unlink(), id="a source is not staged"),
        ],
    )
    def test_is_not_claimed_when_something_changed(
        self, published: Site, settings: Settings, change: Callable[[Site], object]
    ) -> None:
        assert preflight.nothing_to_do(published, settings)
        change(published)
        assert preflight.nothing_to_do(published, settings) is None

    def test_is_not_claimed_when_an_export_changed(self, published: Site, settings: Settings) -> None:
        factory.write_exports(exports_of(settings), crm=[row("new")])
        assert preflight.nothing_to_do(published, settings) is None

    def test_is_not_claimed_after_a_change_of_the_project(self, published: Site, settings: Settings) -> None:
        edited = dataclasses.replace(PROJECT, profiles_sql=PROJECT.profiles_sql + " WHERE true")
        assert preflight.nothing_to_do(site_of(edited, settings), settings) is None

    def test_is_claimed_after_a_change_of_prose(self, published: Site, settings: Settings) -> None:
        """Fails: a comment in the SQL costs a rebuild of every shard."""
        commented = dataclasses.replace(PROJECT, profiles_sql=f"-- A comment.\n{PROJECT.profiles_sql}")
        assert preflight.nothing_to_do(site_of(commented, settings), settings)

    def test_is_not_claimed_of_a_partial_warehouse(self, published: Site, settings: Settings) -> None:
        path = published.home.shard_file("shard_02")
        kept = path.read_bytes()
        path.unlink()
        merge.merge_shards(published, factory.LIMITS, run_id="partial", allow_partial=True)
        path.write_bytes(kept)
        assert preflight.nothing_to_do(published, settings) is None


def test_sql_that_cannot_be_run_is_refused_with_its_lines() -> None:
    """Fails: every shard is built and fails of the same slip, one after the other."""
    wrong = dataclasses.replace(
        PROJECT,
        profiles_sql=PROJECT.profiles_sql.replace("billing.mrr,", "billing.mmr,"),
        macros={**PROJECT.macros, "odd": "CREATE MACRO odd(x) AS nowhere(x)"},
    )
    with pytest.raises(ConfigError) as refused:
        preflight.refuse_bad_sql(factory.site_at(Home(Path("home")), project=wrong))
    line = next(n for n, text in enumerate(wrong.profiles_sql.splitlines(), start=1) if "mmr" in text)
    assert f"sql/profiles.sql, line {line}: billing has no column mmr; did you mean billing.mrr?" in str(refused.value)
    assert "sql/macros/odd.sql" in str(refused.value)
    assert refused.value.advice[0].value == refused.value.subject == "sql/macros/odd.sql"
    preflight.refuse_bad_sql(factory.site_at(Home(Path("home"))))
