"""Customer records from several systems, merged into one enriched DuckDB profile each, shard by shard."""
