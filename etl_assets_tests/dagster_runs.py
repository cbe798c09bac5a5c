"""Real Dagster runs of the real definitions, for the tests of what Dagster shows and does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.orchestration.code_location import build_defs
from etl_assets.pipeline.configuration import site_of
from etl_assets.pipeline.events import Observer, unobserved
from etl_assets.project.loading import Project
from etl_assets.project.settings import Settings
from etl_assets_tests.factory import PROJECT, PROJECT_FOLDER

# As the shipped policy, without the waiting.
IMMEDIATELY = dg.RetryPolicy(max_retries=3, delay=0)


def settings_for(sources: Path, home: Home, shard_count: int = 3, **changes: Any) -> Settings:
    """Settings that let any share of rejects pass, and any change in size."""
    loose = {"max_reject_ratio": 1.0, "max_superseded_ratio": 1.0, "min_rows_ratio": 0.0}
    values: dict[str, Any] = {**loose, "workers": 2, "memory_limit": 512} | changes
    return Settings(project=PROJECT_FOLDER, sources=sources, home=home.root, num_shards=shard_count, **values)


class CodeLocation:
    """The code location for some settings on an instance; `key_prefix` and `observe` are those of `build_defs`."""

    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        *,
        project: Project = PROJECT,
        key_prefix: Sequence[str] = (),
        observe: Observer = unobserved,
    ) -> None:
        self.settings = settings
        self.instance = instance
        self.key_prefix = key_prefix
        self.site: Site = site_of(project, settings)
        self.defs = build_defs(
            project, settings=settings, key_prefix=key_prefix, retry_policy=IMMEDIATELY, observe=observe
        )

    def key(self, name: str) -> dg.AssetKey:
        """The key of an asset."""
        return dg.AssetKey([*self.key_prefix, name])

    def run(
        self,
        *names: str,
        partition: str | None = None,
        config: dict[str, dict[str, Any]] | None = None,
        tags: dict[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize these assets in one run; `config` is by op."""
        return self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[self.key(name) for name in names],
            partition_key=partition,
            run_config={"ops": {op: {"config": values} for op, values in (config or {}).items()}},
            tags=tags or {},
            raise_on_error=False,
        )

    def stage(self) -> dg.ExecuteInProcessResult:
        """Materialize every source."""
        return self.run(*self.site.contract.source_names)

    def build_all(self) -> dg.ExecuteInProcessResult:
        """Materialize every shard in one run over their range."""
        return self.run("shard_profiles", tags=range_tags(self.site.shard_ids))

    def publish(self) -> dg.ExecuteInProcessResult:
        """The whole pipeline; every run must succeed."""
        for result in (self.stage(), self.build_all(), self.run("merged_profiles")):
            assert result.success, failure_text(result)
        return result

    def materialized(self, name: str) -> dg.AssetMaterialization:
        """The latest materialization of an asset."""
        event = self.instance.get_latest_materialization_event(self.key(name))
        assert event is not None
        assert event.asset_materialization is not None
        return event.asset_materialization


def range_tags(names: Sequence[str]) -> dict[str, str]:
    """The tags of a run over an unbroken range of shards."""
    return {"dagster/asset_partition_range_start": names[0], "dagster/asset_partition_range_end": names[-1]}


def materializations(result: dg.ExecuteInProcessResult, name: str) -> list[dg.AssetMaterialization]:
    """The materializations of an asset in a run, in order."""
    events = [event for event in result.all_events if event.is_step_materialization]
    found = [event.step_materialization_data.materialization for event in events]
    return [materialization for materialization in found if materialization.asset_key == dg.AssetKey(name)]


def facts(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, Any]:
    """Metadata as plain values."""
    return {name: value.value for name, value in metadata.items()}


def table(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> list[dict[str, Any]]:
    """The rows of a table in metadata, their columns in the order shown."""
    value = metadata[name]
    assert isinstance(value, dg.TableMetadataValue)
    columns = [column.name for column in value.schema.columns]
    assert all(record.data.keys() == set(columns) for record in value.records)
    return [{column: record.data[column] for column in columns} for record in value.records]


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    """What a failed run says: its first step failure's description, or the error."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return data.user_failure_data.description
            return data.error.to_string() if data.error else ""
    return ""
