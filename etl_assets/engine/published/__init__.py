"""Published files at rest: snapshots, shards, attempts, the warehouse, and their tables."""
