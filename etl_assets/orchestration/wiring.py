"""The parameters of every part of the code location: the site, the settings, and how its assets appear in Dagster."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import dagster as dg

from etl_assets.engine.site import Site
from etl_assets.pipeline.events import Observer, unobserved
from etl_assets.project.settings import Settings

SHARD_PROFILES, MERGED_PROFILES = "shard_profiles", "merged_profiles"
SOURCES_GROUP, PROFILES_GROUP = "sources", "profiles"


@dataclass(frozen=True)
class Wiring:
    """One pipeline in a code location; `key_prefix` tells several of them apart."""

    site: Site
    settings: Settings
    retry_policy: dg.RetryPolicy
    key_prefix: Sequence[str] = ()
    owners: Sequence[str] = ()
    observe: Observer = field(default=unobserved)

    def key(self, name: str) -> dg.AssetKey:
        """The key of one of the assets."""
        return dg.AssetKey([*self.key_prefix, name])

    def name(self, name: str) -> str:
        """The name of an op, a job, a sensor or a schedule, which has no prefix of its own.

        Dagster takes hyphens and dots in a key, and not in a name.
        """
        return re.sub(r"[^A-Za-z0-9_]", "_", "_".join([*self.key_prefix, name]))

    @property
    def source_keys(self) -> list[dg.AssetKey]:
        """The keys of the source assets, in contract order."""
        return [self.key(name) for name in self.site.contract.source_names]
