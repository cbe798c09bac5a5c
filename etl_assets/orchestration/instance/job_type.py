"""The type of the jobs that `dg.define_asset_job` returns. Dagster gives it no public name."""

from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

AssetJob = UnresolvedAssetJobDefinition
