"""What is settled before a run: refusals, and whether there is anything to do."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts, warehouse
from etl_assets.engine.published.attempts import Status
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import merge
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import ConfigError, InputError
from etl_assets.pipeline import preflight
from etl_assets.project.settings import Settings
from etl_assets_tests import factory
from etl_assets_tests.dagster_runs import settings_for
from etl_assets_tests.factory import row


@pytest.fixture(autouse=True)
def trusted_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else exports that were written a moment ago count as changed, and nothing else would ever decide."""
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)


@pytest.fixture
def settings(sources: Path, home: Home) -> Settings:
    factory.write_exports(sources, crm=[row(f"c{number}") for number in range(40)], billing=[row("c1"), row("z")])
    return settings_for(sources, home, 5)


class TestRefusals:
    def test_none_for_what_can_work_and_nothing_is_written_but_the_folder(self, settings: Settings) -> None:
        preflight.refuse_impossible(settings, shards=["shard_03"])
        assert list(settings.home.root.iterdir()) == []

    def test_an_unknown_shard_with_the_range_of_the_known(self, settings: Settings) -> None:
        with pytest.raises(ConfigError, match=r"No such shard: shard_9. .* shard_00 to shard_04"):
            preflight.refuse_impossible(settings, shards=["shard_9"])

    def test_missing_exports(self, settings: Settings, sources: Path) -> None:
        (sources / "support.csv").unlink()
        with pytest.raises(InputError, match="No export of source 'support'"):
            preflight.refuse_impossible(settings)

    def test_a_home_that_cannot_be_made(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="cannot be written to"):
            preflight.refuse_impossible(replace(settings, home=Home(tmp_path / "file" / "home")))

    def test_a_warehouse_of_another_shard_count_unless_forced(self, settings: Settings, sources: Path) -> None:
        factory.run_engine(sources, settings.home, 5)
        other = replace(settings, shard_count=3)
        with pytest.raises(ConfigError, match=r"published from 5 shards, but ETL_NUM_SHARDS is 3"):
            preflight.refuse_impossible(other)
        preflight.refuse_impossible(other, force=True)


@pytest.fixture
def instance_home(settings: Settings, tmp_path: Path) -> Path:
    """The folder of a Dagster instance that knows all of a published warehouse."""
    factory.run_engine(settings.sources, settings.home, 5)
    folder = tmp_path / "instance"
    folder.mkdir()
    preflight.remember(settings, folder)
    return folder


class TestNothingToDo:
    def test_is_reported_as_a_run_that_reused_everything(self, settings: Settings, instance_home: Path) -> None:
        report = preflight.nothing_to_do(settings, instance_home)
        assert report is not None
        assert report.ok
        assert report.is_unchanged
        assert report.publication == warehouse.read_publication(settings.home)
        assert {(source.source, source.rows_in, source.reused) for source in report.sources} == {
            ("crm", 40, True),
            ("billing", 2, True),
            ("product", 0, True),
            ("support", 0, True),
        }
        assert [(shard.shard_id, shard.status) for shard in report.shards] == [
            (shard_id, "reused") for shard_id in shard_keys(5)
        ]
        assert sum(shard.record_count or 0 for shard in report.shards) == 41

    def test_sweeps_what_a_killed_run_left(self, settings: Settings, instance_home: Path) -> None:
        """Fails: what a forced run left when it was killed stays for as long as the exports do."""
        no_process = 2**30
        left = settings.home.shards / f".tmp-shard_00.duckdb-{socket.gethostname()}-{no_process}-1-0"
        left.write_text("")
        assert preflight.nothing_to_do(settings, instance_home)
        assert not left.exists()

    def test_is_not_claimed_before_the_instance_was_told(self, settings: Settings, tmp_path: Path) -> None:
        """Fails: events that a killed run never sent are never sent, and the UI shows an older result for ever."""
        factory.run_engine(settings.sources, settings.home, 5)
        assert preflight.nothing_to_do(settings, tmp_path) is None

    def test_is_not_claimed_to_another_instance(self, settings: Settings, instance_home: Path, tmp_path: Path) -> None:
        assert preflight.nothing_to_do(settings, tmp_path) is None

    def test_is_remembered_for_each_home(self, settings: Settings, instance_home: Path, tmp_path: Path) -> None:
        other = replace(settings, home=Home(tmp_path / "other"))
        factory.run_engine(other.sources, other.home, 5)
        preflight.remember(other, instance_home)
        assert preflight.nothing_to_do(other, instance_home)
        assert preflight.nothing_to_do(settings, instance_home)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda s: factory.write_exports(s.sources, crm=[row("new")]), id="an export"),
            pytest.param(lambda s: s.home.shard_file("shard_02").unlink(), id="a shard is gone"),
            pytest.param(lambda s: s.home.warehouse.unlink(), id="the warehouse is gone"),
            pytest.param(
                lambda s: factory.alter(s.home.shard_file("shard_02"), "UPDATE profiles SET email = 'x'"),
                id="a shard is damaged",
            ),
            pytest.param(
                lambda s: factory.alter(s.home.warehouse, "UPDATE merged_profiles SET email = 'x'"),
                id="the warehouse is damaged",
            ),
            pytest.param(
                lambda s: factory.alter(s.home.warehouse, "DELETE FROM merged_profiles WHERE customer_id = 'z'"),
                id="the warehouse lost a row",
            ),
            pytest.param(lambda s: s.home.warehouse.write_bytes(b"no database"), id="the warehouse is none"),
            pytest.param(
                lambda s: attempts.finish(
                    s.home, attempts.start(s.home, "shard_01", "run", 1), Status.FAILED, error="no"
                ),
                id="an attempt failed since",
            ),
            pytest.param(
                lambda s: (
                    s.home.source_pointer("crm").write_text("{}"),
                    s.home.source_pointer("crm").unlink(),
                ),
                id="a source is not staged",
            ),
        ],
    )
    def test_is_not_claimed_when_something_changed(
        self, settings: Settings, instance_home: Path, change: Callable[[Settings], object]
    ) -> None:
        assert preflight.nothing_to_do(settings, instance_home)
        change(settings)
        # As if no stamp had told it: what is verified must not depend on them alone.
        preflight.remember(settings, instance_home)
        assert preflight.nothing_to_do(settings, instance_home) is None

    def test_is_not_claimed_after_a_change_of_the_code(
        self, settings: Settings, instance_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("etl_assets.engine.steps.build.code_version", lambda: "another")
        assert preflight.nothing_to_do(settings, instance_home) is None

    def test_is_not_claimed_of_a_partial_warehouse(self, settings: Settings, instance_home: Path) -> None:
        kept = settings.home.shard_file("shard_02").read_bytes()
        settings.home.shard_file("shard_02").unlink()
        merge.merge_shards(settings.home, 5, factory.LIMITS, run_id="partial", allow_partial=True)
        settings.home.shard_file("shard_02").write_bytes(kept)
        preflight.remember(settings, instance_home)
        assert preflight.nothing_to_do(settings, instance_home) is None
