"""A restore in Dagster's history: an observation of `merged_profiles`, which the UI shows on the asset's page."""

from pathlib import Path

import dagster as dg

from etl_assets.engine.steps.restoring import Restored
from etl_assets.orchestration.instance.home import opened_alone
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets.orchestration.wiring import MERGED_PROFILES


def report_restore(dagster_home: Path, restored: Restored) -> None:
    """Report what is published now. Deliberately no materialization: nothing was merged, and no check has run."""
    publication = restored.publication
    metadata: dict[str, dg.MetadataValue] = {
        "restored_publication": dg.MetadataValue.timestamp(publication.published_at.timestamp()),
        "digest": dg.MetadataValue.text(publication.digest),
        "record_count": dg.MetadataValue.int(publication.record_count),
    }
    if restored.replaced is not None:
        metadata["replaced_publication"] = dg.MetadataValue.timestamp(restored.replaced.published_at.timestamp())
        metadata["replaced_digest"] = dg.MetadataValue.text(restored.replaced.digest)
    with opened_alone(dagster_home):
        opened = open_instance(dagster_home)
    with opened as instance:
        instance.report_runless_asset_event(
            dg.AssetObservation(
                dg.AssetKey(MERGED_PROFILES),
                description="Restored: the warehouse is that of an earlier publication. Nothing is merged over it "
                "before `restore --release`.",
                metadata=metadata,
            )
        )
