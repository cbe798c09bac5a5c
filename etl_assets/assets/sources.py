"""The source assets, one for each system of the contract: export files in, a staged snapshot out."""

import dagster as dg

from etl_assets.engine.contract import Source

OWNERS = ["team:data-engineering"]


class SourceConfig(dg.Config):
    """Run configuration of a source asset."""

    force: bool = dg.Field  # type: ignore[assignment]


def accounting_check(source: Source) -> dg.AssetCheckSpec:
    """The check that no row of this source was lost."""
    return dg.AssetCheckSpec(
        "accounting_closed",
        asset=source.name,
        description="Rows in the files = rows accepted + rows quarantined, each counted for itself.",
    )
