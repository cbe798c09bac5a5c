-- The merged profiles are as many as the shards' manifests say together, less the duplicates the merge left out.
SELECT
    (SELECT count(*) FROM merged_profiles) AS record_count,
    (SELECT coalesce(sum(record_count), 0)::BIGINT FROM shard_manifest) AS shard_record_count,
    (SELECT duplicates_dropped FROM publication) AS duplicates_dropped,
    record_count = shard_record_count - duplicates_dropped AS passed
