"""The partitions: one static key a shard."""

import dagster as dg

from etl_assets.engine.routing import shard_keys


def shard_partitions(shard_count: int) -> dg.StaticPartitionsDefinition:
    """`shard_00` … in number order; a customer's shard never changes, so neither do the keys."""
    return dg.StaticPartitionsDefinition(shard_keys(shard_count))
