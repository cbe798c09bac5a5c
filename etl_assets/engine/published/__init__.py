"""What lies at rest: snapshots, shards, attempts, the warehouse, and the tables they hold."""
