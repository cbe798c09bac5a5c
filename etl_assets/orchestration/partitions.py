"""The partitions: one static key a shard, and how many of them a run of a backfill takes."""

from collections.abc import Sequence

import dagster as dg

from etl_assets.engine.routing import shard_keys


def shard_partitions(shard_count: int) -> dg.StaticPartitionsDefinition:
    """`shard_00` … in number order; the shard of a key never changes, so neither do these."""
    return dg.StaticPartitionsDefinition(shard_keys(shard_count))


# A run costs as much as some ten thousand rows, in time and in Dagster's databases. Up to this number of shards each
# has a run of its own in a backfill; of more, several neighbours share one.
MAX_RUNS = 32


def shards_a_run(shard_count: int) -> int:
    """How many neighbouring shards a run of a backfill takes, so that all of them take at most `MAX_RUNS`."""
    return -(-shard_count // MAX_RUNS)


def backfill_policy(shard_count: int) -> dg.BackfillPolicy | None:
    """The policy of the partitions; None where each has a run of its own."""
    count = shards_a_run(shard_count)
    return dg.BackfillPolicy.multi_run(count) if count > 1 else None


def range_tags(shard_ids: Sequence[str]) -> dict[str, str]:
    """The tags of a run of these neighbouring shards."""
    return {
        "dagster/asset_partition_range_start": shard_ids[0],
        "dagster/asset_partition_range_end": shard_ids[-1],
    }
