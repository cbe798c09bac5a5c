"""What the product is: contract, routing, keys, storage, staging, shards and merge. Nothing here imports Dagster."""
