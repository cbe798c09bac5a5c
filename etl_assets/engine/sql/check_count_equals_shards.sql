-- The merged profiles are as many as the shards' manifests say together, less the duplicates the merge left out.
WITH counts AS (
    SELECT
        (SELECT count(*) FROM merged_profiles) AS record_count,
        (SELECT coalesce(sum(record_count), 0)::BIGINT FROM shard_manifest) AS shard_record_count,
        (SELECT max(duplicates_dropped) FROM publication) AS duplicates_dropped
)
SELECT *, record_count = shard_record_count - duplicates_dropped AS passed FROM counts
