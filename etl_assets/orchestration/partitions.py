"""The partitions: one static key a shard."""

import dagster as dg

from etl_assets.engine.routing import shard_keys


def shard_partitions(shard_count: int) -> dg.StaticPartitionsDefinition:
    """`shard_00` … in number order; the shard of a key never changes, so neither do these."""
    return dg.StaticPartitionsDefinition(shard_keys(shard_count))
